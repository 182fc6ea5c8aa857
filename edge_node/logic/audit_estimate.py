"""How often the edge is wrong where it did not ask, from the audits that came back.

What is promised: at any instant that is fixed beforehand, each interval holds the rate that an
audit of everything kept in the window would have found, in at least 95 of 100 cases. It is not a
promise for all instants at once: whoever looks until the interval says something has chosen.

* The chance is the lottery's alone. Errors may come in clusters, and one missed object may be seen
  in hundreds of frames: which units were drawn still does not depend on it.
* The rate is the one *against the cloud*. Where the cloud errs too, so does its audit.
* What was drawn and never answered is left out. That is unbiased only where losses do not depend
  on being wrong; `RateEstimate.response` says how much rests on it.

Bounded: counts and sums by bucket of time and class of probability, and nothing per unit.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge_node.logic.binomial import lower_bound, upper_bound
from foundation.escalations import Region

CONFIDENCE = 0.95
_MISS = (1 - CONFIDENCE) / 2
_BUCKETS = 24
_NS_PER_S = 1_000_000_000


class Stratum(enum.StrEnum):
    """What the edge did with a unit that no verdict was given about."""

    REPORTED = "reported"
    DISMISSED = "dismissed"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Draw:
    """A unit that is to be audited.

    Attributes:
        stratum: What the edge did with it.
        unit: The track's id; of an empty place, the sequence number of its frame.
        probability: With which it was drawn.
        drawn_at_ns: When.
        region: The place to be looked at; None for a track, which is cropped as always.
    """

    stratum: Stratum
    unit: int
    probability: float
    drawn_at_ns: int
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        low: Where the interval begins.
        point: The estimate; None where nothing has been audited, which is not 0.
        high: Where it ends.
    """

    low: float
    point: float | None
    high: float

    def times(self, count: int) -> Interval:
        """The interval of a rate as one of a number."""
        point = None if self.point is None else self.point * count
        return Interval(self.low * count, point, self.high * count)


UNKNOWN = Interval(0.0, None, 1.0)


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """Silent errors among some of what the edge kept within the window.

    Attributes:
        kept: Units that no verdict was given about.
        drawn: Those of them that were to be audited.
        answered: Audits that came back.
        lost: Audits that ended without an answer; the others are still on their way.
        wrong: Audits in which the cloud disagreed.
        rate: Silent errors as a share of what was kept.
    """

    kept: int
    drawn: int
    answered: int
    lost: int
    wrong: int
    rate: Interval

    @property
    def errors(self) -> Interval:
        """How many silent errors there were, in units: tracks, and places of frames."""
        return self.rate.times(self.kept)

    @property
    def response(self) -> float | None:
        """Share of the ended audits that were answered; None before any has ended."""
        ended = self.answered + self.lost
        return self.answered / ended if ended else None


@dataclass(frozen=True, slots=True)
class AuditEstimate:
    """What the audits of the window say.

    Attributes:
        strata: By what the edge did.
        false_alarms: Reported, though nothing of that class is there.
        misses: Not reported, though something is there: dismissed tracks and empty places.
        overall: Everything kept, each unit counting once.
    """

    strata: Mapping[Stratum, RateEstimate]
    false_alarms: RateEstimate
    misses: RateEstimate
    overall: RateEstimate


@dataclass(slots=True)
class _Cell:
    """Sums over units of one stratum, drawn about equally often; a weight is 1 / probability."""

    kept: int = 0
    drawn: int = 0
    answered: int = 0
    lost: int = 0
    wrong: int = 0
    weight: float = 0.0
    weight_wrong: float = 0.0
    weight_max: float = 0.0

    def add(self, other: _Cell) -> None:
        """Takes in another bucket's sums."""
        self.kept += other.kept
        self.drawn += other.drawn
        self.answered += other.answered
        self.lost += other.lost
        self.wrong += other.wrong
        self.weight += other.weight
        self.weight_wrong += other.weight_wrong
        self.weight_max = max(self.weight_max, other.weight_max)


@dataclass(slots=True)
class _Bucket:
    """Cells of one span of time, by stratum and class of weight."""

    number: int
    cells: dict[tuple[Stratum, int], _Cell] = field(default_factory=dict)

    def cell(self, stratum: Stratum, probability: float) -> _Cell:
        """The cell of units that are drawn with this probability, or up to twice as often."""
        return self.cells.setdefault((stratum, -math.frexp(probability)[1]), _Cell())


