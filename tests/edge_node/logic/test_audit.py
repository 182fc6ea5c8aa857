"""The audit sample: who is drawn, what counts as wrong, and whether the interval covers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_node.config import FusionSettings
from edge_node.logic.audit import AuditSampler, is_silent_error
from edge_node.logic.audit_estimate import (
    UNKNOWN,
    AuditLedger,
    Draw,
    Stratum,
    mixed_rate,
    weighted_rate,
)
from edge_node.logic.fuse import judge
from edge_node.values import Effect, Finding, Standing, Subject
from foundation.escalations import Region
from tests.edge_node.logic.scene import found, question

WIDTH, HEIGHT, SIDE = 1280, 960, 192
NOTHING = np.zeros((0, 4), np.float32)
H_NS = 3_600_000_000_000
STANDING = Standing(True, True, 5, 1.0, -36_864, 0.9, "q")
WRONG = Finding(Effect.REFUTED, 0, -1, STANDING)
RIGHT = Finding(Effect.CONFIRMED, 0, 0, STANDING)


def make_sampler(
    *, audits_per_h: float = 3600.0, seed: str = "s", camera: str = "cam"
) -> AuditSampler:
    """A sampler that remembers a day."""
    return AuditSampler(
        audits_per_h=audits_per_h,
        window_s=86_400.0,
        place_side_px=SIDE,
        seed=seed,
        camera=camera,
    )


def draw_tracks(sampler: AuditSampler, count: int, *, per_h: float = 3600.0) -> list[Draw]:
    """Reported tracks, one after another at a steady rate, and which of them are drawn."""
    gap_ns = round(H_NS / per_h)
    draws = (
        sampler.draw_track(unit, reported=True, now_ns=unit * gap_ns)
        for unit in range(1, count + 1)
    )
    return [draw for draw in draws if draw is not None]


def test_lottery_is_repeatable_and_keyed() -> None:
    """The same seed and camera draw the same tracks; another of either draws others."""
    drawn = [
        {draw.unit for draw in draw_tracks(sampler, 600)}
        for sampler in (
            make_sampler(),
            make_sampler(),
            make_sampler(seed="t"),
            make_sampler(camera="other"),
        )
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


def test_first_period_is_neither_drawn_nor_counted() -> None:
    """Only from then on is the rate of tracks known."""
    sampler = make_sampler()
    assert draw_tracks(sampler, 59) == []
    assert sampler.estimate(0).overall.kept == 0
    assert not sampler.foresees(1)


@pytest.mark.parametrize("per_h", [360.0, 36_000.0])
def test_audits_keep_to_their_rate(per_h: float) -> None:
    """A third of 300 an hour belongs to reported tracks, whether few or many come."""
    sampler = make_sampler(audits_per_h=300.0)
    hours = 10
    draws = draw_tracks(sampler, round(hours * per_h), per_h=per_h)
    assert len(draws) == pytest.approx(100 * hours, abs=5 * math.sqrt(100 * hours))
    assert {draw.stratum for draw in draws} == {Stratum.REPORTED}


def test_probability_follows_slowly_and_each_draw_keeps_its_own() -> None:
    """A hundred times as many tracks at once: at most a quarter less in each period."""
    sampler = make_sampler(audits_per_h=10_800.0)
    steady = [sampler.draw_track(unit, reported=True, now_ns=unit * 10**9) for unit in range(1200)]
    draws = [draw for draw in steady if draw is not None]
    assert {draw.probability for draw in draws} == {1.0}
    start_ns = 1200 * 10**9
    burst = [
        sampler.draw_track(2000 + k, reported=True, now_ns=start_ns + k * 10**7)
        for k in range(30_000)
    ]
    seen = sorted({draw.probability for draw in burst if draw is not None}, reverse=True)
    assert len(seen) >= 4
    assert all(0.79 <= after / before < 1 for before, after in itertools.pairwise(seen))
    assert draws[0].probability == 1.0


def test_share_drawn_is_the_probability_whatever_the_track_is() -> None:
    """Over many tracks and seeds; the tolerance is four standard deviations."""
    sampler = make_sampler(audits_per_h=1080.0)
    draw_tracks(sampler, 61)
    draw = None
    unit = 10_000
    while draw is None:
        unit += 1
        draw = sampler.draw_track(unit, reported=True, now_ns=62 * 10**9)
    units = range(20_000, 30_000)
    drawn = np.array([sampler.foresees(unit) for unit in units])
    error = math.sqrt(draw.probability * (1 - draw.probability) / len(units))
    for part in (drawn[::2], drawn[1::2]):
        assert part.mean() == pytest.approx(draw.probability, abs=4 * math.sqrt(2) * error)


def test_what_is_foreseen_is_drawn() -> None:
    """So a crop that was kept for it is not kept in vain while the probability stands."""
    sampler = make_sampler(audits_per_h=1080.0)
    draw_tracks(sampler, 61)
    for unit in range(1000, 1200):
        foreseen = sampler.foresees(unit)
        draw = sampler.draw_track(unit, reported=True, now_ns=62 * 10**9)
        assert (draw is not None) is foreseen


@given(st.integers(0, 10**6), st.integers(1, 2000), st.integers(1, 2000))
def test_place_lies_in_its_frame_and_is_the_same_again(
    sequence: int, width: int, height: int
) -> None:
    """Also in frames smaller than a crop."""
    sampler = make_sampler()
    place = sampler.empty_place(sequence, NOTHING, width, height)
    assert place is not None
    assert place.lies_inside(width, height)
    assert (place.width, place.height) == (min(SIDE, width), min(SIDE, height))
    assert place == sampler.empty_place(sequence, NOTHING, width, height)


def test_places_are_spread_evenly() -> None:
    """Every left edge is as likely: mean and spread of a uniform distribution."""
    sampler = make_sampler()
    places = [sampler.empty_place(k, NOTHING, WIDTH, HEIGHT) for k in range(4000)]
    lefts = np.array([place.x1 for place in places if place is not None]) / (WIDTH - SIDE)
    tops = np.array([place.y1 for place in places if place is not None]) / (HEIGHT - SIDE)
    for edges in (lefts, tops):
        assert edges.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 4000))
        assert edges.std() == pytest.approx(math.sqrt(1 / 12), abs=0.01)
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 4 / math.sqrt(4000)


@given(
    st.integers(0, 1000), st.floats(0, 1200), st.floats(0, 900), st.floats(1, 80), st.floats(1, 60)
)
def test_place_that_a_track_touches_is_not_empty(
    sequence: int, left: float, top: float, width: float, height: float
) -> None:
    """It is no unit at all, rather than moved to where there is room."""
    box = np.array([[left, top, left + width, top + height]], np.float32)
    sampler = make_sampler()
    place = sampler.empty_place(sequence, NOTHING, WIDTH, HEIGHT)
    assert place is not None
    apart = (
        box[0, 2] <= place.x1
        or box[0, 0] >= place.x2
        or box[0, 3] <= place.y1
        or box[0, 1] >= place.y2
    )
    assert sampler.empty_place(sequence, box, WIDTH, HEIGHT) == (place if apart else None)


@pytest.mark.parametrize(
    ("stratum", "detections", "wrong"),
    [
        (Stratum.REPORTED, [(605, 405, 615, 415, 0.9, "open")], False),
        (Stratum.REPORTED, [(605, 405, 615, 415, 0.9, "short")], True),
        (Stratum.REPORTED, [], True),
        (
            Stratum.REPORTED,
            [(605, 405, 615, 415, 0.9, "open"), (650, 450, 660, 460, 0.9, "spur")],
            False,
        ),
        (Stratum.DISMISSED, [(605, 405, 615, 415, 0.9, "open")], True),
        (Stratum.DISMISSED, [(605, 405, 615, 415, 0.9, "short")], True),
        (Stratum.DISMISSED, [], False),
        (Stratum.DISMISSED, [(650, 450, 660, 460, 0.9, "spur")], False),
        (Stratum.EMPTY, [], False),
        (Stratum.EMPTY, [(605, 405, 615, 415, 0.9, "open")], True),
        (Stratum.EMPTY, [(500, 405, 512, 415, 0.9, "open")], False),
    ],
)
def test_wrong_is_what_the_verdict_contradicts(
    stratum: Stratum, detections: list[tuple[float, float, float, float, float, str]], wrong: bool
) -> None:
    """By the findings that fusion makes of it; what the crop's border cuts is not found."""
    box = np.array([605, 405, 615, 415], np.float32)
    subjects = () if stratum is Stratum.EMPTY else (Subject(1, box, "open", 0.95, asked=True),)
    asked = question(*subjects, region=Region(500, 320, 692, 512))
    judged = judge(asked, found(*detections), FusionSettings())
    assert is_silent_error(stratum, judged.findings) is wrong


