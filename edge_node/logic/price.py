"""The price of a byte: the value per byte below which nothing is sent.

A token in the bucket is worth what the next tokens can buy. Let r be the rate, B the burst, D(q)
the units a second on offer at a value per unit above q, and W(q) the variance of that a second.
With h(n) the worth of level n, tokens spent best, and p = h'(n) the price, spending and refilling
balance in

    gain = r p + integral of D above p + W(p) p' / 2,

with p(B) = 0, because a token that spills is worthless. This is the value iteration of a token
bucket (Chakrabarti et al., arXiv 2010.13737) in the limit of crops that are small against the
burst. Without its last term it says that the price is where demand meets the rate; that term makes
the price rise as the bucket empties and fall to 0 as it fills. It is solved for the level at each
price,

    n(p) = B - integral from 0 to p of W(q) / (2 (r q + integral of D above q - gain)) dq,

with the gain such that the bucket is empty at the highest price on offer: one number, found by
Newton's method on one over the depth of the curve, which is concave in it and nearly straight, as
in the secular equation of an eigenvalue.
"""

from __future__ import annotations

import math

import numpy as np

from edge_node.logic.demand import BINS, LOWEST_OCTAVE, PER_OCTAVE, Array, Demand

NS_PER_S = 1_000_000_000

_SUBDIVISION = 2
_STEPS_PER_OCTAVE = PER_OCTAVE * _SUBDIVISION
_PLACES = np.arange(BINS * _SUBDIVISION + 1) / _SUBDIVISION
_PRICES: Array = np.concatenate([[0.0], 2.0 ** (LOWEST_OCTAVE + _PLACES / PER_OCTAVE)])
_STEPS: Array = np.diff(_PRICES)
_STEPS_MAX = 20
_CLOSE = 0.01
"""A last step of this share leaves an error of about its square."""
_LOSS_MIN = 1e-200
REFRESH_S = 1.0


class PriceCurve:
    """The price at every level of one bucket.

    Attributes:
        loss: The gain that was found, as what it falls short of the least worth by; inf: none was.
    """

    def __init__(self, levels: Array, prices: Array, loss: float = math.inf) -> None:
        """Takes (N,) float64 levels that do not fall and the prices there, which do not rise."""
        self._levels = levels
        self._prices = prices
        self.loss = loss

    def price(self, level: float) -> float:
        """Value per unit that the last token of this level is worth."""
        levels, prices = self._levels, self._prices
        # np.interp of one number costs several times what this does.
        above = int(levels.searchsorted(level, "right"))
        if above == 0 or above == len(levels):
            return float(prices[min(above, len(levels) - 1)])
        low, high = float(levels[above - 1]), float(levels[above])
        begins, ends = float(prices[above - 1]), float(prices[above])
        return begins + (ends - begins) * ((level - low) / (high - low))


NO_PRICE = PriceCurve(np.zeros(1), np.zeros(1))
"""While nothing has been offered."""


def price_curve(
    units: Array, variances: Array, rate_per_s: float, burst: float, *, near: float = math.inf
) -> PriceCurve:
    """Solves for the price at every level (see the module).

    Args:
        units: (BINS,) float64, units a second expected at each value per unit.
        variances: (BINS,) float64, their variance a second.
        rate_per_s: Tokens made a second.
        burst: What can be taken from a full bucket.
        near: The loss of a curve that this one is like: from there it takes one step or two.
    """
    occupied = units.nonzero()[0]
    if not occupied.size:
        return NO_PRICE
    count = (int(occupied[-1]) + 1) * _SUBDIVISION + 2
    prices = _PRICES[:count]
    steps = _STEPS[: count - 1]
    above, spread = _above(np.stack([units, variances]), count)
    worth = rate_per_s * prices
    worth[:-1] += ((above[1:] + above[:-1]) * (steps * 0.5))[::-1].cumsum()[::-1]
    excess = worth - worth.min()
    weight = (spread[1:] + spread[:-1]) * (steps * 0.125)
    both = np.zeros(count)
    both[:-1] = weight
    both[1:] += weight

    # The loss is what the gain falls short of the least worth by; at the high end the whole curve
    # is no deeper than the burst. From above the steps overshoot once, from below they rise.
    low = max(1e-12 * float(worth.max()), _LOSS_MIN)
    high = max(low, 2 * float(weight.sum()) / burst)
    loss = min(max(near, low), high)
    for _ in range(_STEPS_MAX):
        inverse = 1.0 / (excess + loss)
        depth, slope = float(both @ inverse), float((both * inverse) @ inverse)
        step = (depth / burst - 1.0) * depth / slope if slope > 0.0 else 0.0
        before, loss = loss, min(max(loss + step, low), high)
        if abs(loss - before) <= _CLOSE * loss:
            break
    inverse = 1.0 / (excess + loss)
    depths = (weight * (inverse[1:] + inverse[:-1]))[::-1]
    # Counted from the empty end: where tokens abound, all levels above the curve are free.
    levels = np.zeros(count)
    depths.cumsum(out=levels[1:])
    levels *= burst / max(burst, levels[-1])
    # What is left of the error must not give a full bucket's last token a price.
    np.minimum(levels, burst, out=levels)
    return PriceCurve(levels, prices[::-1].copy(), loss)


