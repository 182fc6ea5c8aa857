"""Decides at the door whether a request is taken, shed or already expired.

Invariants: an expired request is never taken; a request is shed while the service drains, when the
queue is full, or when the work ahead of it is predicted to outlast its expiry; an idle escalator
always tries, because it has nothing better to do and because a cost estimate that has become too
pessimistic would otherwise never be measured again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cloud_escalator.logic.cost import BatchCost

RETRY_AFTER_MIN_S = 0.05
"""Floor of a retry hint: sooner than this, nothing will have changed."""


class ShedReason(enum.StrEnum):
    """Why a valid request was turned away."""

    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Load:
    """What the escalator has taken on at one instant.

    Attributes:
        queued: requests taken and not yet in the running batch.
        queued_bytes: encoded bytes of those requests.
        running: crops in the running batch, 0 when the model is idle.
        running_left_s: predicted seconds until the running batch ends, not negative.
        draining: whether the service has been told to stop.
    """

    queued: int
    queued_bytes: int
    running: int
    running_left_s: float
    draining: bool


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much may wait.

    Attributes:
        queued_max: requests that may wait, at least 1.
        queued_bytes_max: encoded bytes that may wait.
        drain_retry_after_s: what a client is told while the service drains.
    """

    queued_max: int
    queued_bytes_max: int
    drain_retry_after_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request is taken."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is shed; trying again makes sense `retry_after_s` from now."""

    reason: ShedReason
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class AlreadyExpired:
    """The request's time ran out before it arrived."""


Admission = Admitted | Refused | AlreadyExpired


def predict_wait_s(load: Load, cost: BatchCost) -> float:
    """Predicts for how many seconds the work already taken keeps the model busy.

    The queue is first in, first out: a newcomer waits for the running batch and for every full
    batch ahead of it; what is left over shares its own batch.
    """
    full_batches = load.queued // cost.size_max
    return load.running_left_s + full_batches * cost.predict(cost.size_max)


def predict_finish_s(load: Load, cost: BatchCost) -> float:
    """Predicts in how many seconds a request that arrives now would be answered."""
    own_batch = load.queued % cost.size_max + 1
    return predict_wait_s(load, cost) + cost.predict(own_batch)


def admit(
    load: Load, remaining_s: float, image_bytes: int, limits: AdmissionLimits, cost: BatchCost
) -> Admission:
    """Decides whether a request is taken.

    Args:
        load: what the escalator has taken on.
        remaining_s: time until the request expires, counted from its receipt.
        image_bytes: encoded size of the request's crop.
        limits: how much may wait.
        cost: predicted batch costs.
    """
    if remaining_s <= 0:
        return AlreadyExpired()
    if load.draining:
        return Refused(ShedReason.DRAINING, limits.drain_retry_after_s)
    if load.queued == 0 and load.running == 0:
        return Admitted()
    wait_s = predict_wait_s(load, cost)
    over_bytes = load.queued > 0 and load.queued_bytes + image_bytes > limits.queued_bytes_max
    if load.queued >= limits.queued_max or over_bytes:
        # With half the queue gone, coming back is worth a message.
        half_way_s = (load.running_left_s + wait_s) / 2
        return Refused(ShedReason.QUEUE_FULL, max(half_way_s, RETRY_AFTER_MIN_S))
    if predict_finish_s(load, cost) > remaining_s:
        return Refused(ShedReason.DEADLINE, max(wait_s, RETRY_AFTER_MIN_S))
    return Admitted()
