"""Bounds on a probability from counts that promise to cover it. Pure arithmetic, no tables.

Counts may be fractions, because weighted counts are; at whole counts the bounds are those of
Clopper and Pearson (Biometrika 26, 1934), which cover at least as often as they promise.
"""

from __future__ import annotations

import math

_BISECTIONS = 64
_FRACTION_TERMS = 20_000
_CONVERGED = 1e-14
_TINY = 1e-300


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), for positive a and b."""
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        # Where the fraction converges slowly, that of the mirror image converges fast.
        return 1.0 - _by_fraction(1 - x, b, a)
    return _by_fraction(x, a, b)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which `beta_cdf` reaches a probability, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def lower_bound(successes: float, trials: float, miss: float) -> float:
    """What the probability is at least; wrong in a share `miss` of all samples, at most."""
    if successes <= 0:
        return 0.0
    return beta_quantile(miss, successes, trials - successes + 1)


def upper_bound(successes: float, trials: float, miss: float) -> float:
    """What the probability is at most; wrong in a share `miss` of all samples, at most."""
    if successes >= trials:
        return 1.0
    return beta_quantile(1 - miss, successes + 1, trials - successes)


def _by_fraction(x: float, a: float, b: float) -> float:
    """I_x(a, b) by the continued fraction DLMF 8.17.22, forwards (the modified Lentz method)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(scale + a * math.log(x) + b * math.log1p(-x)) / a
    upper = 1.0
    lower = 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = lower
    for m in range(1, _FRACTION_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            lower = 1.0 / _away_from_zero(1 + term * lower)
            upper = _away_from_zero(1 + term / upper)
            value *= lower * upper
        if abs(lower * upper - 1) < _CONVERGED:
            break
    return min(1.0, front * value)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
