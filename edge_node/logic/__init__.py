"""Pure decisions: values in, values out; no I/O, clock, thread, log or metric."""