@pytest.mark.parametrize("stratum", [Stratum.REPORTED, Stratum.DISMISSED])
def test_answer_that_decides_nothing_is_neither_right_nor_wrong(stratum: Stratum) -> None:
    """Something of another class is there, and the crop's border cuts it."""
    box = np.array([660, 405, 690, 435], np.float32)
    asked = question(Subject(1, box, "open", 0.95, asked=True), region=Region(500, 320, 692, 512))
    judged = judge(asked, found((660, 405, 692, 435, 0.9, "short")), FusionSettings())
    assert [finding.effect for finding in judged.findings] == [Effect.UNDECIDED]
    assert is_silent_error(stratum, judged.findings) is None
    sampler = make_sampler(audits_per_h=10_800.0)
    draw, *_ = draw_tracks(sampler, 70)
    assert sampler.answer(draw, judged.findings) is None
    assert sampler.estimate(H_NS).overall.answered == 0


def test_every_draw_ends_in_one_count_where_it_was_kept() -> None:
    """Answers and losses hours later belong to the hour of the draw; older ones change nothing."""
    sampler = make_sampler(audits_per_h=10_800.0)
    draws = draw_tracks(sampler, 360)
    assert len(draws) == 300
    for draw in draws[:100]:
        assert not sampler.answer(draw, [RIGHT])
    for draw in draws[100:120]:
        assert sampler.answer(draw, [WRONG])
    for draw in draws[120:160]:
        sampler.lose(draw)
    estimate = sampler.estimate(5 * H_NS)
    reported = estimate.strata[Stratum.REPORTED]
    assert (reported.kept, reported.drawn) == (300, 300)
    assert (reported.answered, reported.lost, reported.wrong) == (120, 40, 20)
    assert reported.response == pytest.approx(0.75)
    assert reported.rate.point == pytest.approx(20 / 120)
    assert reported.errors.point == pytest.approx(50)
    assert estimate.false_alarms == reported
    later = sampler.estimate(30 * H_NS)
    assert later.overall.kept == 0
    assert later.overall.rate == UNKNOWN
    assert later.overall.response is None
    sampler.answer(draws[200], [WRONG])
    sampler.lose(draws[201])
    assert sampler.estimate(30 * H_NS) == later


