"""The frame lane over recorded frames: one object that a scripted cloud is asked about."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import pytest

from edge_node.adapters.rules import open_rules
from edge_node.config import AuditSettings, EdgeSettings, PolicySettings
from edge_node.ports import AskingRules, ScoreLimits
from edge_node.values import Candidate, EscalationOutcome
from foundation.escalations import LabelledBoxes
from foundation.frames import Detections, Pixels
from foundation.levels import encode_at
from replay.recorded_lane import (
    GRPC_BYTES,
    LaneRun,
    RecordedLane,
    RecordedModel,
    run_lane,
    wire_bytes,
)
from tests.support.bundles import LABELS, make_bundle
from tests.support.lane import one_square

RATE_HZ = 20.0
FRAMES = 40
PICTURE = np.random.default_rng(1).integers(0, 255, (240, 320, 3)).astype(np.uint8)


@dataclass
class Confirming:
    """Finds what it is asked about, surely; remembers what it was asked."""

    digest: str = "f" * 64
    asked: list[Candidate] = field(default_factory=list)

    def answer(self, candidate: Candidate) -> tuple[bytes, LabelledBoxes]:
        """The crop, and its proposals at a score of 0.9."""
        self.asked.append(candidate)
        sure = np.full(len(candidate.proposals), 0.9, np.float32)
        found = LabelledBoxes(candidate.proposals.boxes, sure, candidate.proposals.labels)
        return encode_at(candidate.pixels, candidate.level), found


def model() -> RecordedModel:
    """Two objects that stand still, doubtful ones; they are detected anew in each model."""
    half = np.full(len(LABELS), 0.5, np.float32)
    low = np.full(len(LABELS), 0.2, np.float32)

    def detect(pixels: Pixels) -> Detections:
        del pixels
        left, right = one_square(60, 60), one_square(200, 150)
        return Detections(
            np.concatenate([left.boxes, right.boxes]),
            np.concatenate([left.scores, right.scores]),
            np.concatenate([left.class_ids, right.class_ids]),
        )

    return RecordedModel(LABELS, ScoreLimits(low, half, low, half * 2), detect)


def settings(rollout: str = "enforce", **changes: float) -> EdgeSettings:
    """An edge node without audits, which are drawn by lot."""
    policy = PolicySettings.model_validate(
        {"rollout": rollout, "audit": AuditSettings(audits_per_h=0.0), **changes}
    )
    return EdgeSettings(policy=policy)


def rules(own: EdgeSettings, recorded: RecordedModel) -> AbstractContextManager[AskingRules]:
    """By p(1 - p)."""
    return open_rules(own, make_bundle(), recorded.limits)


def run(cloud: Confirming | None, own: EdgeSettings, *, latency_s: float = 0.2) -> LaneRun:
    """One lane over all frames."""
    recorded = model()
    frames = ((sequence, PICTURE) for sequence in range(FRAMES))
    with rules(own, recorded) as entered:
        return run_lane(
            frames,
            own,
            recorded,
            nullcontext(entered),
            cloud,
            frame_rate_hz=RATE_HZ,
            latency_s=latency_s,
        )


def _kinds(lane_run: LaneRun) -> Counter[str]:
    return Counter(str(record["type"]) for record in lane_run.records)


def test_verdict_comes_after_its_latency_and_what_was_sent_is_counted() -> None:
    """Each object is asked about once; its bytes are the message and its framing."""
    cloud = Confirming()
    done = run(cloud, settings(), latency_s=0.3)
    assert {subject.track_id for one in cloud.asked for subject in one.question.subjects} == {1, 2}
    assert done.escalations == len(cloud.asked)
    assert done.frames == FRAMES
    images = [encode_at(one.pixels, one.level) for one in cloud.asked]
    pairs = zip(cloud.asked, images, strict=True)
    assert done.sent_bytes == sum(wire_bytes(one, image) for one, image in pairs)
    assert done.sent_bytes > sum(map(len, images)) + len(images) * GRPC_BYTES
    corrections = [one for one in done.records if one["type"] == "correction"]
    assert [one["effect"] for one in corrections] == ["confirmed", "confirmed"]
    assert {one["verdict_latency_s"] for one in corrections} == {0.3}


def test_shadow_sends_nothing_and_counts_what_it_would_have() -> None:
    """News of one instant do not trip over each other: each crop is encoded and then withheld."""
    cloud = Confirming()
    shadow = run(cloud, settings("shadow"))
    assert not cloud.asked
    assert _kinds(shadow) == {"track": 2, "escalation": 2}
    tracks = [one for one in shadow.records if one["type"] == "track"]
    closed = [one["outcome"] for one in shadow.records if one["type"] == "escalation"]
    ends = [one["escalation"]["outcome"] for one in tracks]
    assert ends == closed == [EscalationOutcome.WITHHELD] * 2
    assert shadow.sent_bytes == run(Confirming(), settings()).sent_bytes


def test_shadow_asks_as_often_as_enforcing_where_evidence_grows() -> None:
    """What is withheld is over, also when the edge becomes surer, and so are its neighbours."""
    asked = {}
    for rollout in ("shadow", "enforce"):
        recorded = model()
        found = recorded.detect(PICTURE)
        growing = np.linspace(0.3, 0.8, FRAMES, dtype=np.float32)
        for sequence, score in enumerate(growing.tolist()):
            near = found.boxes + np.array([[0], [1]], np.float32) * (-125, -78, -125, -78)
            scores = np.full(2, score, np.float32)
            recorded.found[sequence] = Detections(near.astype(np.float32), scores, found.class_ids)
        own = settings(rollout, cooldown_s=0.0)
        lane_rules = rules(own, recorded)
        frames = ((sequence, PICTURE) for sequence in range(FRAMES))
        done = run_lane(frames, own, recorded, lane_rules, Confirming(), frame_rate_hz=RATE_HZ)
        asked[rollout] = done.escalations
    assert asked == {"shadow": 1, "enforce": 1}


def test_without_a_cloud_nothing_is_asked() -> None:
    """The edge alone."""
    alone = run(None, settings())
    assert (alone.sent_bytes, alone.escalations) == (0, 0)
    assert [one["escalation"] for one in alone.records if one["type"] == "track"] == [None, None]


def test_lanes_side_by_side_are_as_each_by_itself() -> None:
    """They share the model, which looks at each frame once, and nothing else."""
    shared = model()
    looks: list[int] = []
    detect = shared.detect_now

    def counted(pixels: Pixels) -> Detections:
        looks.append(shared.sequence)
        return detect(pixels)

    shared.detect_now = counted
    plans = {"much": settings(), "little": settings(uplink_bytes_burst=16_000.0), "shadow": None}
    lanes = {}
    for name, plan in plans.items():
        own = plan or settings("shadow")
        with rules(own, shared) as entered:
            lanes[name] = RecordedLane(own, shared, entered, Confirming(), frame_rate_hz=RATE_HZ)
    for sequence in range(FRAMES):
        for lane in lanes.values():
            lane.step(sequence, PICTURE)
    assert looks == list(range(FRAMES))
    for name, lane in lanes.items():
        done, own_run = lane.end(), run(Confirming(), plans[name] or settings("shadow"))
        assert done.sent_bytes == own_run.sent_bytes
        assert _kinds(done) == _kinds(own_run)


@pytest.mark.parametrize("keep", [True, False])
def test_frames_are_kept_where_they_are_wanted(keep: bool) -> None:
    """They are most of what an edge node writes."""
    recorded, own = model(), settings()
    with rules(own, recorded) as entered:
        lane = RecordedLane(own, recorded, entered, None, frame_rate_hz=RATE_HZ, keep_frames=keep)
        for sequence in range(5):
            lane.step(sequence, PICTURE)
        assert _kinds(lane.end())["frame"] == (5 if keep else 0)


@pytest.mark.parametrize("rollout", ["enforce", "shadow"])
def test_what_is_larger_than_it_is_worth_is_forgone_and_not_counted(rollout: str) -> None:
    """Noise takes more than is predicted, and than there is; at its true size it is paid."""
    crops = run(Confirming(), settings(rollout)).escalations
    tight = run(Confirming(), settings(rollout, uplink_bytes_burst=9_000.0))
    ends = Counter(one["outcome"] for one in tight.records if one["type"] == "escalation")
    assert crops == 2
    assert ends["forgone"] >= 1
    assert tight.escalations == ends["withheld" if rollout == "shadow" else "answered"] == 2
