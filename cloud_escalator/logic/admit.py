"""Decides at the door whether a request that has time left is taken or shed.

Invariants: a request is shed while the service drains, or when the work that would be done before
it, of the decoder or of the model, is predicted to outlast its expiry; an idle escalator always
tries, because it has nothing better to do and because a cost estimate that has become too
pessimistic would otherwise never be measured again. Whether there is room is the queue's to say.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cloud_escalator.logic.cost import BatchCost

RETRY_AFTER_MIN_S = 0.05
"""Floor of a retry hint: sooner than this, nothing will have changed."""

_BURST_S = 1.0
"""A device that has had something waiting for longer asks for more than its share: no burst."""

_BACKLOG_S = 0.5
"""As much of that may wait. More would only make everything late, and outlast the load."""

_BACKLOG_BATCHES = 2
"""What must be allowed to wait, however slow the model, so that it always finds a full batch."""


class ShedReason(enum.StrEnum):
    """Why a valid request was turned away, or given up while it waited."""

    QUOTA = "quota"
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    BACKLOG = "backlog"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Load:
    """What the escalator would do before a request, seen at one instant.

    Attributes:
        ahead: requests that are served before it, those of the running batch not counted.
        running: crops in the running batch, 0 when the model is idle.
        running_left_s: predicted seconds until the running batch ends, not negative.
        decoding_s: predicted seconds until the decoder can begin with it, not negative.
        draining: whether the service has been told to stop.
    """

    ahead: int
    running: int
    running_left_s: float
    decoding_s: float
    draining: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request is taken."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is shed; trying again makes sense `retry_after_s` from now."""

    reason: ShedReason
    retry_after_s: float


Admission = Admitted | Refused


def predict_wait_s(load: Load, cost: BatchCost) -> float:
    """Predicts for how many seconds the work ahead of a request keeps it waiting.

    It waits for the decoder, and meanwhile for the model: for the running batch and for every full
    batch ahead of it; what is left over shares its own batch.
    """
    return max(_predict_model_wait_s(load, cost), load.decoding_s)


def predict_finish_s(load: Load, cost: BatchCost) -> float:
    """Predicts in how many seconds a request would be answered.

    Where the model waits for the decoder, it runs what there is, which may be one crop.
    """
    own_batch = load.ahead % cost.size_max + 1
    with_company_s = _predict_model_wait_s(load, cost) + cost.predict(own_batch)
    return max(with_company_s, load.decoding_s + cost.predict(1))


def _predict_model_wait_s(load: Load, cost: BatchCost) -> float:
    full_batches = load.ahead // cost.size_max
    return load.running_left_s + full_batches * cost.predict(cost.size_max)


def exceeds_backlog(backlog_s: float, load: Load, cost: BatchCost) -> bool:
    """Whether a request would wait too long behind a backlog that is no burst.

    Args:
        backlog_s: for how long its device has had something waiting without a break.
        load: what would be done before the request.
        cost: predicted batch costs.
    """
    allowed_s = max(_BACKLOG_S, _BACKLOG_BATCHES * cost.predict(cost.size_max))
    return backlog_s > _BURST_S and predict_finish_s(load, cost) > allowed_s


def retry_after_s(reason: ShedReason, load: Load, cost: BatchCost) -> float:
    """When a request that is shed may be sent again, in seconds.

    Once what was ahead of it is done, it would be next. Of a queue that is full it is enough that
    half of that is done: then there is room.
    """
    wait_s = predict_wait_s(load, cost)
    if reason is ShedReason.QUEUE_FULL:
        wait_s = (load.running_left_s + wait_s) / 2
    return max(wait_s, RETRY_AFTER_MIN_S)


def admit(load: Load, remaining_s: float, drain_retry_after_s: float, cost: BatchCost) -> Admission:
    """Decides whether a request may wait for its turn.

    Args:
        load: what would be done before it.
        remaining_s: time until the request expires, counted from its receipt; positive.
        drain_retry_after_s: what a client is told while the service drains.
        cost: predicted batch costs.
    """
    if load.draining:
        return Refused(ShedReason.DRAINING, drain_retry_after_s)
    if load.ahead == 0 and load.running == 0:
        return Admitted()
    if predict_finish_s(load, cost) > remaining_s:
        return Refused(ShedReason.DEADLINE, retry_after_s(ShedReason.DEADLINE, load, cost))
    return Admitted()
