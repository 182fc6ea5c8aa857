"""Rules of choosing what to ask, each with one dial that goes from sparing to lavish.

A rule sees frames as the edge sees them. Where its dial stands is settled on calibration material
alone, by the bytes that it really sends there. The rules of others are written down from what is
published about them, as far as one dial can express them; whole frames and crops at JPEG 85, as
they send them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from foundation.escalations import Region
from foundation.frames import Detections
from replay.answers import Ask, inside_of
from replay.outcomes import BASE_LEVEL, Asks
from replay.views import Part, View, jitter

Setting = Any
"""Where a rule's dial stands; only the rule itself knows what it means."""
Offer = tuple[Ask, float]
"""A question, and how much it is preferred."""

_TIE = 1e-7
_SURE = 0.5
_BOX_HARD = 0.5
"""Sedna's default: a box at or below this score is a hard one."""
_COOLDOWN_S = 2.0
_NEVER = -np.inf


class Policy(Protocol):
    """A rule with one dial."""

    @property
    def name(self) -> str:
        """What the tables call it."""
        ...

    @property
    def about(self) -> str:
        """Where it comes from, in a sentence."""
        ...

    @property
    def own(self) -> bool:
        """Whether it is ours; the others are what a claim must beat."""
        ...

    def settings(self, part: Part) -> Sequence[Setting]:
        """Positions of the dial, from sparing to lavish, fitted on a part."""
        ...

    def choose(self, views: Sequence[View], setting: Setting) -> list[Asks]:
        """What is asked about each of some frames in order."""
        ...


@dataclass(frozen=True)
class Ranked:
    """Asks whatever is preferred at least as much as the dial says."""

    name: str
    about: str
    offers: Callable[[View], list[Offer]]
    own: bool = False

    def settings(self, part: Part) -> Sequence[Setting]:
        """Every preference that occurs, from the highest down."""
        found = {preference for view in part.views for _, preference in self._offers(view)}
        return [np.inf, *sorted(found, reverse=True)]

    def choose(self, views: Sequence[View], setting: Setting) -> list[Asks]:
        """What is preferred enough."""
        return [
            tuple(ask for ask, preference in self._offers(view) if preference >= setting)
            for view in views
        ]

    def _offers(self, view: View) -> list[Offer]:
        """Offers with equal preferences told apart by chance; what is never asked is left out."""
        return [
            (ask, preference + _TIE * jitter(self.name, view.name, number))
            for number, (ask, preference) in enumerate(self.offers(view))
            if preference > _NEVER
        ]


@dataclass(frozen=True)
class CoolingDown:
    """Asks about frames that are preferred enough, not sooner than a while after the last."""

    ranked: Ranked
    own: bool = False

    @property
    def name(self) -> str:
        """As in tables."""
        return self.ranked.name

    @property
    def about(self) -> str:
        """Where it comes from."""
        return self.ranked.about

    def settings(self, part: Part) -> Sequence[Setting]:
        """Those of the rule without a pause."""
        return self.ranked.settings(part)

    def choose(self, views: Sequence[View], setting: Setting) -> list[Asks]:
        """What is preferred enough and not too soon; still images have no time."""
        chosen: list[Asks] = []
        last_s = -np.inf
        for view, asks in zip(views, self.ranked.choose(views, setting), strict=True):
            timed = bool(asks) and view.moment_s is not None
            if timed and 0 <= (view.moment_s or 0.0) - last_s < _COOLDOWN_S:
                chosen.append(())
                continue
            if timed:
                last_s = view.moment_s or 0.0
            chosen.append(asks)
        return chosen


@dataclass(frozen=True)
class AllFrames:
    """Sends every frame, at the levels that are worth most for their bytes on calibration.

    The dial runs along the upper hull of (bytes, utility) of all levels: below the cheapest level
    of the hull some frames are left out, between two levels some have the better one, by chance.
    """

    levels: tuple[str, ...]
    name: str = "all frames, best codec"
    about: str = "No selection: only the codec, its quality and scale follow the budget."
    own: bool = False

    def settings(self, part: Part) -> Sequence[Setting]:
        """Pairs of levels with the share of frames that have the better one."""
        points: list[tuple[float, float, str]] = [
            (0.0, part.utility([()] * len(part.positions)), "")
        ]
        for level in dict.fromkeys([*self.levels, BASE_LEVEL]):
            choices = part.at(level)
            points.append((part.bytes_of(choices), part.utility(choices), level))
        hull = _upper_hull(points)
        shares = [k / 40 for k in range(41)]
        pairs = itertools.pairwise(hull)
        return [(low[2], high[2], share) for low, high in pairs for share in shares] or [
            ("", "", 0.0)
        ]

    def choose(self, views: Sequence[View], setting: Setting) -> list[Asks]:
        """Every frame at one of two levels."""
        low, high, share = setting
        chosen: list[Asks] = []
        for view in views:
            level = high if jitter(self.name, view.name) < share else low
            chosen.append((Ask((0, 0, *view.size), level),) if level else ())
        return chosen


