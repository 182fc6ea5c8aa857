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
  may be unlucky. The largest threshold with
  n / (n + 1) * mean loss + 1 / (n + 1) <= alpha. Source: Angelopoulos, Bates, Fisch, Lei, Schuster,
  Conformal Risk Control, arXiv 2208.02814, theorem 1.
* `Promise.CONFIDENCE`: with probability 1 - delta over calibration sets, the risk is at most alpha.
  The largest threshold up to which the risk's being above alpha is refuted at level delta.
  Thresholds are tried in rising order and the first failure ends it, so that no correction for
  their number is due (Angelopoulos, Bates, Candes, Jordan, Lei, Learn then Test, arXiv 2110.01052,
  fixed sequence testing). The test is a bet against "the mean loss is at least alpha", which
  gains where losses stay below alpha, whatever their distribution; it refutes when it has
  multiplied its stake by 1 / delta (Waudby-Smith and Ramdas, Estimating means of bounded random
  variables by betting, JRSS B 86, 2024). Independent groups are needed, in an order that does not
  depend on their losses. The bound of Hoeffding and Bentkus, which is the usual one, knows the mean
  alone and keeps far less where the losses of groups are alike.

Neither outlives its groups: with another product, lens or light the promise is void, and only the
audit of what was kept will tell.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigError

Array = npt.NDArray[np.float64]

_ROUNDING = 1e-9
_STAKE_MAX = 0.9
"""Most of its capital that the bet against too high a risk may lose on one group."""
_PRIOR_VARIANCE = 0.01


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
        gain = math.log1p(_bet_max(self.alpha) * self.alpha)
        return math.ceil(-math.log(self.delta) / gain - _ROUNDING)


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
        gains = capital(losses, target.alpha).max(axis=0)
        broken = np.flatnonzero(gains * target.delta < 1 - _ROUNDING)
    # Where nothing is broken the last one holds; a search for the first broken one would say 0.
    last = int(broken[0]) - 1 if broken.size else len(means) - 1
    if last < 0:
        raise ConfigError(
            f"Even the most careful threshold breaks a risk of {target.alpha:g}",
            remedy="Begin with a threshold below which nothing is kept, or promise less",
        )
    return last


def capital(losses: Array, alpha: float) -> Array:
    """What a stake of 1 against "the mean loss is at least alpha" has become after each group.

    Bets are the growth-optimal ones for mean and variance of the groups before (aGRAPA, ibid.,
    section B.3). Whatever they are, where the mean is at least alpha the capital ever reaches
    1 / delta with probability delta at most (Ville).

    Args:
        losses: (G, T) in 0..1, of independent groups.
        alpha: What the mean is to be below.

    Returns:
        (G, T), positive.
    """
    groups = np.arange(1, len(losses) + 1)[:, None]
    means = np.cumsum(losses, axis=0) / groups
    squares = np.cumsum(losses**2, axis=0) / groups
    variances = (_PRIOR_VARIANCE + groups * np.maximum(squares - means**2, 0)) / (groups + 1)
    margins = alpha - means
    bets = np.clip(margins / (variances + margins**2), 0, _bet_max(alpha))
    # The first bet knows nothing, and each other one the groups before it alone.
    bets = np.concatenate([np.full_like(bets[:1], _bet_max(alpha)), bets[:-1]])
    return np.asarray(np.cumprod(1 + bets * (alpha - losses), axis=0))


def _bet_max(alpha: float) -> float:
    """The bet that loses `_STAKE_MAX` on a group in which everything is lost."""
    return _STAKE_MAX / (1 - alpha)


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
    problem = ""
    if not len(doubts) == len(wrong) == len(groups):
        problem = f"has {len(doubts)} doubts, {len(wrong)} truths and {len(groups)} groups"
    elif np.isnan(doubts).any():
        problem = "has a doubt that is not a number"
    elif len(groups) and (groups.min() < 0 or groups.max() >= group_count):
        problem = f"has a unit of a group outside 0 to {group_count - 1}"
    elif not wrong.any():
        problem = f"has {len(wrong)} units, of which none is wrong"
    elif wrong.all():
        problem = f"has {len(wrong)} units, of which all are wrong"
    if problem:
        raise ConfigError(
            f"A risk calibration {problem}",
            remedy="Give every unit a doubt, a truth and a group, with some right and some wrong",
        )
