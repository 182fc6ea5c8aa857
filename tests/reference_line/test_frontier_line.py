"""The frontier of the reference line: its counts, its rules, and all of it on a few frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.frontier_line import main
from benchmarks.frontier_parts import oracles
from benchmarks.frontier_parts.counting import (
    Resamples,
    area,
    board_counts,
    f1_of,
    share_for,
)
from benchmarks.frontier_parts.track_rules import ChanceGains, track_rules
from benchmarks.frontier_parts.whole_frames import TILE_PX, FrameRule, tiles
from edge_node.config import FusionSettings
from edge_node.values import Question, Subject
from foundation.errors import EXIT_OK
from foundation.escalations import LabelledBoxes, Region
from foundation.gains import GainModel, LevelCosts, variance_gains
from reference_line.asked import Answered, Hindsight
from reference_line.board import BOARD_PITCH_PX
from reference_line.evaluation import Claim, RunTruth
from reference_line.fit_asking import worth_by_track
from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.records import Box, Opinion, RunRecords, TrackRecord
from reference_line.truth import FrameTruth, PhysicalDefect

BOX: Box = (600.0, 400.0, 620.0, 420.0)
OTHER: Box = (700.0, 500.0, 720.0, 520.0)


def track(track_id: int, box: Box, score: float = 0.9, sequence: int = 0) -> TrackRecord:
    """A track of the edge that was not asked about."""
    edge = Opinion("open", score, box, sequence)
    return TrackRecord(track_id, 0, 0, 9, 9, edge, None, "open", score, "edge", None)


def claim(track_id: int, box: Box, label: str = "open", sequence: int = 0) -> Claim:
    """What the edge reports about it."""
    return Claim(track_id, label, 0.9, box, sequence)


def hindsight(*tracks: TrackRecord) -> Hindsight:
    """A run with these tracks, all of them reported."""
    edge = [
        claim(one.track_id, one.edge.box, sequence=one.edge.sequence) for one in tracks if one.edge
    ]
    return Hindsight(RunRecords((), (), tracks), edge, Line(3), FusionSettings())


def answered(
    subject: TrackRecord | None, *found: tuple[str, Box], sequence: int = 0, sent: int = 100
) -> Answered:
    """An answer about a crop of 192 pixels around (600, 400) with these boxes in it."""
    subjects: tuple[Subject, ...] = ()
    if subject is not None and subject.edge is not None:
        box = np.array(subject.edge.box, np.float32)
        subjects = (Subject(subject.track_id, box, "open", subject.edge.score, True),)
    question = Question(
        id=f"{sequence}",
        sequence=sequence,
        captured_at_ns=1,
        expires_at_ns=2,
        region=Region(540, 350, 732, 542),
        frame_width=FRAME_WIDTH,
        frame_height=FRAME_HEIGHT,
        subjects=subjects,
        reason="uncertain",
        level="webp80",
        gain=0.0,
        scene_moves=True,
    )
    boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
    scores = np.full(len(found), 0.8, np.float32)
    return Answered(question, LabelledBoxes(boxes, scores, tuple(k for k, _ in found)), sent)


def test_verdict_confirms_reclassifies_refutes_and_adds_as_in_the_product() -> None:
    """What was not asked about stays as the edge reports it."""
    first, second = track(1, BOX), track(2, (100.0, 100.0, 120.0, 120.0))
    run = hindsight(first, second)
    assert run.claims([]) == list(run.edge)
    kept = {one.track_id: one.label for one in run.claims([answered(first, ("open", BOX))])}
    assert kept == {1: "open", 2: "open"}
    changed = {one.track_id: one.label for one in run.claims([answered(first, ("spur", BOX))])}
    assert changed == {1: "spur", 2: "open"}
    assert [one.track_id for one in run.claims([answered(first)])] == [2]
    both = run.claims([answered(first, ("open", BOX), ("short", OTHER))])
    assert sorted((one.track_id, one.label, one.box) for one in both) == sorted(
        [(1, "open", BOX), (1, "short", OTHER), (2, "open", (100.0, 100.0, 120.0, 120.0))]
    )


def test_object_that_is_added_twice_or_has_a_track_at_another_time_counts_once() -> None:
    """The belt moves six pixels a frame, so the same place is elsewhere in another frame."""
    first = track(1, BOX)
    shift = Line(3).position(10) - Line(3).position(0)
    later: Box = (OTHER[0] - shift, OTHER[1], OTHER[2] - shift, OTHER[3])
    twice = [
        answered(first, ("open", BOX), ("short", OTHER)),
        answered(None, ("short", later), sequence=10),
    ]
    assert len(hindsight(first).claims(twice)) == 2
    tracked = track(2, later, sequence=10)
    claims = hindsight(first, tracked).claims(twice[:1])
    assert sorted((one.track_id, one.label) for one in claims) == [(1, "open"), (2, "short")]


@pytest.mark.parametrize("last", ["confirms", "refutes"])
def test_later_of_two_verdicts_stands_whatever_their_order(last: str) -> None:
    """As `logic.fuse` ranks them."""
    first = track(1, BOX)
    confirms = answered(first, ("open", BOX), sequence=2 if last == "confirms" else 1)
    refutes = answered(first, sequence=1 if last == "confirms" else 2)
    for order in ([confirms, refutes], [refutes, confirms]):
        assert len(hindsight(first).claims(order)) == (1 if last == "confirms" else 0)


def truth_of(*defects: tuple[int, int, Box]) -> RunTruth:
    """Open circuits by id and board, all shown in frame 0."""
    there = FrameTruth(
        boxes=np.array([box for *_, box in defects], np.float32),
        class_ids=np.zeros(len(defects), np.int32),
        defect_ids=np.array([number for number, *_ in defects], np.int64),
        sizes_px=np.full(len(defects), 8.0, np.float32),
        visibility=np.ones(len(defects), np.float32),
    )
    known = {n: PhysicalDefect(n, board, 0, 8.0, 0, 99) for n, board, _ in defects}
    return RunTruth(known, {0: there})


def test_counts_belong_to_the_board_of_the_defect_or_of_the_wrong_claim() -> None:
    """Right, wrong and missed."""
    truth = truth_of((5, 0, BOX), (6, 1, OTHER))
    wrong: Box = (BOARD_PITCH_PX * 0.5, 10.0, BOARD_PITCH_PX * 0.5 + 9, 20.0)
    counts = board_counts([claim(1, BOX), claim(2, wrong)], truth, Line(3), 2)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert worth_by_track([claim(1, BOX), claim(2, wrong)], truth) == {1: 1, 2: -1}
    assert f1_of(counts.sum(axis=0)) == pytest.approx(0.5)


def test_gap_is_never_clipped_and_its_interval_holds_it() -> None:
    """A system may be better than the cloud, or worse than the edge."""
    rng = np.random.default_rng(0)
    edge, cloud = (rng.integers(low, low + 3, (20, 3)) for low in (2, 2))
    cloud[:, 1:] = 1
    better, worse = cloud.copy(), edge.copy()
    better[:, 0] += 5
    worse[:, 1] += 5
    resamples = Resamples(20, 500)
    for system, low, high in ((better, 1.0, 9.0), (worse, -9.0, 0.0), (edge, 0.0, 0.0)):
        one = resamples.recovered(edge, system, cloud)
        assert low <= one.low <= one.value <= one.high <= high
    assert resamples.recovered(edge, cloud, cloud).value == 1.0
    assert resamples.ahead(better, cloud).low > 0


@given(st.lists(st.tuples(st.floats(1e-5, 0.009), st.floats(0, 1)), max_size=6))
def test_area_lies_between_its_points_and_the_share_for_a_gap_reaches_it(
    points: list[tuple[float, float]],
) -> None:
    """Nothing is recovered with nothing."""
    shares, values = [x for x, _ in points], [y for _, y in points]
    assert 0 <= area(shares, values, 0.01) <= max([0.0, *values])
    for wanted in (0.3, 0.9):
        share = share_for(shares, values, wanted)
        assert (share is None) == (max([0.0, *values]) < wanted)


def test_other_rules_keep_the_levels_and_rank_by_their_score() -> None:
    """The shipped model's levels and what they retain; of equal score, of equal gain."""
    levels = [LevelCosts(level="webp80"), LevelCosts(level="webp40")]
    shipped = variance_gains(levels)
    low = tuple(tuple(tuple(g / 2 for g in row) for row in table) for table in shipped.gains[1:])
    fields = {name: getattr(shipped, name) for name in GainModel.model_fields}
    shipped = GainModel(**{**fields, "gains": (shipped.gains[0], *low)})
    rules = track_rules(shipped)
    scores, sizes = np.array([0.1, 0.5, 0.6], np.float32), np.full(3, 12.0, np.float32)
    for name, best in (("p(1-p)", 1), ("|p-0.5|", 1), ("lowest score", 0)):
        gains = rules[f"tracks, {name}"].gains_of(scores, sizes)
        assert gains[0].argmax() == best
        np.testing.assert_allclose(gains[1], gains[0] / 2, rtol=1e-5)
    flat = rules["tracks, as they come"].gains_of(scores, sizes)
    assert np.ptp(flat[0]) == 0


