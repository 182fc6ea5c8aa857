"""What the pipeline asks of the outside world: protocols only, no behaviour.

Owns the shapes of the seams: where frames come from, where result lines go, where escalations
wait and how they leave. Adapters implement these; tests implement them with simulators. Each
docstring says which thread calls and what must never block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from edge_node.config import SourceSettings
from edge_node.logic.aim import Aim
from edge_node.logic.novelty import NoveltyModel
from edge_node.logic.reporting import Reporting
from edge_node.values import Candidate
from foundation.clock import Clock
from foundation.escalations import Capabilities, Escalation, Verdict
from foundation.frames import Detections, Pixels, Scores
from foundation.gains import GainModel


class Capture(NamedTuple):
    """One picture from a source.

    Attributes:
        pixels: uint8 BGR (height, width, 3), C-contiguous. The source does not write to it after
            handing it over.
        captured_at_ns: Unix epoch instant at which the picture came to be; of a source that is not
            live the lane takes its own instant of taking the picture instead.
    """

    pixels: Pixels
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


SourceFactory = Callable[[SourceSettings, Clock], FrameSource]
"""What an entry point of group "hardcase.sources" names: called once, with the settings of the
source (its own extra ones in `settings.parameters`) and the process's clock."""


class JsonRecord(Protocol):
    """A record that becomes JSON later, in the thread that writes it."""

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        ...


class ResultSink(Protocol):
    """Where result records go. Called from the lane and the capture thread; never blocks."""

    def publish(self, record: JsonRecord | Mapping[str, Any]) -> None:
        """Takes one record, or drops and counts it for lack of room."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreLimits:
    """Calibrated scores per class, each (classes,) float32.

    Attributes:
        start: From here on a detection may start a track.
        report: From here on the edge stands by it.
        low: From here on the edge asks.
        high: From here on the edge is sure.
    """

    start: Scores
    report: Scores
    low: Scores
    high: Scores


@dataclass(frozen=True, slots=True)
class AskingRules:
    """By what the frame lane decides what to ask.

    Attributes:
        limits: Of the edge bundle, with what the settings override.
        gains: What an answer gains, and what crops cost.
        class_costs: How much each class matters (classes,) float32.
        aim: What may be spent, and on what.
        ordinary: What ordinary frames are like, if that is known.
    """

    limits: ScoreLimits
    gains: GainModel
    class_costs: Scores
    aim: Aim
    ordinary: NoveltyModel | None

    @property
    def reporting(self) -> Reporting:
        """What the system stands by."""
        return Reporting(self.limits.report, self.gains.pool)


class EdgeModel(Protocol):
    """The edge bundle, ready to run. Called from the frame lane only."""

    labels: tuple[str, ...]
    limits: ScoreLimits

    def detect(self, pixels: Pixels) -> Detections:
        """Detections with calibrated scores, boxes in source pixels.

        Raises:
            RejectedError: The model failed on this frame; the next may succeed.
        """
        ...


class EscalationSink(Protocol):
    """Where the frame lane leaves what it wants to ask; never blocks."""

    def offer(self, candidate: Candidate) -> None:
        """Takes a candidate; it ends in exactly one `Ending`, even when there is no room."""
        ...


class CandidateEncoder(Protocol):
    """Where candidates are compressed. Called from the frame lane; never blocks."""

    def offer(self, candidate: Candidate) -> bool:
        """Takes a candidate; False when there is no room for it."""
        ...


class Spool(Protocol):
    """Where escalations wait. Event loop only. An escalation is held until `discard`.

    The present implementation lives in memory; one that survives a restart goes behind this same
    port, which is why sending (`take`) does not remove.
    """

    def put(self, escalation: Escalation, value: float) -> list[str]:
        """Holds an escalation; returns the ids of those evicted for lack of room, maybe its own."""
        ...

    def take(self) -> Escalation | None:
        """The next one to send, marked as in flight; None when none waits."""
        ...

    def give_back(self, escalation_id: str) -> None:
        """Lets one in flight wait again: the stream broke, or the cloud shed it."""
        ...

    def discard(self, escalation_id: str) -> None:
        """Forgets one that has ended; unknown ids are ignored."""
        ...

    def __len__(self) -> int:
        """Escalations held."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of crops held."""
        ...


class UplinkFeed(Protocol):
    """What an uplink takes from, and brings back to, the escalation lane. Event loop only."""

    async def next_escalation(self) -> Escalation:
        """Waits until there is something to send and room in flight."""
        ...

    def note_sent(self, size_bytes: int) -> None:
        """Counts the bytes of an escalation that was handed to the stream."""
        ...

    def receive(self, verdict: Verdict) -> None:
        """Takes a verdict, expected or not."""
        ...

    def refuse(self, escalation_id: str) -> None:
        """Ends an escalation that this escalator can never take (larger than its limit)."""
        ...

    def set_capabilities(self, capabilities: Capabilities) -> None:
        """Says what the escalator that has been reached takes and serves."""
        ...

    def set_connected(self, connected: bool) -> None:
        """Says that a stream is open, or has broken: what was in flight waits again."""
        ...


class Uplink(Protocol):
    """The way to the escalator. Event loop only."""

    async def run(self, feed: UplinkFeed) -> None:
        """Connects, sends, receives and reconnects until cancelled."""
        ...
