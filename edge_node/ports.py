"""What the pipeline asks of the outside world: protocols only, no behaviour.

Owns the shapes of the seams: where frames come from, where result lines go, where escalations
wait and how they leave. Adapters implement these; tests implement them with simulators. Each
docstring says which thread calls and what must never block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from edge_node.config import SourceSettings
from edge_node.logic.aim import Aim
from edge_node.logic.novelty import NoveltyModel
from edge_node.logic.reporting import Reporting
from edge_node.values import Candidate, Ending, Kept
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

    def publish_end(
        self, records: Sequence[JsonRecord | Mapping[str, Any]], published: Callable[[], None]
    ) -> None:
        """Takes the records of an ended escalation, together.

        Args:
            records: All of them.
            published: Called from another thread once they are on disk.
        """
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

    def note_published(self, ending: Ending) -> None:
        """What an ending says is published. Called from the results thread."""
        ...


class CandidateEncoder(Protocol):
    """Where candidates are compressed. Called from the frame lane; never blocks."""

    def offer(self, candidate: Candidate) -> bool:
        """Takes a candidate; False when there is no room for it."""
        ...


class Spool(Protocol):
    """Where escalations outlive the process. Called from any thread; never blocks.

    What is appended waits until it has ended. What is handed out, by `take` or `claim`, is not
    handed out again before it is given back.

    Attributes:
        run_id: This run of the edge node, which the tracks of its questions belong to.
    """

    run_id: str

    def append(self, kept: Kept) -> bool:
        """Takes an escalation to be kept; the listener hears whether it is. False: no room."""
        ...

    def end(self, ending: Ending) -> None:
        """Notes how one has ended, once that has been published."""
        ...

    def take(self) -> None:
        """Asks for the most valuable that are no longer fresh; the listener gets them."""
        ...

    def claim(self, escalation_id: str) -> None:
        """Asks for one whose verdict has come after all; the listener gets it, if it waits."""
        ...

    def give_back(self, escalation_id: str, *, attempted: bool = False) -> None:
        """Lets one that was handed out wait again; `attempted`: the stream broke over it."""
        ...


class SpoolListener(Protocol):
    """Who hears of the spool. Called from the spool's thread; never blocks."""

    def note_kept(self, escalation_ids: Sequence[str], *, written: bool) -> None:
        """What was appended is on disk, or cannot be kept."""
        ...

    def note_backlog(self, backlog: Sequence[Kept]) -> None:
        """What `take` asked for; it may be nothing."""
        ...

    def note_claimed(self, escalation_id: str, kept: Kept | None) -> None:
        """What `claim` asked for; None where it does not wait."""
        ...

    def note_gone(self, reason: str, ending: Ending) -> None:
        """The spool has let go of one: it has ended, and that is on disk."""
        ...

    def note_lost(self, reason: str, ending: Ending) -> None:
        """The file that held one was damaged: it has ended, unless it is in hand or ended before.

        One in hand goes on, and is no longer kept.
        """
        ...

    def note_ended(self, escalation_ids: Sequence[str]) -> None:
        """What `end` told is on disk: these are not handed out again."""
        ...


class EgressLedger(Protocol):
    """Where it is written down what leaves the site."""

    def enter(self, escalation: Escalation) -> None:
        """Enters a crop that is about to leave; on disk when it returns. From any thread.

        Raises:
            TransientError: It cannot be written now.
        """
        ...


class UplinkFeed(Protocol):
    """What an uplink takes from, and brings back to, the escalation lane. Event loop only."""

    async def next_escalation(self) -> Escalation:
        """Waits until there is something to send and room in flight."""
        ...

    def note_sent(self, escalation_id: str, size_bytes: int) -> None:
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

    def set_connected(self, connected: bool, *, broken: bool = False) -> None:
        """Says that a stream is open, or has ended: what was in flight waits again.

        Args:
            connected: Whether one is open.
            broken: It was cut, perhaps over what was sent, and was not refused or ended in order.
        """
        ...


class Uplink(Protocol):
    """The way to the escalator. Event loop only."""

    async def run(self, feed: UplinkFeed) -> None:
        """Connects, sends, receives and reconnects until cancelled."""
        ...