def test_chance_is_even_and_the_same_each_time() -> None:
    """It depends on the last bits of a score, not on the score."""
    flat = track_rules(variance_gains([LevelCosts(level="webp80")]))["tracks at random"]
    assert isinstance(flat, ChanceGains)
    scores = np.linspace(0.3, 0.9, 2000, dtype=np.float32)
    drawn = flat.gains_of(scores, scores)[0]
    np.testing.assert_array_equal(drawn, flat.gains_of(scores, scores)[0])
    assert np.histogram(drawn, bins=4, range=(0, 1))[0].min() > 400
    assert abs(np.corrcoef(scores, drawn)[0, 1]) < 0.1


def test_threshold_of_a_frame_rule_keeps_to_its_frames_and_its_pause() -> None:
    """The lowest threshold that does; without room for one frame, none is chosen."""
    wanted = np.array([0.1, 0.9, 0.8, 0.2, 0.7])
    plain = FrameRule("plain", lambda _: 0.0)
    assert plain.choose(wanted, plain.threshold([wanted], 2.5)) == [1, 2]
    assert plain.choose(wanted, plain.threshold([wanted], 0.5)) == []
    pausing = FrameRule("pausing", lambda _: 0.0, cooldown_frames=3)
    assert pausing.choose(wanted, pausing.threshold([wanted], 1)) == [1]
    assert pausing.choose(wanted, 0.5) == [1, 4]


