from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.batch import NS_PER_S, BatchPolicy, Waiting, plan_batch
from cloud_escalator.logic.cost import WINDOW, BatchCost, DecodingCost

SIZE_MAX = 8
MINUTE_NS = 60 * NS_PER_S

Shape = Callable[[int], float]
SHAPES = [
    pytest.param(lambda size: 0.05 * size, id="cpu"),
    pytest.param(lambda size: 0.05 + 0.001 * size, id="gpu"),
]

seconds = st.floats(0.0001, 10.0)


def test_nothing_measured_costs_nothing() -> None:
    """Before the first measurement nobody is turned away because of a guess."""
    assert BatchCost(8).predict(8) == 0.0


def test_no_crops_cost_nothing() -> None:
    """An empty batch is free whatever was measured."""
    cost = BatchCost(8)
    cost.observe(1, 1.0)
    assert cost.predict(0) == 0.0


def test_unmeasured_size_takes_the_next_larger() -> None:
    """A size between two measured ones is predicted as the larger one."""
    cost = BatchCost(8)
    cost.observe(2, 0.2)
    cost.observe(8, 0.5)
    assert cost.predict(4) == 0.5


def test_size_beyond_the_largest_grows_in_proportion() -> None:
    """A size above all measured ones is extrapolated from the largest."""
    cost = BatchCost(8)
    cost.observe(2, 0.2)
    assert cost.predict(8) == 0.8


def test_old_measurements_are_forgotten() -> None:
    """A machine that became faster is believed after one window."""
    cost = BatchCost(1)
    for _ in range(WINDOW):
        cost.observe(1, 5.0)
    for _ in range(WINDOW):
        cost.observe(1, 0.1)
    assert cost.predict(1) == 0.1


@given(st.lists(seconds, min_size=1, max_size=200))
def test_prediction_is_a_high_value_that_was_measured(measured: list[float]) -> None:
    """It is one of the recent measurements, and nine in ten of them are not above it."""
    cost = BatchCost(1)
    for value in measured:
        cost.observe(1, value)
    recent = measured[-WINDOW:]
    predicted = cost.predict(1)
    assert predicted in recent
    assert sum(value > predicted for value in recent) <= 0.1 * len(recent)


def warmed_up(took_s: Shape) -> BatchCost:
    """A model that was measured once at each size, before anything was served."""
    cost = BatchCost(SIZE_MAX)
    for size in range(1, SIZE_MAX + 1):
        cost.observe(size, took_s(size))
    return cost


def serve(cost: BatchCost, took_s: Shape, now_ns: int, *, for_ns: int) -> list[int]:
    """Runs batches of a queue that always has a full one, of 0.6 s; returns their sizes."""
    sizes, until_ns = [], now_ns + for_ns
    while now_ns < until_ns:
        waiting = [Waiting(now_ns, now_ns + 6 * NS_PER_S // 10)] * SIZE_MAX
        size = len(plan_batch(waiting, now_ns, BatchPolicy(SIZE_MAX, 0.0), cost).taken)
        now_ns += round(took_s(size) * NS_PER_S)
        cost.observe(size, took_s(size), now_ns)
        sizes.append(size)
    return sizes


@pytest.mark.parametrize("took_s", SHAPES)
@pytest.mark.parametrize("outliers", [{8}, {6, 7, 8}, set(range(1, 9))])
@pytest.mark.parametrize("times", [2, 5, WINDOW])
def test_slow_batches_do_not_last(took_s: Shape, outliers: set[int], times: int) -> None:
    """Batches took longer than any request has: little more than a minute later all are full."""
    cost, now_ns = warmed_up(took_s), 1000 * NS_PER_S
    for size in [*outliers] * times:
        cost.observe(size, 5.0, now_ns)
    sizes = serve(cost, took_s, now_ns, for_ns=2 * MINUTE_NS)
    assert sizes[-50:] == [SIZE_MAX] * 50
    assert cost.predict(SIZE_MAX) == pytest.approx(took_s(SIZE_MAX))


@pytest.mark.parametrize("took_s", SHAPES)
@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_one_slow_batch_of_a_size_counts_for_a_minute(took_s: Shape, size: int) -> None:
    """It is not run again, so nothing but time can show that it was an exception."""
    cost, now_ns = warmed_up(took_s), 1000 * NS_PER_S
    cost.observe(size, 5.0, now_ns)
    assert cost.predict(size) == 5.0
    other = SIZE_MAX if size < SIZE_MAX else 1
    cost.observe(other, took_s(other), now_ns + MINUTE_NS + 1)
    assert [cost.predict(n) for n in range(9)] == [0.0, *(took_s(n) for n in range(1, 9))]


def test_machine_that_became_slower_is_believed_at_once() -> None:
    """One batch tells, and of sizes that have not run since that they are no faster."""
    cost = warmed_up(lambda size: 0.05 * size)
    cost.observe(4, 2.0, 1000 * NS_PER_S)
    assert [cost.predict(size) for size in (3, 4, 5, 8)] == [pytest.approx(0.15), 2.0, 2.0, 2.0]


def test_quiet_service_keeps_what_it_knows() -> None:
    """With a crop every other minute, one that was slow does not count against the next."""
    cost, now_ns = BatchCost(2), 1000 * NS_PER_S
    for took_s in (0.05, 5.0, 0.06):
        now_ns += 2 * MINUTE_NS
        cost.observe(1, took_s, now_ns)
        cost.observe(2, took_s, now_ns)
        assert cost.predict(1) == took_s
    cost.observe(2, 0.07, now_ns + 2 * MINUTE_NS)
    assert cost.predict(1) == 0.05


@given(
    st.lists(st.floats(0.0, 5.0), min_size=SIZE_MAX, max_size=SIZE_MAX),
    st.lists(
        st.tuples(
            st.integers(1, SIZE_MAX), st.sampled_from([1, 10]), st.integers(0, 2 * MINUTE_NS)
        ),
        min_size=1,
    ),
)
def test_larger_batches_are_never_predicted_shorter(
    growth_s: list[float], runs: list[tuple[int, int, int]]
) -> None:
    """Where larger batches take longer, whenever they ran, predictions grow with the size too."""
    cost, now_ns = BatchCost(SIZE_MAX), 0
    for size, times, pause_ns in runs:
        now_ns += pause_ns
        for _ in range(times):
            cost.observe(size, sum(growth_s[:size]), now_ns)
    predicted = [cost.predict(size) for size in range(SIZE_MAX + 1)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(predicted))


def test_decoding_waits_for_a_thread() -> None:
    """Two threads are free for the first two crops; four ahead are two rounds of the mean."""
    cost = DecodingCost(2)
    assert cost.predict_wait_s(10) == 0.0
    cost.observe(1.0)
    cost.observe(3.0)
    assert [cost.predict_wait_s(ahead) for ahead in (0, 1, 2, 4)] == [0.0, 0.0, 2.0, 4.0]


def test_few_slow_decodings_among_many_count_for_what_they_are() -> None:
    """One crop in twenty that takes two seconds makes twenty ahead a wait of about two seconds."""
    cost = DecodingCost(1)
    for i in range(200):
        cost.observe(2.0 if i % 20 == 10 else 0.001)
    assert 1.0 < cost.predict_wait_s(20) < 3.0


def test_slow_decodings_are_forgotten() -> None:
    """After two hundred quick crops the slow ones before them no longer matter."""
    cost = DecodingCost(1)
    for _ in range(100):
        cost.observe(2.0)
    for _ in range(200):
        cost.observe(0.001)
    assert cost.predict_wait_s(10) < 0.1
