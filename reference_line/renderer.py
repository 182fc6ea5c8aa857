"""Boards rendered ahead in a process of their own, so that playing a line never waits for one.

The renderer answers requests in order over a pipe, at a lower priority, and ends when the other end
of the pipe closes - also when its owner is killed.  One thread uses a ``BoardRenderer`` at a time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import cv2

from foundation.errors import IntegrityError
from reference_line.board import Board, render_board

_STOP_WAIT_S = 2.0
_NICENESS = 10


def serve(connection: Connection, seed: int) -> None:
    """Render every board number that arrives until the pipe closes; the process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    cv2.setNumThreads(1)
    try:
        while True:
            number = connection.recv()
            connection.send((number, render_board(seed, number)))
    except (EOFError, OSError):
        return


class BoardRenderer:
    """Renders the boards of one line in another process.

    Args:
        seed: The line's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._asked: set[int] = set()

    @property
    def process_id(self) -> int | None:
        """The process's id, None before ``open``."""
        return None if self._process is None else self._process.pid

    def open(self) -> None:
        """Start the process."""
        ours, theirs = Pipe()
        # Not multiprocessing's own start: it would import the program that plays the line again.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno()), str(self._seed)],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours

    def close(self) -> None:
        """End the process, within a bound; does nothing when it was never started."""
        if self._connection is None or self._process is None:
            return
        self._connection.close()
        self._connection = None
        try:
            self._process.wait(_STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def request(self, number: int) -> None:
        """Ask for a board once; asking again while it is under way does nothing.

        Raises:
            IntegrityError: The process has ended.
        """
        if number in self._asked or self._connection is None:
            return
        try:
            self._connection.send(number)
        except OSError as error:
            raise _ended() from error
        self._asked.add(number)

    def receive(self, timeout_s: float) -> tuple[int, Board] | None:
        """Take the next finished board, in the order of the requests.

        Returns:
            Its number and the board, or None when none is finished within ``timeout_s``.

        Raises:
            IntegrityError: The process has ended.
        """
        if self._connection is None:
            return None
        try:
            if not self._connection.poll(timeout_s):
                return None
            number, board = self._connection.recv()
        except (EOFError, OSError) as error:
            raise _ended() from error
        self._asked.discard(number)
        return number, board


def _ended() -> IntegrityError:
    return IntegrityError(
        "The process that renders the line's boards has ended",
        remedy="Look for its message above, and whether the machine ran out of memory",
    )


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
