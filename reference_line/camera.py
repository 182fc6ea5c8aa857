"""The reference line as a frame source of the edge node (entry point ``hardcase.sources``: line).

Frame ``n`` of the source is frame ``n`` of the line, whatever was dropped since, so that truth can
be counted along.  In real time a frame is rendered before its instant and handed over at it: what
drawing costs does not eat into the deadline, as it would not with a camera.  When a frame is later
than that by more than a period the schedule moves on with it; none is skipped.

Threads: everything here runs on the edge node's capture thread; boards come from a process.
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edge_node.ports import Capture
from foundation.clock import NS_PER_S, Clock
from foundation.settings import Settings, parse_settings
from reference_line.line import Line, LineSettings
from reference_line.optics import FRAME_RATE_HZ
from reference_line.renderer import BoardRenderer

if TYPE_CHECKING:
    from edge_node.config import SourceSettings

_BOARDS_AHEAD: Final = 2
_BOARD_WAIT_S: Final = 0.1

Pixels = NDArray[np.uint8]


class LineParameters(Settings):
    """`source.parameters` of a line."""

    seed: int = Field(default=0, ge=0)
    """The line's seed; the same seed shows the same boards."""
    speed_px: float = Field(default=6.0, ge=1.0, le=64.0)
    """Belt speed in source pixels a frame."""
    frames_max: int = Field(default=0, ge=0)
    """The source ends after this many frames; 0 runs until stopped."""


class LineSource:
    """A camera above the line (``edge_node.ports.FrameSource``).

    Args:
        parameters: Which line.
        clock: The process's clock.
        live: True plays at ``frame_rate_hz``, False as fast as frames are taken.
        frame_rate_hz: Frames per second.
    """

    def __init__(
        self, parameters: LineParameters, clock: Clock, *, live: bool, frame_rate_hz: float
    ) -> None:
        self.name = f"line (seed {parameters.seed})"
        self.live = live
        self.frame_rate_hz = frame_rate_hz
        self._clock = clock
        self._frames_max = parameters.frames_max
        self._line = Line(parameters.seed, settings=LineSettings(speed_px=parameters.speed_px))
        self._renderer = BoardRenderer(parameters.seed)
        self._index = 0
        self._due_ns: int | None = None

    @property
    def renderer_process_id(self) -> int | None:
        """The id of the process that renders the boards, None before it is started."""
        return self._renderer.process_id

    def __enter__(self) -> Self:
        """Start the renderer and wait for the first boards, so that the first frames are prompt.

        Raises:
            IntegrityError: The renderer cannot run.
        """
        self._renderer.open()
        with contextlib.ExitStack() as undo:
            undo.callback(self._renderer.close)
            self._prepare_boards(0, threading.Event(), ahead=_BOARDS_AHEAD)
            self._line.frame(0)
            undo.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the renderer."""
        self._renderer.close()

    def read(self, stop: threading.Event) -> Capture | None:
        """Wait for the next frame of the line; see ``FrameSource.read``.

        Raises:
            IntegrityError: The renderer has ended.
        """
        if self._frames_max and self._index >= self._frames_max:
            return None
        if not self._prepare_boards(self._index, stop, ahead=0):
            return None
        pixels = self._line.frame(self._index)
        if self.live and not self._wait_until_due(stop):
            return None
        self._index += 1
        return Capture(pixels, self._clock.now_ns())

    def _wait_until_due(self, stop: threading.Event) -> bool:
        """Wait for the frame's instant; False when stopped meanwhile."""
        period_ns = round(NS_PER_S / self.frame_rate_hz)
        now_ns = self._clock.now_ns()
        if self._due_ns is None or now_ns - self._due_ns > period_ns:
            self._due_ns = now_ns
        if stop.wait(max(0, self._due_ns - now_ns) / NS_PER_S):
            return False
        self._due_ns += period_ns
        return True

    def _prepare_boards(self, index: int, stop: threading.Event, *, ahead: int) -> bool:
        """Ask for the boards to come and wait for those that are needed now; False when stopped.

        Args:
            index: The frame to be rendered next.
            stop: Set to give up.
            ahead: How many boards beyond the frame's own are needed now, too.
        """
        needed = self._line.boards_in(index)
        wanted = range(needed.start, needed.stop + _BOARDS_AHEAD)
        for number in wanted:
            if not self._line.has_board(number):
                self._renderer.request(number)
        now = range(needed.start, needed.stop + ahead)
        while not stop.is_set():
            missing = not all(self._line.has_board(number) for number in now)
            received = self._renderer.receive(_BOARD_WAIT_S if missing else 0.0)
            if received is not None:
                self._line.install(*received)
            elif not missing:
                return True
        return False


def open_line(settings: SourceSettings, clock: Clock) -> LineSource:
    """Make the source that ``kind: line`` names (``edge_node.ports.SourceFactory``).

    Raises:
        ConfigError: ``settings.parameters`` holds an unknown key or an ill-typed value.
    """
    parameters = parse_settings(
        settings.parameters, LineParameters, origin="source.parameters of the line"
    )
    return LineSource(
        parameters,
        clock,
        live=settings.pace == "realtime",
        frame_rate_hz=settings.frame_rate_hz or FRAME_RATE_HZ,
    )