class AuditLedger:
    """Keeps count of what was kept, drawn, answered and lost within a window of time.

    An audit is booked where its unit was kept, however late it ends, so that both speak of the same
    population. Invariant: drawn = answered + lost + those on their way. Single-threaded.
    """

    def __init__(self, window_s: float) -> None:
        self._bucket_ns = max(1, round(window_s * _NS_PER_S / _BUCKETS))
        self._buckets: deque[_Bucket] = deque(maxlen=_BUCKETS + 1)

    def keep(self, stratum: Stratum, probability: float, at_ns: int) -> None:
        """Counts a unit that could have been drawn with this probability; instants never fall."""
        number = at_ns // self._bucket_ns
        if not self._buckets or number > self._buckets[-1].number:
            self._buckets.append(_Bucket(number))
        cell = self._buckets[-1].cell(stratum, probability)
        cell.kept += 1
        cell.weight_max = max(cell.weight_max, 1 / probability)

    def draw(self, draw: Draw) -> None:
        """Counts that a kept unit is to be audited."""
        if (cell := self._cell(draw)) is not None:
            cell.drawn += 1

    def answer(self, draw: Draw, *, wrong: bool) -> None:
        """Books an audit that came back; one that is older than the window changes nothing."""
        if (cell := self._cell(draw)) is not None:
            weight = 1 / draw.probability
            cell.answered += 1
            cell.weight += weight
            if wrong:
                cell.wrong += 1
                cell.weight_wrong += weight

    def lose(self, draw: Draw) -> None:
        """Books an audit that ended without an answer."""
        if (cell := self._cell(draw)) is not None:
            cell.lost += 1

    def estimate(self, now_ns: int) -> AuditEstimate:
        """What the window up to now says; some milliseconds of arithmetic."""
        oldest = now_ns // self._bucket_ns - _BUCKETS
        while self._buckets and self._buckets[0].number < oldest:
            self._buckets.popleft()
        strata = {stratum: self._rate_of(stratum) for stratum in Stratum}
        missed = (strata[Stratum.DISMISSED], strata[Stratum.EMPTY])
        return AuditEstimate(
            strata, strata[Stratum.REPORTED], _together(missed), _together(strata.values())
        )

    def _cell(self, draw: Draw) -> _Cell | None:
        number = draw.drawn_at_ns // self._bucket_ns
        for bucket in self._buckets:
            if bucket.number == number:
                return bucket.cell(draw.stratum, draw.probability)
        return None

    def _rate_of(self, stratum: Stratum) -> RateEstimate:
        classes: dict[int, _Cell] = {}
        for bucket in self._buckets:
            for (of_stratum, weight_class), cell in bucket.cells.items():
                if of_stratum is stratum:
                    classes.setdefault(weight_class, _Cell()).add(cell)
        total = _Cell()
        rates = []
        for cell in classes.values():
            total.add(cell)
            rate = weighted_rate(cell.weight_wrong, cell.weight, cell.weight_max)
            rates.append((cell.kept, rate))
        return RateEstimate(
            total.kept, total.drawn, total.answered, total.lost, total.wrong, mixed_rate(rates)
        )


def weighted_rate(weight_wrong: float, weight: float, weight_max: float) -> Interval:
    """The rate in a population of which units were drawn independently, unequally often.

    The point is Hajek's ratio of weights. For the interval, each audit counts as the share of it
    that would be left if all draws were thinned to the least probability: `weight / weight_max` of
    a trial, and a fraction of a success varies less than the success that it is the expectation of.
    With equal probabilities it is the interval of Clopper and Pearson. The customary effective
    sample size, (sum w)^2 / sum w^2, gives narrower ones that do not cover where errors gather in
    what is drawn least.

    Args:
        weight_wrong: Sum of 1 / probability over the audits that found an error.
        weight: The same over all audits.
        weight_max: Largest 1 / probability under which anything was kept, drawn or not.
    """
    if weight <= 0:
        return UNKNOWN
    trials, successes = weight / weight_max, weight_wrong / weight_max
    return Interval(
        lower_bound(successes, trials, _MISS),
        weight_wrong / weight,
        upper_bound(successes, trials, _MISS),
    )


def mixed_rate(parts: Sequence[tuple[int, Interval]]) -> Interval:
    """The rate of a population of which the parts, each with its size, are known independently.

    The ends add up as distances from the point do, in squares (MOVER: Zou and Donner, Statistics in
    Medicine 27, 2008). A part about which nothing is known may be all right or all wrong, and is
    left out of the point.
    """
    size = sum(count for count, _ in parts)
    known = 0
    point = below = above = 0.0
    for count, rate in parts:
        if rate.point is not None:
            share = count / size
            known += count
            point += share * rate.point
            below += (share * (rate.point - rate.low)) ** 2
            above += (share * (rate.high - rate.point)) ** 2
    if not known:
        return UNKNOWN
    low, high = point - math.sqrt(below), point + math.sqrt(above) + (size - known) / size
    return Interval(max(0.0, low), min(1.0, point * size / known), min(1.0, high))


def _together(parts: Collection[RateEstimate]) -> RateEstimate:
    """Strata as one population, in which every kept unit counts once.

    There is no point where nothing is known about one of them: strata do not resemble each other.
    """
    rate = mixed_rate([(part.kept, part.rate) for part in parts])
    if any(part.kept and part.rate.point is None for part in parts):
        rate = replace(rate, point=None)
    return RateEstimate(
        sum(part.kept for part in parts),
        sum(part.drawn for part in parts),
        sum(part.answered for part in parts),
        sum(part.lost for part in parts),
        sum(part.wrong for part in parts),
        rate,
    )
