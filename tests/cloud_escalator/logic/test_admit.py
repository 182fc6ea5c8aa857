from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.admit import (
    RETRY_AFTER_MIN_S,
    Admitted,
    AlreadyExpired,
    Load,
    Refused,
    ShedReason,
    admit,
    exceeds_backlog,
    predict_finish_s,
    retry_after_s,
)
from cloud_escalator.logic.cost import BatchCost

DRAIN_S = 1.0
IDLE = Load(ahead=0, running=0, running_left_s=0.0, draining=False)


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
    draining=st.booleans(),
)


def test_expired_request_is_never_taken() -> None:
    """A request without time left is expired even when the escalator is idle or draining."""
    for load in (IDLE, dataclasses.replace(IDLE, draining=True)):
        for remaining_s in (0.0, -1.0):
            assert admit(load, remaining_s, DRAIN_S, cost_of(0.1)) == AlreadyExpired()


def test_idle_escalator_always_tries() -> None:
    """A cost estimate that grew too pessimistic cannot shut the door for ever."""
    assert admit(IDLE, 0.01, DRAIN_S, cost_of(100.0)) == Admitted()


def test_draining_escalator_sheds() -> None:
    """While draining, whatever arrives is sent elsewhere."""
    load = dataclasses.replace(IDLE, draining=True)
    assert admit(load, 5.0, DRAIN_S, cost_of(0.1)) == Refused(ShedReason.DRAINING, 1.0)


def test_full_queue_is_tried_again_half_way() -> None:
    """With two batches of half a second ahead, half of that is a reason to come back."""
    load = Load(ahead=4, running=2, running_left_s=0.2, draining=False)
    assert retry_after_s(ShedReason.QUEUE_FULL, load, cost_of(0.5)) == pytest.approx(0.7)
    assert retry_after_s(ShedReason.DEADLINE, load, cost_of(0.5)) == pytest.approx(1.2)


def test_request_that_cannot_make_it_is_shed() -> None:
    """With 1.1 s to its answer, a request with one second left is told when to come back."""
    load = Load(ahead=2, running=2, running_left_s=0.1, draining=False)
    decision = admit(load, 1.0, DRAIN_S, cost_of(0.5))
    assert decision == Refused(ShedReason.DEADLINE, 0.6)
    assert admit(load, 1.2, DRAIN_S, cost_of(0.5)) == Admitted()


@given(loads, st.floats(-1.0, 10.0), st.floats(0.001, 2.0))
def test_admission_keeps_its_promises(load: Load, remaining_s: float, batch_s: float) -> None:
    """Whatever is taken has time left and is predicted to be answered in time."""
    cost = cost_of(batch_s)
    decision = admit(load, remaining_s, DRAIN_S, cost)
    if isinstance(decision, Admitted):
        assert remaining_s > 0
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
    long = Load(ahead=10, running=2, running_left_s=0.1, draining=False)
    short = Load(ahead=4, running=2, running_left_s=0.1, draining=False)
    assert not exceeds_backlog(0.9, long, cost_of(0.1))
    assert exceeds_backlog(1.1, long, cost_of(0.1))
    assert not exceeds_backlog(1.1, short, cost_of(0.1))


def test_slow_model_keeps_work_at_hand() -> None:
    """Batches of two seconds: one may wait while one runs, whatever the backlog."""
    for ahead, too_many in ((1, False), (2, True)):
        load = Load(ahead=ahead, running=2, running_left_s=2.0, draining=False)
        assert exceeds_backlog(60.0, load, cost_of(2.0)) is too_many