def baselines(levels: Sequence[str], *, crops: bool) -> list[Policy]:
    """The rules that a claim must beat.

    Args:
        levels: that all frames may be sent at.
        crops: whether there are rules about crops.
    """
    rules: list[Policy] = [
        Ranked("frames at random", "Chance.", _frame(lambda view: jitter("frame", view.name))),
        Ranked("frames, lowest score", "The least sure detection.", _frame(_lowest)),
        Ranked("frames, mean score", "Sedna's threshold rule: mean score below t.", _frame(_mean)),
        Ranked("frames, IBT", "Sedna: share of boxes with a score of 0.5 or less.", _frame(_ibt)),
        Ranked("frames, entropy", "Sedna: entropy of the scores, normalized.", _frame(_entropy)),
        Ranked("frames, box count", "DCSB-like: how many boxes are not sure.", _frame(_count)),
        Ranked("frames, p(1-p)", "Sum of the variances of the detections.", _frame(_variance)),
        CoolingDown(
            Ranked(
                "frames, threshold and pause",
                "Groundlight-like: confidence below t, and 2 s between questions of a video.",
                _frame(_lowest),
            )
        ),
        AllFrames(tuple(levels)),
    ]
    if crops:
        rules += [
            Ranked("crops at random", "Chance.", _crop(lambda _: 0.0)),
            Ranked("crops, lowest score", "The least sure proposal.", _crop(_least)),
            Ranked("crops, |p-0.5|", "The proposal nearest to a toss-up.", _crop(_margin)),
            Ranked("crops, p(1-p)", "Sum of the variances of the proposals.", _crop(_spread)),
        ]
    return rules


def _frame(preference: Callable[[View], float]) -> Callable[[View], list[Offer]]:
    return lambda view: [(Ask((0, 0, *view.size), BASE_LEVEL), preference(view))]


def _crop(preference: Callable[[Detections], float]) -> Callable[[View], list[Offer]]:
    def offers(view: View) -> list[Offer]:
        return [
            (_ask(region), preference(view.proposals.take(inside_of(view.proposals, region))))
            for region in view.crops
        ]

    return offers


def _ask(region: Region) -> Ask:
    return Ask((region.x1, region.y1, region.x2, region.y2), BASE_LEVEL)


def _lowest(view: View) -> float:
    return -float(view.doubtful.scores.min()) if len(view.doubtful) else _NEVER


def _mean(view: View) -> float:
    return -float(view.doubtful.scores.mean()) if len(view.doubtful) else _NEVER


def _ibt(view: View) -> float:
    return float((view.doubtful.scores <= _BOX_HARD).mean()) if len(view.doubtful) else _NEVER


def _entropy(view: View) -> float:
    scores = np.clip(view.doubtful.scores, 1e-6, 1)
    if len(scores) == 0:
        return _NEVER
    return -float((scores * np.log(scores)).sum() / np.log(max(2, len(scores))))


def _count(view: View) -> float:
    return float((view.doubtful.scores < _SURE).sum())


def _variance(view: View) -> float:
    return float((view.seen.scores * (1 - view.seen.scores)).sum())


def _least(proposals: Detections) -> float:
    return -float(proposals.scores.min(initial=1.0))


def _margin(proposals: Detections) -> float:
    return -float(np.abs(proposals.scores - _SURE).min(initial=1.0))


def _spread(proposals: Detections) -> float:
    return float((proposals.scores * (1 - proposals.scores)).sum())


def _upper_hull(points: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Points of the concave upper hull that rises from the first, by bytes."""
    hull: list[tuple[float, float, str]] = []
    for point in sorted(points, key=lambda one: (one[0], -one[1])):
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], point) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(low: tuple[float, float, str], high: tuple[float, float, str]) -> float:
    return (high[1] - low[1]) / max(high[0] - low[0], 1e-9)
