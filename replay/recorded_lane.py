"""The edge node's own frame lane over recorded frames, with the cloud model in the same process.

Everything that decides is the product's: tracks, policy, budget, fusion, records. Time is driven by
the frames, so a run takes as long as it computes and gives the same results each time. The edge
model runs once for all policies; the cloud runs once for every crop that any policy asks about, on
what is decoded from the bytes that would be sent. What is left out is what a link does: a verdict
comes after `latency_s`, always.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from cloud_escalator.config import LimitSettings
from cloud_escalator.logic.crops import Reporter
from edge_node.config import EdgeSettings, FusionSettings
from edge_node.logic.fate import Fate, fate_of_encoded
from edge_node.logic.fuse import judge
from edge_node.metrics import EdgeMetrics
from edge_node.pipeline.frame_lane import FrameLane
from edge_node.pipeline.inbox import Arrival, LaneInbox, Work
from edge_node.ports import AskingRules, JsonRecord, ScoreLimits
from edge_node.values import Candidate, Cause, Encoded, Ending, EscalationOutcome, News
from foundation.bundle import Bundle
from foundation.clock import NS_PER_S, after_s
from foundation.detector import Detector
from foundation.escalations import DIGEST_DIGITS, Answer, Escalation, LabelledBoxes, Verdict
from foundation.frames import Detections, Pixels
from foundation.images import decode_image
from foundation.levels import encode_at
from foundation.wire import escalation_to_proto

START_NS = 1_700_000_000 * NS_PER_S
GRPC_BYTES = 14
"""Before each message of a stream: 5 of gRPC, 9 of an HTTP/2 frame."""
Frame = tuple[int, Pixels]
"""A sequence number and uint8 BGR pixels."""


class FrameClock:
    """Stands at the capture of the present frame."""

    def __init__(self, frame_rate_hz: float) -> None:
        self._frame_rate_hz = frame_rate_hz
        self._now_ns = START_NS

    def now_ns(self) -> int:
        """The present instant."""
        return self._now_ns

    def capture_of(self, sequence: int) -> int:
        """When a frame was captured."""
        return after_s(START_NS, sequence / self._frame_rate_hz)

    def move_to(self, now_ns: int) -> None:
        """Moves the present on; never back."""
        self._now_ns = max(self._now_ns, now_ns)


@dataclass(slots=True)
class RecordedModel:
    """What an edge bundle detects in each frame: the model runs the first time it is asked.

    Attributes:
        labels: Class names by class id.
        limits: Of the bundle.
        detect_now: Runs the model.
        sequence: The frame that is asked about next.
    """

    labels: tuple[str, ...]
    limits: ScoreLimits
    detect_now: Callable[[Pixels], Detections]
    sequence: int = 0
    found: dict[int, Detections] = field(default_factory=dict)

    def detect(self, pixels: Pixels) -> Detections:
        """Detections in the present frame."""
        if self.sequence not in self.found:
            self.found[self.sequence] = self.detect_now(pixels)
        return self.found[self.sequence]


class Answering(Protocol):
    """What stands for the cloud."""

    @property
    def digest(self) -> str:
        """Of the bundle that answers."""
        ...

    def answer(self, candidate: Candidate) -> tuple[bytes, LabelledBoxes]:
        """The encoded crop, and what is reported of what is decoded from it."""
        ...


class RecordedCloud:
    """Answers crops with a cloud bundle; each crop at each level once, for all policies.

    Attributes:
        digest: Of the bundle.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.digest = bundle.digest
        self._detector = Detector.open(bundle, intra_op_threads=threads)
        self._reporter = Reporter(bundle.labels, bundle.calibration, bundle.thresholds)
        self._limits = LimitSettings()
        self._known: dict[tuple[Any, ...], tuple[bytes, LabelledBoxes]] = {}

    def answer(self, candidate: Candidate) -> tuple[bytes, LabelledBoxes]:
        """The encoded crop, and what the cloud reports of what is decoded from it."""
        question, level = candidate.question, candidate.level
        region = question.region
        key = (question.sequence, region, str(level))
        if key not in self._known:
            image = encode_at(candidate.pixels, level)
            crop = decode_image(
                image,
                level.encoding,
                side_min_px=self._limits.image_side_min_px,
                pixels_max=self._limits.image_pixels_max,
            )
            detections = self._detector.detect(crop)
            report = self._reporter.report(detections, region, crop, candidate.proposals.boxes)
            self._known[key] = (image, report)
        return self._known[key]


