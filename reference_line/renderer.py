"""Boards rendered ahead in a process of their own, so that playing a line never waits for one.

The renderer answers requests in order over a pipe, at a lower priority, and ends when the other end
of the pipe closes - also when its owner is killed.  One thread uses a ``BoardRenderer`` at a time.
"""

from __future__ import annotations

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection

import cv2

from foundation.errors import IntegrityError
from reference_line.board import Board, render_board

_STOP_WAIT_S = 2.0
_NICENESS = 10


def _serve(connection: Connection, seed: int, defective: bool) -> None:
    """Render every board number that arrives until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    cv2.setNumThreads(1)
    try:
        while True:
            number = connection.recv()
            connection.send((number, render_board(seed, number, defective=defective)))
    except (EOFError, OSError):
        return


class BoardRenderer:
    """Renders the boards of one line in another process.

    Args:
        seed: The line's seed.
        defective: False renders the good twins.
    """

    def __init__(self, seed: int, *, defective: bool) -> None:
        self._seed = seed
        self._defective = defective
        self._connection: Connection | None = None
        self._asked: set[int] = set()

    def open(self) -> None:
        """Start the process."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._seed, self._defective),
            name="line-boards",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._connection = ours

    def close(self) -> None:
        """End the process, within a bound; does nothing when it was never started."""
        if self._connection is None:
            return
        self._connection.close()
        self._connection = None
        self._process.join(_STOP_WAIT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_STOP_WAIT_S)

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
