"""Decides which waiting crops form the next batch, and when it closes.

Asked only while the model is idle. Invariants: an expired crop is never part of a batch, and one
that could not be answered in time even alone only when it is the only one; crops are taken in the
order in which they were decoded; without `idle_wait_s` an idle model never waits; with it a batch
still closes at once when it is full, or when waiting longer would cost a crop its expiry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_escalator.logic.cost import BatchCost

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One decoded crop: when its request arrived, and when an answer stops being of use."""

    received_at_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How batches close.

    Attributes:
        size_max: largest batch, at least 1.
        idle_wait_s: how long an idle model waits for company, counted from the oldest crop's
            arrival; zero means never.
    """

    size_max: int
    idle_wait_s: float


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What to do now.

    Attributes:
        expired: positions of crops to answer as expired, ascending: their time is over, or too
            short for the model.
        taken: positions of crops to run now, ascending.
        wait_s: when crops wait and none is taken: ask again after this long, or when another one
            arrives. Otherwise zero.
    """

    expired: tuple[int, ...]
    taken: tuple[int, ...]
    wait_s: float


def plan_batch(
    queue: Sequence[Waiting], now_ns: int, policy: BatchPolicy, cost: BatchCost
) -> BatchPlan:
    """Plans the next batch of an idle model.

    Args:
        queue: decoded crops in the order in which they are to run.
        now_ns: the present, on the clock of the crops.
        policy: how batches close.
        cost: predicted batch costs.
    """
    slacks_s = [(crop.deadline_ns - now_ns) / NS_PER_S for crop in queue]
    alone_s = cost.predict(1)
    alive = [i for i, slack_s in enumerate(slacks_s) if slack_s > 0 and slack_s >= alone_s]
    if not alive:
        # The cost of a batch may be overestimated: one is tried, which measures it.
        alive = [i for i, slack_s in enumerate(slacks_s) if slack_s > 0][:1]
    expired = tuple(sorted(set(range(len(queue))).difference(alive)))
    alive = alive[: policy.size_max]
    if not alive:
        return BatchPlan(expired, (), 0.0)
    size = _largest_on_time([slacks_s[i] for i in alive], cost)
    if size == len(alive) < policy.size_max:
        oldest_ns = min(queue[i].received_at_ns for i in alive)
        patience_s = policy.idle_wait_s - (now_ns - oldest_ns) / NS_PER_S
        # Closing in time for one crop more than there is now: the company that is waited for.
        room_s = min(slacks_s[i] for i in alive) - cost.predict(size + 1)
        wait_s = min(patience_s, room_s)
        if wait_s > 0:
            return BatchPlan(expired, (), wait_s)
    return BatchPlan(expired, tuple(alive[:size]), 0.0)


def _largest_on_time(slacks_s: Sequence[float], cost: BatchCost) -> int:
    """Returns how many of the crops can run together and all be answered in time, at least 1."""
    tightest_s = float("inf")
    best = 1
    for size, slack_s in enumerate(slacks_s, start=1):
        tightest_s = min(tightest_s, slack_s)
        if cost.predict(size) <= tightest_s:
            best = size
    return best
