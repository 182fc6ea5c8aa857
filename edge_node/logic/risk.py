"""How much the edge may keep to itself so that a promised risk holds: conformal risk control.

A *unit* is what the edge decides about, such as a track; its *doubt* is the probability that the
edge is wrong about it, as far as the edge can tell. The edge keeps what it doubts less than a
threshold and asks about the rest. A *group* is a block of units that is exchangeable with others: a
board, a picture, a camera; never a frame of a video, which resembles the one before it. The *loss*
of a group at a threshold is its number of kept units that are wrong as a share of all its units, so
from 0 to 1 and never falling as the threshold rises. The share of the *kept* units that are wrong
would not do: it can fall as more is kept, and neither promise below would hold.

The *risk* is the expected loss of the next group. Two promises, for groups that are exchangeable
with those of the calibration:

* `Promise.EXPECTATION`: the risk is at most alpha, averaged over calibration sets: any single one
  may be unlucky, and near alpha about every second one is. The largest threshold with
  n / (n + 1) * mean loss + 1 / (n + 1) <= alpha. Source: Angelopoulos, Bates, Fisch, Lei, Schuster,
  Conformal Risk Control, arXiv 2208.02814, theorem 1.
* `Promise.CONFIDENCE`: with probability 1 - delta over calibration sets, the risk is at most alpha.
  The largest threshold up to which the risk's being above alpha is refuted at level delta, by the
  p-value of Hoeffding and Bentkus. Thresholds are tried in rising order and the first failure
  ends it, so that no correction for their number is due. Independent groups are needed. Source:
  Angelopoulos, Bates, Candes, Jordan, Lei, Learn then Test, arXiv 2110.01052, proposition 3 and
  fixed sequence testing; Bates et al., Distribution-Free, Risk-Controlling Prediction Sets, JACM
  68 (2021), theorem 4 for the bound.

Neither outlives its groups: with another product, lens or light the promise is void, and only the
audit of what was kept will tell.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_node.logic.binomial import binomial_cdf
from foundation.errors import ConfigError

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-9


class Promise(enum.StrEnum):
    """In which sense the risk holds."""

    EXPECTATION = "expectation"
    CONFIDENCE = "confidence"


@dataclass(frozen=True, slots=True)
class RiskTarget:
    """What is to be promised.

    Attributes:
        alpha: Highest expected loss of a group, above 0 and below 1.
        promise: In which sense.
        delta: Highest probability that a promise with confidence is broken; else without meaning.
    """

    alpha: float
    promise: Promise
    delta: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("delta", self.delta)):
            if not 0.0 < value < 1.0:
                raise ConfigError(
                    f"{name} of a target risk is {value:g}",
                    remedy="Give a share above 0 and below 1",
                )

    @property
    def groups_min(self) -> int:
        """Groups without which not even a calibration without a loss proves the target."""
        if self.promise is Promise.EXPECTATION:
            return math.ceil(1 / self.alpha - 1 - _ROUNDING)
        return math.ceil(math.log(self.delta) / math.log1p(-self.alpha) - _ROUNDING)


@dataclass(frozen=True, slots=True)
class RiskThreshold:
    """How much may be kept.

    Attributes:
        threshold: Doubt below which the edge keeps a unit; infinite where it may keep everything.
        target: What is promised.
        groups: Groups of the calibration.
        loss: Their mean loss at the threshold.
        kept: Share of their units that would have been kept.
    """

    threshold: float
    target: RiskTarget
    groups: int
    loss: float
    kept: float

    def keeps(self, doubt: float) -> bool:
        """Whether the edge keeps a unit without asking."""
        return doubt < self.threshold


def calibrate(
    doubts: Array,
    wrong: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.integer],
    *,
    group_count: int,
    target: RiskTarget,
) -> RiskThreshold:
    """The largest threshold that keeps the target, from units about which the truth is known.

    Args:
        doubts: (N,) the edge's doubt about each unit, higher where it is more likely to be wrong.
        wrong: (N,) whether the edge was wrong.
        groups: (N,) the group of each, from 0 on.
        group_count: How many groups there were, those without a unit included: they lose nothing,
            and leaving them out would calibrate for other groups than those that come.
        target: What is to be promised.

    Raises:
        ConfigError: too few groups for the target; nothing or everything is wrong, so that doubt
            cannot be told from certainty; something is no number or belongs to no group.
    """
    _refuse_useless(doubts, wrong, groups, group_count)
    thresholds = np.append(np.unique(doubts), np.inf)
    losses = kept_losses(doubts, wrong, groups, thresholds, group_count=group_count)
    last = largest_within(losses, target)
    return RiskThreshold(
        float(thresholds[last]),
        target,
        group_count,
        float(losses[:, last].mean()),
        float(np.mean(doubts < thresholds[last])),
    )


def kept_losses(
    doubts: Array,
    wrong: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.integer],
    thresholds: Array,
    *,
    group_count: int,
) -> Array:
    """Loss (G, T) of each group at each threshold: its kept wrong units as a share of its units.

    A unit is kept below a threshold, not at it: so losses are continuous from the side that the
    theorem asks for, and at the least doubt there is nothing is kept.
    """
    sizes = np.bincount(groups, minlength=group_count)
    losses = np.zeros((group_count, len(thresholds) + 1))
    first_kept = np.searchsorted(thresholds, doubts[wrong], side="right")
    np.add.at(losses, (groups[wrong], first_kept), 1.0)
    losses = np.cumsum(losses, axis=1)[:, :-1]
    return np.asarray(losses / np.maximum(sizes, 1)[:, None])


def largest_within(losses: Array, target: RiskTarget) -> int:
    """Position of the largest threshold that keeps the target.

    Args:
        losses: (G, T) in 0..1, rows never falling: thresholds from the most careful one on.
        target: What is to be promised.

    Raises:
        ConfigError: too few groups; losses that are no numbers, outside 0..1 or falling; even the
            most careful threshold breaks the target.
    """
    _refuse_losses(losses)
    count = len(losses)
    if count < target.groups_min:
        raise ConfigError(
            f"{count} groups cannot prove a risk of {target.alpha:g} in {target.promise}",
            remedy=f"Calibrate on at least {target.groups_min} groups, or promise less",
        )
    means = losses.mean(axis=0)
    if target.promise is Promise.EXPECTATION:
        bounds = (count * means + 1.0) / (count + 1)
        broken = np.flatnonzero(bounds > target.alpha + _ROUNDING)
    else:
        broken = np.flatnonzero(~_refuted(means, count, target))
    # Where nothing is broken the last one holds; a search for the first broken one would say 0.
    last = int(broken[0]) - 1 if broken.size else len(means) - 1
    if last < 0:
        raise ConfigError(
            f"Even the most careful threshold breaks a risk of {target.alpha:g}",
            remedy="Begin with a threshold below which nothing is kept, or promise less",
        )
    return last


def hoeffding_bentkus(mean: float, count: int, alpha: float) -> float:
    """P-value of "the expected loss is above alpha" given the mean of so many losses in 0..1."""
    if mean >= alpha:
        return 1.0
    divergence = (1 - mean) * math.log((1 - mean) / (1 - alpha))
    if mean > 0:
        divergence += mean * math.log(mean / alpha)
    hoeffding = math.exp(-count * divergence)
    bentkus = math.e * binomial_cdf(math.ceil(count * mean - _ROUNDING), count, alpha)
    return min(1.0, hoeffding, bentkus)


def _refuted(means: Array, count: int, target: RiskTarget) -> npt.NDArray[np.bool_]:
    """For rising mean losses, whether "the risk is above alpha" is refuted: first yes, then no."""
    low, high = 0, len(means)
    while low < high:
        middle = (low + high) // 2
        p_value = hoeffding_bentkus(float(means[middle]), count, target.alpha)
        if p_value <= target.delta * (1 + _ROUNDING):
            low = middle + 1
        else:
            high = middle
    return np.arange(len(means)) < low


def _refuse_losses(losses: Array) -> None:
    problem = ""
    if losses.ndim != 2 or losses.size == 0:
        problem = f"have the shape {losses.shape}, not groups by thresholds"
    elif not np.isfinite(losses).all():
        problem = "are not all numbers"
    elif losses.min() < 0 or losses.max() > 1:
        problem = f"reach from {losses.min():g} to {losses.max():g}, outside 0 to 1"
    elif (np.diff(losses, axis=1) < -_ROUNDING).any():
        problem = "fall as more is kept"
    if problem:
        raise ConfigError(
            f"Losses of a risk calibration {problem}",
            remedy="Give each group the share of its units that are kept and wrong",
        )


def _refuse_useless(
    doubts: Array,
    wrong: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.integer],
    group_count: int,
) -> None:
    problem, remedy = "", "Give every unit one doubt, one truth and one group"
    if not len(doubts) == len(wrong) == len(groups):
        problem = f"has {len(doubts)} doubts, {len(wrong)} truths and {len(groups)} groups"
    elif np.isnan(doubts).any():
        problem = "has a doubt that is not a number"
    elif len(groups) and (groups.min() < 0 or groups.max() >= group_count):
        problem = f"has a unit of a group outside 0 to {group_count - 1}"
    elif not wrong.any() or wrong.all():
        problem = f"has {len(wrong)} units of which {'all' if len(wrong) and wrong.all() else 'no'}"
        problem += " one is wrong"
        remedy = "Add groups in which the edge is right about some units and wrong about others"
    if problem:
        raise ConfigError(f"A risk calibration {problem}", remedy=remedy)
