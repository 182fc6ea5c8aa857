"""What the egress policy hides is neither asked about nor audited: the cloud would not find it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foundation.escalations import LabelledBoxes
from foundation.frames import Detections
from tests.edge_node.pipeline.bench import LABELS, NOISE, WIDTH, AskingBench, seen

GREEN = LABELS.index("green")
ONLY_TRACKS = {"missed": {"gaps": False, "background": False}}
AUDITED = {**ONLY_TRACKS, "audit": {"audits_per_h": 3600}}
NOTHING = seen()
LEFT_HALF = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]


def both(first: Detections, second: Detections) -> Detections:
    """What two detectors see."""
    return Detections(
        np.concatenate([first.boxes, second.boxes]),
        np.concatenate([first.scores, second.scores]),
        np.concatenate([first.class_ids, second.class_ids]),
    )


@pytest.mark.parametrize(
    "egress",
    [{"blur": {"green": "whole"}}, {"labels_never": ["green"]}, {"zones_never": [LEFT_HALF]}],
    ids=["blur", "never", "zone"],
)
def test_hidden_track_is_not_asked_about(egress: dict[str, Any]) -> None:
    """Nothing would be found in its place, and so it would be refuted by its own blur."""
    bench = AskingBench(ONLY_TRACKS, egress=egress)
    bench.frames(20, seen((100, 200, 0.45), class_id=GREEN))
    assert bench.offered == []
    assert bench.count("edge_suppressions_total", reason="hidden") == 1


def test_hidden_neighbour_is_not_refuted() -> None:
    """The crop of another track shows its blur; the silence about it decides nothing."""
    bench = AskingBench(ONLY_TRACKS, egress={"blur": {"green": "whole"}})
    bench.frames(20, both(seen((300, 200, 0.45)), seen((340, 200, 0.45), class_id=GREEN)))
    (candidate,) = bench.offered
    assert [(one.label, one.asked) for one in candidate.question.subjects] == [
        ("blue", True),
        ("green", False),
    ]
    assert candidate.proposals.labels == ("blue",)
    blue = np.array([[300, 200, 320, 220]], np.float32)
    bench.end(candidate, cloud=LabelledBoxes(blue, np.array([0.9], np.float32), ("blue",)))
    assert bench.tracker.rows["refuted"].tolist() == [False, False]
    bench.end_all()
    assert [record["refuted"] for record in bench.records] == [False, False]


def test_track_with_a_hidden_head_is_asked_about() -> None:
    """What is left of it can be found."""
    bench = AskingBench(ONLY_TRACKS, egress={"blur": {"green": "head"}})
    bench.frames(20, seen((300, 200, 0.45), class_id=GREEN))
    (candidate,) = bench.offered
    assert candidate.proposals.labels == ("green",)


def test_track_that_a_zone_hides_by_now_is_asked_about_as_it_was_seen() -> None:
    """What was held of it was cut when it could be seen."""
    policy = {**ONLY_TRACKS, "min_track_frames": 40}
    bench = AskingBench(policy, egress={"zones_never": [LEFT_HALF]})
    for number in range(60):
        bench.frame(seen((400 - 3 * number, 200, 0.45)))
    (candidate,) = bench.offered
    assert candidate.question.subjects[0].box[0] > WIDTH / 2


@pytest.mark.parametrize("part", ["whole", "head"])
def test_moment_of_another_class_is_forgotten_where_the_present_one_is_hidden(part: str) -> None:
    """It shows unhidden what the edge has come to take for something that must be hidden."""
    policy = {**ONLY_TRACKS, "min_track_frames": 60}
    bench = AskingBench(policy, egress={"blur": {"green": part}})
    bench.frames(20, seen((300, 200, 0.45)))
    flat = np.full_like(NOISE, 100)
    bench.frames(60, seen((300, 200, 0.45), class_id=GREEN), flat)
    bench.frames(10, seen((300, 200, 0.45), class_id=GREEN), flat)
    assert [candidate.pixels.max() for candidate in bench.offered] == [100] * (part == "head")


def learnt(bench: AskingBench) -> AskingBench:
    """The lottery has learnt how many units come: thirty tracks a minute."""
    bench.clock.advance_s(1.0)
    for _ in range(30):
        bench.frames(8, seen((500, 200, 0.95)))
        bench.frames(12, NOTHING)
        bench.clock.advance_s(1.3)
    bench.offered.clear()
    return bench


@pytest.mark.parametrize("egress", [{"blur": {"green": "whole"}}, {"zones_never": [LEFT_HALF]}])
def test_audit_of_a_hidden_track_is_lost(egress: dict[str, Any]) -> None:
    """It would come back as wrong."""
    bench = learnt(AskingBench(AUDITED, egress=egress))
    for _ in range(20):
        bench.frames(8, seen((100, 200, 0.95), class_id=GREEN))
        bench.frames(12, NOTHING)
    assert [c for c in bench.offered if c.question.subjects] == []
    assert bench.count("edge_audit_losses_total", cause="no_crop") > 0


def test_audit_forgets_the_moment_of_another_class() -> None:
    """As if the track had been asked about."""
    bench = learnt(AskingBench(AUDITED, egress={"blur": {"green": "head"}}))
    for _ in range(20):
        bench.frames(4, seen((300, 200, 0.9)))
        # Not looked at by the policy as green before it ends.
        bench.tracker.rows["edge_label"] = GREEN
        bench.frames(12, NOTHING)
    assert [c for c in bench.offered if c.question.subjects] == []
    assert bench.count("edge_audit_losses_total", cause="no_crop") > 0


def test_empty_place_that_is_hidden_is_no_unit() -> None:
    """It would come back as right."""
    bench = AskingBench(AUDITED, egress={"zones_never": [LEFT_HALF]})
    for _ in range(600):
        bench.frame(NOTHING)
        bench.clock.advance_s(0.5)
    lefts = [c.question.region.x1 for c in bench.offered]
    assert len(lefts) > 10
    assert min(lefts) > WIDTH / 2 - 192 / 16  # to within a sliver
    hidden = AskingBench(AUDITED, egress={"zones_never": [[[0, 0], [1, 0], [1, 1], [0, 1]]]})
    for _ in range(200):
        hidden.frame(NOTHING)
        hidden.clock.advance_s(0.5)
    assert hidden.total("edge_audits_total") == 0
