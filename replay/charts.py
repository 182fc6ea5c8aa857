"""The frontier as inline SVG, coloured by the page's style sheet. Pure.

Bytes run to the right on a logarithmic scale, because budgets do. Drawings have a viewBox and no
size, so the page decides; the classes `own`, `oracle` and `baseline` with `n0`, `n1`, ... within
each carry the colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from model_workshop.evaluation.figures import Estimate
from replay.figures import Curve, Point

COLOURS = 13
"""Curves of one kind beyond that share colours with the first ones."""
_WIDTH, _HEIGHT = 960.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 16.0, 14.0, 44.0
_SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000)
_LINES_MAX = 8


@dataclass(frozen=True, slots=True)
class Axes:
    """Shares of bytes to the right, logarithmic; hundredths of a quantity upwards.

    Attributes:
        x_min: left end, above 0; what is less is drawn there.
        x_max: right end.
        y_min: lower end.
        y_max: upper end.
    """

    x_min: float
    x_max: float
    y_min: float
    y_max: float

    def x(self, share: float) -> float:
        """Horizontal place."""
        inside = min(max(share, self.x_min), self.x_max)
        part = math.log(inside / self.x_min) / math.log(self.x_max / self.x_min)
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * part

    def y(self, value: float) -> float:
        """Vertical place; what lies outside is drawn at the border."""
        inside = min(max(value, self.y_min), self.y_max)
        part = (inside - self.y_min) / (self.y_max - self.y_min)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * part


def frontier(
    curves: Sequence[Curve],
    quantity: Callable[[Point], Estimate],
    title: str,
    levels: Sequence[tuple[float, str]] = (),
) -> str:
    """All curves of a replay in one drawing.

    Args:
        curves: in the order of their legend.
        quantity: what is drawn upwards, as a share.
        title: of the vertical axis.
        levels: horizontal lines, in hundredths, and what they are called.
    """
    places = [
        [(p.share, 100 * one.value) for p in curve.points if (one := quantity(p)).value is not None]
        for curve in curves
    ]
    values = [y for row in places for _, y in row] + [value for value, _ in levels]
    axes = _axes([x for row in places for x, _ in row], values or [0.0, 100.0])
    parts = [_grid(axes, title)]
    parts += [_level(axes, value, name) for value, name in levels]
    for (kind, number), curve, row in zip(classes(curves), curves, places, strict=True):
        name = f"{kind} n{number}"
        if kind == "own":
            parts += [_whisker(axes, name, p.share, quantity(p)) for p in curve.points]
        parts.append(_line(axes, name, curve, [(x, y) for x, y in sorted(row) if x > 0]))
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img">'
        f"<title>{escape(title)} over bytes</title>{''.join(parts)}</svg>"
    )


def classes(curves: Sequence[Curve]) -> list[tuple[str, int]]:
    """Kind and number within the kind of every curve: its classes in the style sheet."""
    counts: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    for curve in curves:
        number = counts.get(curve.kind, 0)
        counts[curve.kind] = number + 1
        found.append((curve.kind, number % COLOURS))
    return found


def _axes(shares: Sequence[float], values: Sequence[float]) -> Axes:
    low, high = min(values), max(values)
    step = next((s for s in _STEPS if (high - low) / s <= _LINES_MAX), _STEPS[-1])
    y_min, y_max = math.floor(low / step) * step, math.ceil(high / step) * step
    if y_max <= y_min:
        y_max = y_min + step
    return Axes(_SHARES[0], max(1.0, *shares, 0.0), y_min, y_max)


def _grid(axes: Axes, title: str) -> str:
    parts = []
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for share in _SHARES:
        x = axes.x(share)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{100 * share:g} %</text>'
        )
    span = axes.y_max - axes.y_min
    step = next((s for s in _STEPS if span / s <= _LINES_MAX), _STEPS[-1])
    for number in range(round(span / step) + 1):
        value = axes.y_min + number * step
        y = axes.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        "bytes that leave the site, share of all frames as JPEG 85</text>"
        f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(title)}</text>"
    )
    return "".join(parts)


def _level(axes: Axes, value: float, name: str) -> str:
    y = axes.y(value)
    return (
        f'<path class="level" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
        f'<text class="level" x="{_LEFT + 6}" y="{y - 5:.1f}">{escape(name)}</text>'
    )


def _whisker(axes: Axes, name: str, share: float, one: Estimate) -> str:
    if one.low is None or one.high is None or share <= 0:
        return ""
    x, low, high = axes.x(share), axes.y(100 * one.low), axes.y(100 * one.high)
    return f'<path class="whisker {name}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'


def _line(axes: Axes, name: str, curve: Curve, row: Sequence[tuple[float, float]]) -> str:
    if not row:
        return ""
    places = [f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in row]
    dots = "".join(f"M{place}h0" for place in places)
    return (
        f'<g class="{name}"><title>{escape(curve.name)}: {escape(curve.about)}</title>'
        f'<path class="curve" d="M{"L".join(places)}"/><path class="dot" d="{dots}"/></g>'
    )