def test_tiles_cover_a_frame_and_stay_inside() -> None:
    """Every pixel of it."""
    seen = np.zeros((FRAME_HEIGHT, FRAME_WIDTH), np.bool_)
    for one in tiles(FRAME_WIDTH, FRAME_HEIGHT):
        assert (one.width, one.height) == (TILE_PX, TILE_PX)
        assert one.x2 <= FRAME_WIDTH
        assert one.y2 <= FRAME_HEIGHT
        seen[one.y1 : one.y2, one.x1 : one.x2] = True
    assert seen.all()


def test_oracle_takes_most_worth_per_byte_once_a_place_and_nothing_that_loses() -> None:
    """Within its budget."""
    sizes_and_worths = [(0, 1.0, 100), (0, 1.0, 60), (1, 2.0, 300), (2, -1.0, 10), (3, 1.0, 90)]
    options = [
        oracles.Option(place, worth, answered(None, sent=sent))
        for place, worth, sent in sizes_and_worths
    ]
    chosen = oracles.choose(options, 200.0)
    assert [one.sent_bytes for one in chosen] == [60, 90]


@pytest.mark.slow
def test_whole_benchmark_on_a_few_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All systems keep to their budgets, and the figures are written and drawn."""
    figures, drawing = tmp_path / "figures.json", tmp_path / "frontier.svg"
    arguments = ["--frames", "48", "--lines", "301", "--validation", "201", "--budgets", "0.003"]
    arguments += ["--work", str(tmp_path), "--json", str(figures), "--svg", str(drawing)]
    assert main(arguments) == EXIT_OK
    report = json.loads(figures.read_text(encoding="utf-8"))
    kinds = {row["kind"] for row in report["curves"]}
    assert kinds == {"own", "track", "frame", "ablation", "oracle"}
    for row in report["curves"]:
        for point in row["points"]:
            if row["kind"] in ("own", "track", "oracle"):
                assert point["share"] <= point["budget"]
            assert sum(point["counts"][::2]) == report["defects"]
    assert "tracks, as shipped" in drawing.read_text(encoding="utf-8")
    assert "gap recovered" in capsys.readouterr().out