def test_stratum_without_an_answer_may_be_all_wrong() -> None:
    """No point, and an upper end that grants it; knowing the others alone would flatter."""
    ledger = AuditLedger(86_400.0)
    for unit in range(300):
        stratum = Stratum.EMPTY if unit % 3 else Stratum.DISMISSED
        ledger.keep(stratum, 0.5, unit)
        if stratum is Stratum.EMPTY:
            draw = Draw(stratum, unit, 0.5, unit)
            ledger.draw(draw)
            ledger.answer(draw, wrong=False)
    estimate = ledger.estimate(300)
    assert estimate.strata[Stratum.DISMISSED].rate == UNKNOWN
    assert estimate.misses.rate.point is None
    assert estimate.misses.rate.high > 1 / 3
    assert estimate.misses.rate.low == 0.0


@example([(310, 1, 1), (580, 1, 1), (1, 1, 1)])
@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.integers(0, 50), st.integers(1, 50)),
        min_size=1,
        max_size=5,
    )
)
def test_mixture_lies_within_its_parts(parts: list[tuple[int, int, int]]) -> None:
    """Its point and ends are ordered and no wider than the worst part allows."""
    rates = [
        (size, weighted_rate(float(min(wrong, audits)), float(audits), 1.0))
        for size, wrong, audits in parts
    ]
    mixed = mixed_rate(rates)
    assert mixed.point is not None
    assert min(rate.low for _, rate in rates) - 1e-12 <= mixed.low <= mixed.point
    assert mixed.point <= mixed.high <= max(rate.high for _, rate in rates) + 1e-12


