"""Pure decisions of the escalator: no I/O, clock, thread, log or metric."""
