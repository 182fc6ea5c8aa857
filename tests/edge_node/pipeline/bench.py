"""What one camera asks, frame by frame, without a model, threads or a cloud."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from edge_node.config import EdgeSettings, PolicySettings
from edge_node.logic.aim import Aim
from edge_node.logic.egress import EgressPolicy
from edge_node.logic.novelty import NoveltyModel
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.records import Record
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import labels_of, observed_boxes
from edge_node.logic.track import Tracker
from edge_node.logic.view import View
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.asking import Asking
from edge_node.ports import ScoreLimits
from edge_node.values import Accepted, Candidate, Cause, Encoded, Ending, EscalationOutcome
from foundation.escalations import Encoding, LabelledBoxes
from foundation.frames import Detections, Pixels
from foundation.gains import GainModel
from tests.edge_node.logic.scene import answered
from tests.support.clock import ManualClock
from tests.support.lane import CandidateList, asking_rules

LABELS = ("blue", "green", "red")
WIDTH, HEIGHT = 640, 480
FRAME_S = 0.04
NOISE = np.random.default_rng(0).integers(60, 160, (HEIGHT, WIDTH, 3)).astype(np.uint8)
LIMITS = ScoreLimits(
    start=np.full(3, 0.2, np.float32),
    report=np.full(3, 0.5, np.float32),
    low=np.full(3, 0.2, np.float32),
    high=np.full(3, 0.8, np.float32),
)


def seen(*objects: tuple[float, float, float], class_id: int = 0) -> Detections:
    """Things of twenty pixels, blue unless of another class: left, top, score."""
    rows = np.array(objects, np.float32).reshape(-1, 3)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + 20], axis=1)
    return Detections(boxes, rows[:, 2].copy(), np.full(len(rows), class_id, np.int32))


class AskingBench:
    """Tracks, asking and fusion of one camera under a driven clock.

    Attributes:
        offered: What has been asked.
        records: Of ended tracks, in order.
    """

    def __init__(
        self,
        policy: dict[str, Any] | None = None,
        *,
        gains: GainModel | None = None,
        ordinary: NoveltyModel | None = None,
        egress: dict[str, Any] | None = None,
        aim: Callable[[PolicySettings], Aim] | None = None,
    ) -> None:
        settings = EdgeSettings.model_validate(
            {
                "camera": "cam",
                "tracks": {"min_detections": 2, "max_missed_frames": 8},
                "policy": {"audit": {"audits_per_h": 0}, **(policy or {})},
                "egress": egress or {},
            }
        )
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        metrics = EdgeMetrics(self.registry, "cam")
        self.tracker = Tracker(settings.tracks, LIMITS.start)
        self._reconciler = Reconciler(
            self.tracker, settings.fusion, "cam", LABELS, Reporting(LIMITS.report)
        )
        rules = asking_rules(settings.policy, LIMITS, gains=gains, ordinary=ordinary)
        if aim is not None:
            rules = replace(rules, aim=aim(settings.policy))
        self._egress = EgressPolicy(settings.egress, LABELS)
        self._sink = CandidateList()
        self.asking = Asking(settings, rules, self._reconciler, self._sink, metrics, self.clock)
        self.offered: list[Candidate] = self._sink.candidates
        self.records: list[Record] = []
        self.sequence = 0

    def frame(self, found: Detections, pixels: Pixels = NOISE) -> None:
        """One frame that the model looked at."""
        self.clock.advance_s(FRAME_S)
        self.tracker.advance(self.sequence)
        self.tracker.observe(found)
        self._close(self.tracker.retire(WIDTH, HEIGHT))
        now_ns = self.clock.now_ns()
        rows = self.tracker.rows
        boxes = np.concatenate([found.boxes, observed_boxes(rows)])
        classes = [*found.class_ids.tolist(), *labels_of(rows).tolist()]
        redaction = self._egress.redaction((WIDTH, HEIGHT), boxes, classes)
        view = View(self.sequence, now_ns, now_ns, pixels, redaction)
        self.asking.decide(rows, view, found.scores, scene_moves=self.tracker.scene_moves)
        self.sequence += 1

    def frames(self, count: int, found: Detections, pixels: Pixels = NOISE) -> None:
        """The same frame again and again."""
        for _ in range(count):
            self.frame(found, pixels)

    def end_all(self) -> None:
        """The stream ends."""
        self._close(self.tracker.end_all())

    def encode(self, candidate: Candidate, size_bytes: int = 900) -> None:
        """The encoder says what a crop came to."""
        self.asking.hear_size(Encoded(candidate.question.id, size_bytes))

    def forgo(self, candidate: Candidate, size_bytes: int) -> None:
        """The encoder says that a crop came to more than it is worth."""
        self.asking.hear_size(Encoded(candidate.question.id, size_bytes, forgone=True))
        self.end(candidate, EscalationOutcome.FORGONE)

    def end(
        self,
        candidate: Candidate,
        outcome: EscalationOutcome = EscalationOutcome.ANSWERED,
        cloud: LabelledBoxes | None = None,
        *,
        cause: Cause = Cause.NONE,
        late: bool = False,
    ) -> None:
        """An escalation ends; an answer says what the cloud sees. Late: it had been deferred."""
        question, now_ns = candidate.question, self.clock.now_ns()
        ending = Ending(question.id, outcome, cause, now_ns)
        if outcome is EscalationOutcome.ANSWERED:
            ending = answered(question, cloud or LabelledBoxes.empty(), at_ns=now_ns)
        if late:
            ending = replace(ending, late=question)
        fusion = self._reconciler.end(ending)
        self.asking.hear_end(ending, fusion)
        self.records += fusion.revised

    def defer(self, candidate: Candidate) -> None:
        """An escalation is no longer fresh and waits in the spool."""
        self.asking.hear_deferred()
        self.records += self._reconciler.defer(candidate.question.id)

    def accept(self, *encodings: Encoding) -> None:
        """An escalator that decodes these has been reached."""
        self.asking.hear_accepted(Accepted(frozenset(encodings)))

    def count(self, name: str, **labels: str) -> float:
        """A metric's value, which must exist."""
        value = self.registry.get_sample_value(name, {"camera": "cam", **labels})
        assert value is not None, name
        return value

    def total(self, name: str, chosen: Callable[[dict[str, str]], bool] = bool) -> float:
        """The sum of a metric over all its labels, or those that are chosen."""
        return sum(
            sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name and chosen(sample.labels)
        )

    def _close(self, gone: Any) -> None:
        if len(gone):
            self.asking.close(gone)
        self.records += self._reconciler.close_tracks(gone)
