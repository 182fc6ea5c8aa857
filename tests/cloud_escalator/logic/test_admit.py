from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.admit import (
    RETRY_AFTER_MIN_S,
    Admitted,
    Load,
    Refused,
    ShedReason,
    admit,
    exceeds_backlog,
    predict_finish_s,
    predict_wait_s,
    retry_after_s,
)
from cloud_escalator.logic.cost import BatchCost

DRAIN_S = 1.0
IDLE = Load(ahead=0, running=0, running_left_s=0.0, decoding_s=0.0, draining=False)


def cost_of(seconds: float, size_max: int = 2) -> BatchCost:
    """A model that takes as long for any batch."""
    cost = BatchCost(size_max)
    for size in range(1, size_max + 1):
        cost.observe(size, seconds)
    return cost


loads = st.builds(
    Load,
    ahead=st.integers(0, 10),
    running=st.integers(0, 2),
    running_left_s=st.floats(0.0, 5.0),
    decoding_s=st.floats(0.0, 5.0),
    draining=st.booleans(),
)


def test_idle_escalator_always_tries() -> None:
    """A cost estimate that grew too pessimistic cannot shut the door for ever."""
    assert admit(IDLE, 0.01, DRAIN_S, cost_of(100.0)) == Admitted()


def test_draining_escalator_sheds() -> None:
    """While draining, whatever arrives is sent elsewhere."""
    load = dataclasses.replace(IDLE, draining=True)
    assert admit(load, 5.0, DRAIN_S, cost_of(0.1)) == Refused(ShedReason.DRAINING, 1.0)


def test_full_queue_is_tried_again_half_way() -> None:
    """With two batches of half a second ahead, half of that is a reason to come back."""
    load = dataclasses.replace(IDLE, ahead=4, running=2, running_left_s=0.2)
    assert retry_after_s(ShedReason.QUEUE_FULL, load, cost_of(0.5)) == pytest.approx(0.7)
    assert retry_after_s(ShedReason.DEADLINE, load, cost_of(0.5)) == pytest.approx(1.2)


def test_request_that_cannot_make_it_is_shed() -> None:
    """With 1.1 s to its answer, a request with one second left is told when to come back."""
    load = dataclasses.replace(IDLE, ahead=2, running=2, running_left_s=0.1)
    decision = admit(load, 1.0, DRAIN_S, cost_of(0.5))
    assert decision == Refused(ShedReason.DEADLINE, 0.6)
    assert admit(load, 1.2, DRAIN_S, cost_of(0.5)) == Admitted()


def test_busy_decoder_counts_beside_the_model() -> None:
    """Five seconds to decode what is ahead outlast three, though the model would be done in one."""
    load = dataclasses.replace(IDLE, ahead=3, decoding_s=5.0)
    assert predict_finish_s(load, cost_of(0.5)) == pytest.approx(5.5)
    assert admit(load, 3.0, DRAIN_S, cost_of(0.5)) == Refused(ShedReason.DEADLINE, 5.0)
    quick = dataclasses.replace(load, decoding_s=0.1)
    assert predict_finish_s(quick, cost_of(0.5)) == pytest.approx(1.0)
    assert admit(quick, 3.0, DRAIN_S, cost_of(0.5)) == Admitted()


@given(
    st.integers(1, 8),
    st.lists(st.floats(0.001, 2.0), min_size=8, max_size=8),
    st.floats(0.0, 2.0),
    st.floats(0.0, 5.0),
)
def test_more_ahead_never_ends_sooner(
    size_max: int, growth_s: list[float], decode_s: float, running_left_s: float
) -> None:
    """With every request ahead, the predicted wait and finish stay the same or grow."""
    cost, took_s = BatchCost(size_max), 0.0
    for size in range(1, size_max + 1):
        took_s += growth_s[size - 1]
        cost.observe(size, took_s)
    loads = [Load(ahead, 1, running_left_s, ahead * decode_s, False) for ahead in range(40)]
    for predict in (predict_wait_s, predict_finish_s):
        seconds = [predict(load, cost) for load in loads]
        assert seconds == sorted(seconds)


@given(loads, st.floats(0.001, 10.0), st.floats(0.001, 2.0))
def test_admission_keeps_its_promises(load: Load, remaining_s: float, batch_s: float) -> None:
    """Whatever is taken is predicted to be answered in time."""
    cost = cost_of(batch_s)
    decision = admit(load, remaining_s, DRAIN_S, cost)
    if isinstance(decision, Admitted):
        assert not load.draining
        idle = load.ahead == 0 and load.running == 0
        assert idle or predict_finish_s(load, cost) <= remaining_s
    if isinstance(decision, Refused):
        assert decision.retry_after_s >= RETRY_AFTER_MIN_S


@given(loads, st.floats(0.01, 10.0), st.floats(0.001, 2.0))
def test_more_time_never_hurts(load: Load, remaining_s: float, batch_s: float) -> None:
    """A request that is taken would also be taken with more time left."""
    cost = cost_of(batch_s)
    if isinstance(admit(load, remaining_s, DRAIN_S, cost), Admitted):
        assert isinstance(admit(load, remaining_s + 1.0, DRAIN_S, cost), Admitted)


def test_a_burst_is_no_backlog() -> None:
    """Only what has waited for more than a second without a break is held to half a second."""
    long = dataclasses.replace(IDLE, ahead=10, running=2, running_left_s=0.1)
    short = dataclasses.replace(IDLE, ahead=4, running=2, running_left_s=0.1)
    assert not exceeds_backlog(0.9, long, cost_of(0.1))
    assert exceeds_backlog(1.1, long, cost_of(0.1))
    assert not exceeds_backlog(1.1, short, cost_of(0.1))


def test_slow_model_keeps_work_at_hand() -> None:
    """Batches of two seconds: one may wait while one runs, whatever the backlog."""
    for ahead, too_many in ((1, False), (2, True)):
        load = dataclasses.replace(IDLE, ahead=ahead, running=2, running_left_s=2.0)
        assert exceeds_backlog(60.0, load, cost_of(2.0)) is too_many
