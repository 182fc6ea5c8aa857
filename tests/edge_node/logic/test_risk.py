"""How much may be kept: both promises on populations with a known risk, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.logic.risk import (
    Array,
    Promise,
    RiskTarget,
    calibrate,
    capital,
    kept_losses,
    largest_within,
)
from foundation.errors import ConfigError

EXPECTED = RiskTarget(0.1, Promise.EXPECTATION)
CONFIDENT = RiskTarget(0.1, Promise.CONFIDENCE)


def draw_units(random: np.random.Generator, groups: int) -> tuple[Array, np.ndarray, np.ndarray]:
    """Units of boards that differ in how hard they are; doubt is a fair guess of being wrong."""
    sizes = random.poisson(12, groups)
    hardness = np.repeat(random.normal(0, 0.6, groups), sizes)
    doubts = random.beta(0.6, 2.5, sizes.sum())
    logits = np.log(doubts / (1 - doubts)) + hardness
    wrong = random.random(len(doubts)) < 1 / (1 + np.exp(-logits))
    return doubts, wrong, np.repeat(np.arange(groups), sizes)


@pytest.fixture(scope="module")
def true_risk() -> Callable[[float], float]:
    """The expected loss of a board at a threshold, from a hundred thousand boards."""
    groups = 100_000
    doubts, wrong, boards = draw_units(np.random.default_rng(99), groups)
    grid = np.append(np.linspace(0, 1, 401), np.inf)
    risk = (
        np.mean(
            [
                kept_losses(
                    doubts[own], wrong[own], boards[own] - first, grid, group_count=1000
                ).sum(0)
                for first in range(0, groups, 1000)
                for own in [slice(*np.searchsorted(boards, (first, first + 1000)))]
            ],
            axis=0,
        )
        / 1000
    )
    return lambda threshold: float(np.interp(min(threshold, 1.0), grid[:-1], risk[:-1]))


def chosen_risks(
    target: RiskTarget, runs: int, groups: int, true_risk: Callable[[float], float]
) -> Array:
    """The risk that each of many calibrations lets through."""
    risks = []
    for seed in range(runs):
        units = draw_units(np.random.default_rng(seed), groups)
        risks.append(true_risk(calibrate(*units, group_count=groups, target=target).threshold))
    return np.array(risks)


def test_risk_in_expectation_holds_on_average(true_risk: Callable[[float], float]) -> None:
    """And comes near alpha, because a promise kept by asking about everything is worth nothing."""
    risks = chosen_risks(EXPECTED, 300, 60, true_risk)
    error = risks.std() / math.sqrt(len(risks))
    assert risks.mean() <= 0.1 + 3 * error
    assert risks.mean() > 0.07
    assert np.mean(risks > 0.1) > 0.1, "some are unlucky, which the promise allows"


def test_risk_with_confidence_holds_in_95_of_100_calibrations(
    true_risk: Callable[[float], float],
) -> None:
    """The tolerance is three standard deviations of a share of 5 %."""
    risks = chosen_risks(CONFIDENT, 300, 60, true_risk)
    assert np.mean(risks > 0.1) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(risks))
    assert risks.mean() > 0.02


@pytest.mark.parametrize("groups", [40, 250])
def test_confidence_holds_where_a_group_loses_all_or_nothing(groups: int) -> None:
    """The hardest losses for a bound: at a risk of alpha itself it is refuted in 5 of 100."""
    runs = 2000
    losses = (np.random.default_rng(5).random((groups, runs)) < 0.1).astype(np.float64)
    refuted = (capital(losses, 0.1).max(axis=0) >= 20).mean()
    assert refuted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_bet_keeps_what_the_usual_bound_would_not() -> None:
    """Boards that all lose 2 to 5 %: neither Hoeffding's p-value nor Bentkus's reaches 5 %."""
    losses = np.tile([[0.02], [0.05]], (30, 1))
    count, mean, alpha = 60, 0.035, 0.1
    divergence = mean * math.log(mean / alpha) + (1 - mean) * math.log((1 - mean) / (1 - alpha))
    hoeffding = math.exp(-count * divergence)
    bentkus = math.e * math.fsum(
        math.comb(count, k) * alpha**k * (1 - alpha) ** (count - k)
        for k in range(math.ceil(count * mean) + 1)
    )
    assert min(hoeffding, bentkus) > 0.15
    assert capital(losses, alpha).max() >= 20


@given(st.integers(0, 2**32 - 1), st.integers(10, 60))
def test_largest_threshold_is_the_last_that_satisfies_the_theorem(seed: int, groups: int) -> None:
    """By trying them all: the chosen one holds, and the next one does not."""
    random = np.random.default_rng(seed)
    losses = np.cumsum(random.random((groups, 15)) * random.random() / 15, axis=1)
    losses = np.concatenate([np.zeros((groups, 1)), losses], axis=1)
    last = largest_within(losses, EXPECTED)
    holds = (losses.sum(axis=0) + 1) / (groups + 1) <= 0.1
    assert holds[: last + 1].all()
    assert not holds[last + 1 :].any()


@pytest.mark.parametrize("promise", Promise)
def test_more_risk_keeps_more(promise: Promise) -> None:
    """And a promise with confidence keeps less than one in expectation."""
    for seed in range(5):
        units = draw_units(np.random.default_rng(seed), 80)
        kept = [
            calibrate(*units, group_count=80, target=RiskTarget(alpha, promise)).kept
            for alpha in (0.05, 0.1, 0.2)
        ]
        assert kept == sorted(kept)
        assert kept[0] < kept[-1]
        expected = calibrate(*units, group_count=80, target=EXPECTED).kept
        assert kept[1] <= expected


@given(st.integers(0, 2**32 - 1))
def test_losses_are_those_of_counting(seed: int) -> None:
    """Each group: kept wrong units over all its units; 0 for a group without any."""
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 60))
    doubts = random.integers(0, 8, count) / 8
    wrong, groups = random.random(count) < 0.4, random.integers(0, 4, count)
    thresholds = np.array([0.0, 0.25, 0.3, 1.0, np.inf])
    losses = kept_losses(doubts, wrong, groups, thresholds, group_count=5)
    for group in range(5):
        own = groups == group
        for position, threshold in enumerate(thresholds):
            kept = (own & wrong & (doubts < threshold)).sum()
            assert losses[group, position] == pytest.approx(kept / max(1, own.sum()))


def test_everything_and_nothing_are_told_apart() -> None:
    """No broken threshold means the last one, the first one broken means none at all."""
    harmless = np.zeros((40, 3))
    assert largest_within(harmless, EXPECTED) == 2
    assert largest_within(harmless, CONFIDENT) == 2
    only_nothing = np.array([[0.0, 0.9, 0.9]] * 40)
    assert largest_within(only_nothing, EXPECTED) == 0
    assert largest_within(only_nothing, CONFIDENT) == 0
    with pytest.raises(ConfigError, match="most careful threshold"):
        largest_within(np.full((40, 3), 0.9), EXPECTED)


def test_threshold_is_kept_below_and_asked_about_at() -> None:
    """Everything may be kept where hardly anything is wrong."""
    doubts, wrong = np.tile([0.1, 0.2], 50), np.tile([False, False], 50)
    wrong[0] = True
    groups = np.repeat(np.arange(50), 2)
    chosen = calibrate(doubts, wrong, groups, group_count=50, target=EXPECTED)
    assert math.isinf(chosen.threshold)
    assert chosen.keeps(1.0)
    assert chosen.kept == 1.0
    wrong = doubts > 0.15
    chosen = calibrate(doubts, wrong, groups, group_count=50, target=EXPECTED)
    assert chosen.threshold == pytest.approx(0.2)
    assert chosen.keeps(0.1)
    assert not chosen.keeps(0.2)
    assert (chosen.loss, chosen.kept, chosen.groups) == (0.0, 0.5, 50)


@pytest.mark.parametrize(
    ("target", "needed"),
    [
        (EXPECTED, 9),
        (CONFIDENT, 32),
        (RiskTarget(0.05, Promise.EXPECTATION), 19),
        (RiskTarget(0.05, Promise.CONFIDENCE), 65),
    ],
)
def test_too_few_groups_are_refused_with_the_number_needed(target: RiskTarget, needed: int) -> None:
    """With one less not even a faultless calibration is enough; with that many it is."""
    assert target.groups_min == needed
    assert largest_within(np.zeros((needed, 2)), target) == 1
    with pytest.raises(ConfigError, match=f"at least {needed} groups"):
        largest_within(np.zeros((needed - 1, 2)), target)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([[0.0, np.nan]], "not all numbers"),
        ([[0.0, 1.5]], "outside 0 to 1"),
        ([[-0.1, 0.5]], "outside 0 to 1"),
        ([[0.5, 0.4]], "fall as more is kept"),
        ([0.0, 0.1], "not groups by thresholds"),
    ],
)
def test_losses_that_no_promise_holds_for_are_refused(losses: list[object], words: str) -> None:
    """Each names what is wrong."""
    with pytest.raises(ConfigError, match=words):
        largest_within(np.array(losses * 50, np.float64), EXPECTED)


@pytest.mark.parametrize(
    ("doubts", "wrong", "groups", "words"),
    [
        ([0.1, 0.2], [False, False], [0, 1], "none is wrong"),
        ([0.1, 0.2], [True, True], [0, 1], "all are wrong"),
        ([], [], [], "0 units"),
        ([0.1, np.nan], [True, False], [0, 1], "not a number"),
        ([0.1, 0.2], [True, False], [0, 50], "outside 0 to 49"),
        ([0.1], [True, False], [0, 1], "1 doubts, 2 truths"),
    ],
)
def test_useless_calibrations_are_refused(
    doubts: list[float], wrong: list[bool], groups: list[int], words: str
) -> None:
    """Before anything is promised."""
    arrays = np.array(doubts, np.float64), np.array(wrong, np.bool_), np.array(groups, np.int64)
    with pytest.raises(ConfigError, match=words):
        calibrate(*arrays, group_count=50, target=EXPECTED)


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_target_outside_its_range_is_refused(alpha: float) -> None:
    """Naming it."""
    with pytest.raises(ConfigError, match="alpha"):
        RiskTarget(alpha, Promise.EXPECTATION)
