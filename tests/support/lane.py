"""Simulators for the edge node's ports: a camera, a model, and places where records go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from edge_node.adapters.rules import make_aim
from edge_node.config import PolicySettings
from edge_node.logic.novelty import NoveltyModel
from edge_node.logic.spending import Ledger, Limits
from edge_node.ports import AskingRules, Capture, JsonRecord, ScoreLimits
from edge_node.values import Candidate, Ending
from foundation.clock import Clock
from foundation.errors import HardcaseError, RejectedError, RejectReason
from foundation.frames import Detections, Pixels
from foundation.gains import GainModel, LevelCosts, variance_gains
from tests.support.clock import ManualClock

T = TypeVar("T")

BLANK = np.zeros((48, 64, 3), np.uint8)
BLANK.flags.writeable = False


def always(value: T) -> Callable[[int], T]:
    """A script that says the same to every call."""

    def say(call: int) -> T:
        del call
        return value

    return say


def asking_rules(
    policy: PolicySettings,
    limits: ScoreLimits,
    *,
    gains: GainModel | None = None,
    ordinary: NoveltyModel | None = None,
) -> AskingRules:
    """The rules of one camera by itself, p(1 - p) at webp80 unless other gains are given."""
    model = gains or variance_gains([LevelCosts(level="webp80")])
    ledger = Ledger(
        Limits(
            policy.uplink_bytes_per_s,
            policy.uplink_bytes_burst,
            policy.requests_per_s,
            policy.requests_burst,
        )
    )
    aim = make_aim(policy, ledger, model, "scripted")
    costs = np.ones(len(limits.low), np.float32)
    return AskingRules(limits, model, costs, aim, ordinary)


class ScriptedSource:
    """Gives these pictures, or raises these errors, one after another."""

    name = "scripted camera"
    frame_rate_hz = 30.0

    def __init__(
        self, script: Sequence[Pixels | HardcaseError], clock: Clock, *, live: bool = False
    ) -> None:
        self.live = live
        self._script = script
        self._clock = clock
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Holds nothing."""

    def read(self, stop: threading.Event) -> Capture | None:
        """The next line of the script."""
        if self._position >= len(self._script) or stop.is_set():
            return None
        item = self._script[self._position]
        self._position += 1
        if isinstance(item, HardcaseError):
            raise item
        return Capture(item, self._clock.now_ns())


class ScriptedModel:
    """Sees what the script says, fails where it says None, and takes the time it says.

    Attributes:
        calls: How often it was run.
    """

    labels: tuple[str, ...] = ("blue", "green", "red")

    def __init__(
        self,
        see: Callable[[int], Detections | None],
        *,
        clock: ManualClock | None = None,
        cost_s: Callable[[int], float] | None = None,
    ) -> None:
        self.calls = 0
        self._see = see
        self._clock = clock
        self._cost_s = cost_s or always(0.0)
        half = np.full(3, 0.5, np.float32)
        self.limits = ScoreLimits(half * np.float32(0.4), half, half * np.float32(0.4), half * 2)

    def detect(self, pixels: Pixels) -> Detections:
        """What the script says for this call."""
        del pixels
        call = self.calls
        self.calls += 1
        if self._clock is not None:
            self._clock.advance_s(self._cost_s(call))
        found = self._see(call)
        if found is None:
            raise RejectedError("scripted failure", reason=RejectReason.INFERENCE_FAILED)
        return found


class RecordList:
    """Keeps every record as JSON would have it. Thread-safe."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def publish(self, record: JsonRecord | Mapping[str, Any]) -> None:
        """Appends it."""
        self.records.append(dict(record) if isinstance(record, Mapping) else record.to_json())

    def publish_end(
        self, records: Sequence[JsonRecord | Mapping[str, Any]], published: Callable[[], None]
    ) -> None:
        """Appends them; they are published at once."""
        for record in records:
            self.publish(record)
        published()

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The records of one type, in order."""
        return [record for record in self.records if record["type"] == kind]


class CandidateList:
    """Keeps what the frame lane wants to ask."""

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.published: list[Ending] = []

    def offer(self, candidate: Candidate) -> None:
        """Appends it."""
        self.candidates.append(candidate)

    def note_published(self, ending: Ending) -> None:
        """Keeps what has been published."""
        self.published.append(ending)


def one_square(x: float, y: float = 20.0, *, score: float = 0.4, class_id: int = 0) -> Detections:
    """One detection of eight pixels with its top left corner here."""
    return Detections(
        np.array([[x, y, x + 8, y + 8]], np.float32),
        np.array([score], np.float32),
        np.array([class_id], np.int32),
    )
