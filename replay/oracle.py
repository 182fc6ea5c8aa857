"""The best that could have been chosen by someone who knows the labels. A ceiling, not a policy.

mAP is no sum over frames, so the true gain of a choice depends on all others. Gains are taken one
frame at a time, around the edge's own results and again around a good solution, and spent by gain
per byte; of both solutions the better one counts. It is a strong reference and no proven bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.levels import Level
from model_workshop.evaluation.truth import Array
from replay.answers import Ask, whole_ask
from replay.outcomes import Asks, Outcomes, watched

_STEPS = 60
_ANCHOR_SHARE = 0.2
"""Gains are taken anew around the solution for this share of the bytes."""


@dataclass(frozen=True)
class Choices:
    """What may be chosen about each frame; the first is always to ask nothing.

    Attributes:
        options: per frame.
        size_bytes: (frames, options); infinite where a frame has fewer.
    """

    options: tuple[tuple[Asks, ...], ...]
    size_bytes: Array

    @staticmethod
    def of(outcomes: Outcomes, levels: Sequence[str], *, whole: bool, crops: bool) -> Choices:
        """Whole frames, and single crops and all crops of a frame, at every level."""
        table = []
        for position, frame in enumerate(outcomes.frames):
            options: list[Asks] = [()]
            for level in levels:
                if whole:
                    options.append((whole_ask(frame, level),))
                if crops:
                    regions = outcomes.crops(position, Level.parse(level).side_px)
                    asks: Asks = tuple(
                        sorted(Ask((r.x1, r.y1, r.x2, r.y2), level) for r in regions)
                    )
                    options += [(ask,) for ask in asks]
                    options += [asks] if len(asks) > 1 else []
            table.append(tuple(dict.fromkeys(options)))
        width = max(len(options) for options in table)
        size = np.full((len(table), width), np.inf)
        for position, own in enumerate(table):
            size[position, : len(own)] = [outcomes.bytes_of(position, one) for one in own]
        return Choices(tuple(table), size)

    def asks(self, picked: npt.NDArray[np.intp]) -> list[Asks]:
        """The options (frames,) at these places."""
        return [self.options[position][k] for position, k in enumerate(picked.tolist())]


def choose_best(
    outcomes: Outcomes,
    choices: Choices,
    budgets_bytes: Sequence[float],
    what: str,
    also: Sequence[list[Asks]] | None = None,
) -> list[list[Asks]]:
    """The best choices found for each budget; one entry a frame.

    Args:
        outcomes: of the material.
        choices: there are.
        budgets_bytes: rising.
        what: is going on, for the person who waits.
        also: solutions to consider, one a budget.
    """
    nothing = np.zeros(len(outcomes), np.intp)
    first = _true_gains(outcomes, choices, choices.asks(nothing), f"{what}, gains")
    anchor = _spend(first, choices.size_bytes, _ANCHOR_SHARE * outcomes.base_bytes())
    second = _true_gains(outcomes, choices, choices.asks(anchor), f"{what}, gains again")
    best: list[Asks] = choices.asks(nothing)
    reached = _utility(outcomes, best)
    found = []
    for number, budget in enumerate(budgets_bytes):
        candidates = [
            choices.asks(_spend(gains, choices.size_bytes, budget)) for gains in (first, second)
        ]
        candidates += [also[number]] if also is not None else []
        for candidate in candidates:
            utility = _utility(outcomes, candidate)
            if utility > reached:
                best, reached = candidate, utility
        found.append(best)
    return found


def _utility(outcomes: Outcomes, chosen: Sequence[Asks]) -> float:
    matched = [outcomes.matched(position, asks) for position, asks in enumerate(chosen)]
    return outcomes.judge.figures(matched).map50_95


def _true_gains(outcomes: Outcomes, choices: Choices, around: Sequence[Asks], what: str) -> Array:
    """Change (frames, options) of mAP when one frame departs from a solution, less asking nothing.

    What a frame does not have is worth minus infinity.
    """
    gains = np.full(choices.size_bytes.shape, -np.inf)
    matched = [outcomes.matched(position, asks) for position, asks in enumerate(around)]
    for position, options in enumerate(watched(choices.options, what)):
        own = matched[position]
        for k, asks in enumerate(options):
            matched[position] = outcomes.matched(position, asks)
            gains[position, k] = outcomes.judge.figures(matched).map50_95
        matched[position] = own
        gains[position] -= gains[position, 0]
    return gains


def _spend(gains: Array, size: Array, budget: float) -> npt.NDArray[np.intp]:
    """Options (frames,) of most gain within a budget: one price of a byte for all frames."""

    def at(price: float) -> npt.NDArray[np.intp]:
        # Infinite bytes at no price would be no number.
        cost = np.where(np.isfinite(size), price * size, np.inf)
        return np.asarray((gains - cost).argmax(axis=1), np.intp)

    rows = np.arange(len(gains))
    low, high = 0.0, 1.0
    picked = at(high)
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5 if low > 0 else high / 64
        candidate = at(middle)
        if size[rows, candidate].sum() <= budget:
            high, picked = middle, candidate
        else:
            low = middle
    return _filled(picked, gains, size, budget)


def _filled(
    picked: npt.NDArray[np.intp], gains: Array, size: Array, budget: float
) -> npt.NDArray[np.intp]:
    """Spends what a price for all frames leaves over, on the best gain per byte that fits."""
    picked = picked.copy()
    rows = np.arange(len(gains))
    while True:
        left = budget - size[rows, picked].sum()
        more = size - size[rows, picked][:, None]
        better = gains - gains[rows, picked][:, None]
        fits = (more > 0) & (more <= left) & (better > 0)
        if not fits.any():
            return picked
        ratio = np.where(fits, better / np.where(fits, more, 1.0), -np.inf)
        row, option = np.unravel_index(int(ratio.argmax()), ratio.shape)
        picked[row] = option