def test_single_part_keeps_its_interval() -> None:
    """With equal probabilities it is that of Clopper and Pearson, whatever the probability."""
    for weight in (1.0, 40.0):
        alone = weighted_rate(3 * weight, 100 * weight, weight)
        assert alone.low == pytest.approx(0.00623, abs=1e-5)
        assert alone.point == pytest.approx(0.03)
        assert alone.high == pytest.approx(0.08518, abs=1e-5)
        mixed = mixed_rate([(500, alone)])
        assert mixed.low == pytest.approx(alone.low)
        assert mixed.high == pytest.approx(alone.high)


@pytest.mark.parametrize(
    "periods",
    [
        pytest.param([(3000, 90, 0.05)], id="steady"),
        pytest.param([(3000, 3, 0.05)], id="rare"),
        pytest.param([(1000, 0, 0.9), (1000, 60, 0.05)], id="errors where little is drawn"),
        pytest.param([(1000, 60, 0.9), (1000, 0, 0.05)], id="errors where much is drawn"),
        pytest.param([(800, 30, 0.3), (800, 30, 0.2), (800, 30, 0.05)], id="changing"),
    ],
)
def test_interval_covers_the_true_rate(periods: list[tuple[int, int, float]]) -> None:
    """In 95 of 100 simulated windows, less three standard deviations of that share.

    Each period has units, errors among them, and the probability with which they are drawn; a fifth
    of the answers is lost. Errors come in a row, as one missed object does.
    """
    runs = 400
    random = np.random.default_rng(17)
    kept, errors = sum(n for n, _, _ in periods), sum(e for _, e, _ in periods)
    covered = 0
    for _ in range(runs):
        cells: dict[float, tuple[int, int]] = {}
        for units, wrong, probability in periods:
            answered = random.random(units) < probability * 0.8
            cells[probability] = int(answered.sum()), int(answered[:wrong].sum())
        rate = mixed_rate(
            [
                (units, weighted_rate(cells[p][1] / p, cells[p][0] / p, 1 / p))
                for units, _, p in periods
            ]
        )
        covered += rate.low <= errors / kept <= rate.high
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_thinning_covers_where_an_effective_sample_size_does_not() -> None:
    """Unequal weights in one cell, with the errors where little is drawn."""
    runs, random = 1000, np.random.default_rng(4)
    covered = 0
    for _ in range(runs):
        frequent, rare = random.binomial(1000, 1.0), random.binomial(950, 0.05)
        wrong = random.binomial(50, 0.05)
        weight_wrong, weight = wrong * 20.0, frequent + (rare + wrong) * 20.0
        rate = weighted_rate(weight_wrong, weight, 20.0)
        covered += rate.low <= 0.025 <= rate.high
    assert covered / runs >= 0.95