class Pricing:
    """Learns what is on offer to one bucket and says what a token is worth at its level.

    Single-threaded; the curve is drawn anew once a second. What begins together is given different
    times for the first, so that one frame has not to wait for all.

    Attributes:
        demand: What has been on offer.
    """

    def __init__(
        self, rate_per_s: float, burst: float, *, first_refresh_s: float = REFRESH_S
    ) -> None:
        """Takes the rate, what can be taken from a full bucket, and when its curve is first drawn.

        The last is at most `REFRESH_S` after it was first asked for a price.
        """
        self.demand = Demand(burst / rate_per_s)
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._refreshed_at_ns: int | None = None
        self._curve = NO_PRICE
        self._refresh_s = first_refresh_s

    @property
    def refreshed_at_ns(self) -> int | None:
        """When the demand was last aged; None before the first time."""
        return self._refreshed_at_ns

    def restore(self, record: Array, refreshed_at_ns: int) -> None:
        """Takes over another's demand, (RECORD_LENGTH,) float64, aged at that instant."""
        self.demand.record[:] = record
        if refreshed_at_ns != self._refreshed_at_ns:
            self._refreshed_at_ns = refreshed_at_ns
            self._redraw()

    def price(self, level: float, now_ns: int) -> float:
        """Value per unit at this level, now."""
        self.refresh(now_ns)
        return self._curve.price(level)

    def refresh(self, now_ns: int, early_s: float = 0.0) -> None:
        """Draws the curve anew if that is due, or will be within so many seconds."""
        if self._refreshed_at_ns is None:
            self._refreshed_at_ns = now_ns
        elapsed_s = (now_ns - self._refreshed_at_ns) / NS_PER_S
        if not 0.0 <= elapsed_s < self._refresh_s - early_s:
            self.demand.age(max(0.0, elapsed_s))
            self._refreshed_at_ns, self._refresh_s = now_ns, REFRESH_S
            self._redraw()

    def _redraw(self) -> None:
        forecast, near = self.demand.forecast(), self._curve.loss
        self._curve = price_curve(*forecast, self._rate_per_s, self._burst, near=near)


def _above(amounts: Array, count: int) -> Array:
    """Sums over all bins above each of the first prices, linear within a bin.

    Args:
        amounts: (K, BINS) float64.
        count: of prices.

    Returns:
        (K, count) float64.
    """
    edges = np.zeros((len(amounts), BINS + 2))
    edges[:, :BINS] = amounts[:, ::-1].cumsum(axis=1)[:, ::-1]
    halves = np.empty((len(amounts), BINS + 1, _SUBDIVISION))
    halves[:, :, 0] = edges[:, :-1]
    halves[:, :, 1] = (edges[:, :-1] + edges[:, 1:]) / 2
    out = np.empty((len(amounts), count))
    out[:, 0] = edges[:, 0]
    out[:, 1:] = halves.reshape(len(amounts), -1)[:, : count - 1]
    return out
