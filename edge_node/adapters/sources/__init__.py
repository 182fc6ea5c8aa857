"""Sources of frames; each module wraps one kind, `registry` opens them by name."""
