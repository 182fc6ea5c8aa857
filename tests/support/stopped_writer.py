"""Writes a bundle again and again, each time stopped by a signal one step later.

    python -m tests.support.stopped_writer FOLDER NAME SIGNAL

A step is a call that changes what is on the disk: a write, an fsync, a rename. Each attempt runs in
a process of its own, in FOLDER/<step>, until one gets through; prints its number.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

from foundation.bundle import Bundle
from tests.support.bundles import make_bundle

_STEPS = {"fsync", "mkdir", "open", "replace", "rmdir", "unlink", "write"}
"""Names of the calls that change what is on the disk."""


def main(folder: Path, name: str, signal_name: str) -> None:
    """Runs all attempts."""
    cv2.setNumThreads(0)  # a forked process has one thread
    bundle = make_bundle()
    for step in itertools.count():
        attempt = folder / f"{step:03d}"
        attempt.mkdir()
        process = os.fork()
        if process == 0:
            _write_until(bundle, attempt / name, step, signal.Signals[signal_name])
        _, status = os.waitpid(process, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            sys.stdout.write(str(step))
            return


def _write_until(bundle: Bundle, path: Path, step: int, number: signal.Signals) -> None:
    """Writes, gets the signal before the given step, and ends the process."""
    calls = 0

    def count(_frame: FrameType, event: str, function: Any) -> None:
        nonlocal calls
        if event == "c_call" and function.__name__ in _STEPS:
            calls += 1
            if calls == step + 1:
                os.kill(os.getpid(), number)

    sys.setprofile(count)
    try:
        bundle.write(path)
    except KeyboardInterrupt:
        os._exit(130)
    finally:
        sys.setprofile(None)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