@dataclass(slots=True)
class LaneRun:
    """What a policy came to on a recording.

    Attributes:
        records: Result lines in the form of docs/results.md, frames left out unless kept.
        sent_bytes: Serialized escalations, images, framing and all.
        escalations: How many.
        frames: How many frames.
        metrics: What the edge node counted.
    """

    records: list[Mapping[str, Any]]
    sent_bytes: int
    escalations: int
    frames: int
    metrics: EdgeMetrics


class _Sink:
    """Takes candidates from the lane and brings what became of them when it is time."""

    def __init__(
        self, cloud: Answering | None, latency_s: float, fusion: FusionSettings, clock: FrameClock
    ) -> None:
        self._cloud = cloud
        self._fusion = fusion
        self._latency_s = latency_s
        self._clock = clock
        self._news: list[tuple[int, int, News]] = []
        self._posted = 0
        self.sent_at: list[tuple[int, int]] = []

    def offer(self, candidate: Candidate) -> None:
        """Encodes, counts and answers; the lane hears of it later."""
        question = candidate.question
        now_ns = self._clock.now_ns()
        if self._cloud is None:
            image, found = encode_at(candidate.pixels, candidate.level), None
        else:
            image, found = self._cloud.answer(candidate)
        sizes, shadow = (len(image), candidate.image_bytes_max), self._cloud is None
        fate = fate_of_encoded(*sizes, may_leave=True, shadow=shadow)
        self._post(now_ns, Encoded(question.id, len(image), fate is Fate.FORGONE))
        if fate is not Fate.FORGONE:
            self.sent_at.append((now_ns, wire_bytes(candidate, image)))
        if self._cloud is None or found is None or fate is not Fate.SEND:
            self._post(now_ns, Ending(question.id, *fate.ending, now_ns))
            return
        arrival_ns = after_s(now_ns, self._latency_s)
        verdict = Verdict(question.id, Answer(found), self._cloud.digest)
        outcome = EscalationOutcome.ANSWERED
        judged = judge(question, found, self._fusion)
        ending = Ending(question.id, outcome, Cause.NONE, arrival_ns, verdict, judged)
        self._post(arrival_ns, ending)

    def note_published(self, ending: Ending) -> None:
        """Nothing is kept."""

    def _post(self, at_ns: int, news: News) -> None:
        # News of one instant are heard in the order in which they came to be.
        heapq.heappush(self._news, (at_ns, self._posted, news))
        self._posted += 1

    def due(self, now_ns: int) -> tuple[News, ...]:
        """What the lane is to hear by now."""
        news = []
        while self._news and self._news[0][0] <= now_ns:
            news.append(heapq.heappop(self._news)[2])
        return tuple(news)


class _Records:
    def __init__(self, *, keep_frames: bool) -> None:
        self._keep_frames = keep_frames
        self.lines: list[Mapping[str, Any]] = []

    def publish(self, record: JsonRecord | Mapping[str, Any]) -> None:
        """Keeps it; a frame, which is no mapping yet, only where frames are to be kept."""
        if isinstance(record, Mapping):
            self.lines.append(record)
        elif self._keep_frames:
            self.lines.append(record.to_json())

    def publish_end(
        self, records: Sequence[JsonRecord | Mapping[str, Any]], published: Callable[[], None]
    ) -> None:
        """Keeps them."""
        self.lines += [one if isinstance(one, Mapping) else one.to_json() for one in records]
        published()


