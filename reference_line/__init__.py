"""The reference line: a synthetic PCB inspection line that knows its own truth."""
