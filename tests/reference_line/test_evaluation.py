from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import IntegrityError
from foundation.manifest import ClassThresholds, Thresholds
from reference_line.evaluation import (
    FRAMES_MIN,
    Claim,
    Judgement,
    RunTruth,
    edge_claims,
    evaluate,
    final_claims,
    judge_claims,
    run_truth,
)
from reference_line.records import Opinion, TrackRecord, read_records
from reference_line.truth import LABELS, FrameTruth, PhysicalDefect

SIDE = 12.0


def thresholds(report: float) -> Thresholds:
    """Thresholds that report every class from one score on."""
    return Thresholds(default=ClassThresholds(report=report, escalate_low=0.1, escalate_high=0.9))


def defect(defect_id: int, class_id: int = 0, size_px: float = 7.0) -> PhysicalDefect:
    """A defect that is long in view."""
    return PhysicalDefect(defect_id, 0, class_id, size_px, 0, 100)


def place(defect_id: int) -> tuple[float, float, float, float]:
    """Every defect has a place of its own, far from the others."""
    x, y = 40.0 * (defect_id % 20), 40.0 * (defect_id // 20)
    return (x, y, x + SIDE, y + SIDE)


def frame_of(*defects: PhysicalDefect) -> FrameTruth:
    """A frame that shows these defects, each at its place."""
    return FrameTruth(
        boxes=np.array([place(d.defect_id) for d in defects], np.float32).reshape(-1, 4),
        class_ids=np.array([d.class_id for d in defects], np.int32),
        defect_ids=np.array([d.defect_id for d in defects], np.int64),
        sizes_px=np.array([d.size_px for d in defects], np.float32),
        visibility=np.ones(len(defects), np.float32),
    )


def truth_of(*defects: PhysicalDefect, ignored: tuple[PhysicalDefect, ...] = ()) -> RunTruth:
    """A run of one frame."""
    return RunTruth({d.defect_id: d for d in defects}, {0: frame_of(*defects, *ignored)})


def claim(
    defect_id: int, label: str = "open", score: float = 0.9, track_id: int = 1, shift: float = 0.0
) -> Claim:
    """A claim at the place of a defect, or beside it."""
    x1, y1, x2, y2 = place(defect_id)
    return Claim(track_id, label, score, (x1 + shift, y1, x2 + shift, y2), 0)


def track(**changes: object) -> TrackRecord:
    """A track that only the edge has an opinion about."""
    opinion = Opinion("open", 0.6, (0.0, 0.0, 12.0, 12.0), 3)
    known = TrackRecord(1, 0, 0, 9, 5, opinion, None, "open", 0.6, "edge", None)
    return dataclasses.replace(known, **changes)  # type: ignore[arg-type]


def test_a_claim_on_its_defect_is_right() -> None:
    """Same class, enough overlap: found."""
    result = evaluate([claim(1, shift=4.0)], truth_of(defect(1)))
    assert (result.overall.right, result.overall.wrong, result.overall.missed) == (1, 0, 0)
    assert result.overall.f1 == 1.0


def test_too_little_overlap_is_nothing_there() -> None:
    """A box shifted by two thirds of its side has an IoU of 0.2."""
    (judged,) = judge_claims([claim(1, shift=8.0)], truth_of(defect(1)))
    assert judged.judgement is Judgement.NOTHING_THERE


def test_the_wrong_class_is_wrong_and_the_defect_still_missed() -> None:
    """Class-aware: naming a short an open finds nothing."""
    result = evaluate([claim(1, "short")], truth_of(defect(1)))
    assert result.judged[0].judgement is Judgement.WRONG_CLASS
    assert result.classes["open"].missed == 1
    assert result.classes["short"].wrong == 1


def test_a_second_claim_on_one_defect_is_a_duplicate() -> None:
    """The better one finds it, the other is a false positive."""
    result = evaluate(
        [claim(1, score=0.5, track_id=2), claim(1, score=0.8, track_id=1)], truth_of(defect(1))
    )
    assert [one.judgement for one in result.judged] == [Judgement.RIGHT, Judgement.DUPLICATE]
    assert (result.overall.right, result.overall.wrong) == (1, 1)


def test_a_claim_on_an_uncounted_defect_is_left_out() -> None:
    """What was not in view for long enough counts neither way, whatever its class."""
    result = evaluate([claim(2, "spur")], truth_of(defect(1), ignored=(defect(2),)))
    assert result.judged[0].judgement is Judgement.IGNORED
    assert (result.overall.right, result.overall.wrong, result.overall.missed) == (0, 0, 1)


def test_recall_is_counted_by_size() -> None:
    """Each defect falls into exactly one size class."""
    defects = [defect(i, size_px=size) for i, size in enumerate((4.5, 6.0, 11.9, 12.0))]
    result = evaluate([claim(0), claim(2)], truth_of(*defects))
    assert [(s.found, s.defects) for s in result.sizes] == [(1, 1), (0, 1), (1, 1), (0, 1)]


def test_no_claims_and_no_defects_give_zeros() -> None:
    """Nothing to divide by is not an error."""
    result = evaluate([], truth_of())
    assert (result.overall.precision, result.overall.recall, result.overall.f1) == (0, 0, 0)


@given(
    st.lists(st.integers(0, 5), max_size=12),
    st.lists(
        st.tuples(
            st.integers(0, 14),
            st.sampled_from(LABELS),
            st.floats(0, 1),
            st.sampled_from([0.0, 3.0, 9.0]),
        ),
        max_size=25,
    ),
    st.randoms(),
)
def test_every_claim_and_every_defect_is_counted_once(
    class_ids: list[int], raw: list[tuple[int, str, float, float]], random: object
) -> None:
    """Right, wrong and left out make all claims; right and missed all defects; order is nothing."""
    defects = [defect(i, class_id) for i, class_id in enumerate(class_ids)]
    truth = truth_of(*defects, ignored=(defect(12), defect(13)))
    claims = [claim(d, label, score, i, shift) for i, (d, label, score, shift) in enumerate(raw)]
    result = evaluate(claims, truth)
    ignored = sum(one.judgement is Judgement.IGNORED for one in result.judged)
    assert result.overall.right + result.overall.wrong + ignored == len(claims)
    assert result.overall.right + result.overall.missed == len(defects)
    for field in ("right", "wrong", "missed"):
        parts = sum(getattr(score, field) for score in result.classes.values())
        assert parts == getattr(result.overall, field)
    assert sum(size.defects for size in result.sizes) == len(defects)
    assert sum(size.found for size in result.sizes) == result.overall.right
    random.shuffle(claims)  # type: ignore[attr-defined]
    assert evaluate(claims, truth) == result


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_perfect_claims_are_perfect(class_ids: list[int]) -> None:
    """The truth itself, claimed, has an F1 of 1."""
    defects = [defect(i, class_id) for i, class_id in enumerate(class_ids)]
    claims = [claim(d.defect_id, d.label, track_id=d.defect_id) for d in defects]
    assert evaluate(claims, truth_of(*defects)).overall.f1 == 1.0


def test_the_edge_is_held_to_its_own_threshold() -> None:
    """Below the report threshold there is no claim; a track of the cloud's is none of the edge."""
    tracks = [track(), track(track_id=2, edge=None), track(track_id=3, detections=2)]
    claims = edge_claims(tracks, thresholds(0.6), detections_min=3)
    assert [one.track_id for one in claims] == [1]
    assert edge_claims(tracks, thresholds(0.61), detections_min=3) == []


def test_final_claims_follow_the_last_word() -> None:
    """Refuted tracks and doubles vanish, confirmed ones have the cloud's box and label."""
    seen = Opinion("short", 0.5, (5.0, 5.0, 15.0, 15.0), 4)
    tracks = [
        track(final_label=None, final_source=""),
        track(track_id=2, cloud=seen, final_label="short", final_score=0.5, final_source="cloud"),
        track(
            track_id=3,
            edge=None,
            cloud=seen,
            final_label="short",
            final_score=0.5,
            final_source="cloud",
        ),
        track(track_id=4),
        track(track_id=5, final_label=None, final_source="", double_of=4),
    ]
    claims = final_claims(tracks)
    assert [(one.track_id, one.label, one.box, one.sequence) for one in claims] == [
        (2, "short", seen.box, 4),
        (3, "short", seen.box, 4),
        (4, "open", (0.0, 0.0, 12.0, 12.0), 3),
    ]
    doubles = [track(), track(track_id=5, double_of=1)]
    assert len(edge_claims(doubles, thresholds(0.5), detections_min=3)) == 1


class ScriptedLine:
    """A line that shows the same defects in every frame."""

    def __init__(self, *defects: PhysicalDefect) -> None:
        self._defects = defects

    def truth(self, index: int) -> FrameTruth:
        assert index >= 0
        return frame_of(*self._defects)

    def defects(self, first_index: int, last_index: int) -> tuple[PhysicalDefect, ...]:
        assert first_index <= last_index
        return self._defects


@pytest.mark.parametrize(
    ("first", "last", "counts"),
    [
        (0, 200, True),
        (-50, FRAMES_MIN - 1, True),
        (-50, FRAMES_MIN - 2, False),
        (100 - FRAMES_MIN, 300, True),
        (101 - FRAMES_MIN, 300, False),
    ],
)
def test_a_defect_counts_when_it_was_in_view_long_enough(
    first: int, last: int, counts: bool
) -> None:
    """Frames before the run's first and after its last are not the run's."""
    line = ScriptedLine(PhysicalDefect(7, 0, 0, 8.0, first, last))
    truth = run_truth(line, 99, [claim(7)])
    assert (7 in truth.defects) is counts
    assert set(truth.frames) == {0}


def test_the_last_revision_of_a_track_counts() -> None:
    """A verdict after a track's end writes the track again; frames keep their order."""
    opinion = {"label": "open", "score": 0.4, "box": [1, 2, 3, 4], "sequence": 5}
    lines = [
        {
            "type": "track",
            "schema": 1,
            "track_id": 3,
            "first_sequence": 1,
            "last_sequence": 9,
            "detections": 4,
            "edge": opinion,
            "cloud": cloud,
            "final": final,
            "escalation": None,
            "revision": revision,
        }
        for cloud, final, revision in (
            (None, {"label": "open", "score": 0.4, "source": "edge"}, 0),
            (None, None, 1),
        )
    ]
    records = read_records(json.dumps(line) for line in (lines[1], lines[0]))
    assert [one.final_label for one in records.tracks] == [None]


def test_a_line_of_another_schema_is_named() -> None:
    """A foreign line is an error that shows it, not a run without results."""
    with pytest.raises(IntegrityError, match="Not a result line"):
        read_records(['{"kind": "frame"}'])
    with pytest.raises(IntegrityError, match="sequence"):
        read_records(['{"type": "frame", "outcome": "late"}'])