class RecordedLane:
    """The frame lane of one policy, moved on frame by frame."""

    def __init__(
        self,
        settings: EdgeSettings,
        model: RecordedModel,
        rules: AskingRules,
        cloud: Answering | None,
        *,
        frame_rate_hz: float,
        latency_s: float = 0.2,
        keep_frames: bool = False,
    ) -> None:
        """Takes what decides and what answers.

        Args:
            settings: of the edge node; source, detector, deadline and telemetry are not used.
            model: what the edge bundle detects; lanes may share one.
            rules: of the policy.
            cloud: what answers; None runs the edge alone.
            frame_rate_hz: of the recording.
            latency_s: from the decision to the verdict.
            keep_frames: whether the run's records are to have the frames too.
        """
        if cloud is None:
            off = settings.policy.model_copy(update={"rollout": "off"})
            settings = settings.model_copy(update={"policy": off})
        self._model = model
        self._clock = FrameClock(frame_rate_hz)
        self._latency_s = latency_s
        self._metrics = EdgeMetrics(CollectorRegistry(), settings.camera)
        self._records = _Records(keep_frames=keep_frames)
        shadow = settings.policy.rollout == "shadow"
        self._sink = _Sink(None if shadow else cloud, latency_s, settings.fusion, self._clock)
        self._lane = FrameLane(
            settings,
            model,
            rules,
            LaneInbox(),
            self._records,
            self._sink,
            self._metrics,
            self._clock,
        )
        self._frames = 0

    def step(self, sequence: int, pixels: Pixels) -> None:
        """Takes the next frame, and the verdicts that have come by then."""
        captured_ns = self._clock.capture_of(sequence)
        self._clock.move_to(captured_ns)
        self._model.sequence = sequence
        news = self._sink.due(captured_ns)
        arrival = Arrival(sequence, captured_ns, pixels, on_demand=True)
        self._lane.step(Work(news, arrival, frames_ended=False, closed=False))
        self._frames += 1

    def end(self) -> LaneRun:
        """Ends all tracks, hears all verdicts, and says what it came to."""
        self._lane.step(Work((), None, frames_ended=True, closed=False))
        self._clock.move_to(after_s(self._clock.now_ns(), self._latency_s + 1.0))
        news = self._sink.due(self._clock.now_ns())
        self._lane.step(Work(news, None, frames_ended=True, closed=True))
        sent = self._sink.sent_at
        total = sum(size for _, size in sent)
        return LaneRun(self._records.lines, total, len(sent), self._frames, self._metrics)


def run_lane(
    frames: Iterable[Frame],
    settings: EdgeSettings,
    model: RecordedModel,
    rules: AbstractContextManager[AskingRules],
    cloud: Answering | None,
    *,
    frame_rate_hz: float,
    latency_s: float = 0.2,
) -> LaneRun:
    """Runs one frame lane over recorded frames, in order; the arguments are those of the lane."""
    with rules as entered:
        lane = RecordedLane(
            settings, model, entered, cloud, frame_rate_hz=frame_rate_hz, latency_s=latency_s
        )
        for sequence, pixels in frames:
            lane.step(sequence, pixels)
        return lane.end()


def wire_bytes(candidate: Candidate, image: bytes) -> int:
    """What an escalation takes on the wire: the serialized message and its framing."""
    message = escalation_to_proto(
        _escalation(candidate, image), sent_at_ns=candidate.question.captured_at_ns
    )
    return int(message.ByteSize()) + GRPC_BYTES


def _escalation(candidate: Candidate, image: bytes) -> Escalation:
    """The message that would be sent, for its size."""
    question = candidate.question
    subjects = question.subjects
    return Escalation(
        id=question.id,
        site="site",
        camera="camera",
        track_id=subjects[0].track_id if subjects else 0,
        frame_sequence=question.sequence,
        captured_at_ns=question.captured_at_ns,
        expires_at_ns=question.expires_at_ns,
        frame_width=question.frame_width,
        frame_height=question.frame_height,
        region=question.region,
        encoding=candidate.level.encoding,
        image=image,
        proposals=candidate.proposals,
        edge_bundle_digest="0" * DIGEST_DIGITS,
        reason=question.reason,
        value=max(candidate.value, 0.0),
    )
