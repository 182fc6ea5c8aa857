"""What the pipeline asks of the outside world: protocols only, no behaviour.

Owns the shapes of the seams: where frames come from, where result lines go, where escalations
wait and how they leave. Adapters implement these; tests implement them with simulators. Each
docstring says which thread calls and what must never block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edge_node.config import SourceSettings
    from foundation.clock import Clock


class Capture(NamedTuple):
    """One picture from a source.

    Attributes:
        pixels: uint8 BGR (height, width, 3), C-contiguous. The source does not write to it after
            handing it over.
        captured_at_ns: Unix epoch instant at which the picture came to be.
    """

    pixels: NDArray[np.uint8]
    captured_at_ns: int


class FrameSource(Protocol):
    """A camera, or something that behaves like one.

    Constructors only assign; entering opens and raises ConfigError when the source is absent or
    not a source of pictures. All methods are called from one capture thread. The sequence number
    of a frame is the number of `read` calls before it that returned a capture or raised
    TransientError, so a source that knows the truth can count along.

    Attributes:
        name: What a person would call it, for messages.
        live: True when pictures arrive in their own time: the hand-over then keeps the newest
            only. False: each picture waits until the one before is taken.
        frame_rate_hz: Nominal pictures per second; 0 when unknown.
    """

    name: str
    live: bool
    frame_rate_hz: float

    def __enter__(self) -> Self:
        """Open the source.

        Raises:
            ConfigError: It is absent, or holds no pictures; exit code 78.
        """
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release everything; never raises for a source that already failed."""
        ...

    def read(self, stop: threading.Event) -> Capture | None:
        """Wait for the next picture; a paced source waits with `stop.wait`, not with sleep.

        Returns:
            The picture, or None at the end of the source or when `stop` is set.

        Raises:
            TransientError: This one picture is lost (counted as failed); the next may come.
            IntegrityError: The source is broken from here on and has ended.
        """
        ...


SourceFactory = Callable[["SourceSettings", "Clock"], FrameSource]
"""What an entry point of group "hardcase.sources" names: called once, with the settings of the
source (its own extra ones in `settings.parameters`) and the process's clock."""


class ResultSink(Protocol):
    """Where result lines go. `publish` is called from the frame lane and must never block."""

    def publish(self, record: Mapping[str, Any]) -> bool:
        """Take one result record; False when it was dropped (and counted) for lack of room."""
        ...
