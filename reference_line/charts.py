"""Charts of the report as inline SVG, coloured by the page's style sheet. Pure.

Every chart has a viewBox and no size, so the page decides; classes `c-…` carry the colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH = 960.0
_LEFT = 58.0
_RIGHT = 12.0
_TOP = 14.0
_BOTTOM = 24.0


@dataclass(frozen=True, slots=True)
class Axes:
    """A plot's area and scales: time or position to the right, a quantity upwards from 0."""

    x_max: float
    y_max: float
    height: float
    width: float = _WIDTH

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        return _LEFT + (self.width - _LEFT - _RIGHT) * value / self.x_max

    def y(self, value: float) -> float:
        """Vertical place of a value; what lies above the top is shown at the top."""
        inside = min(max(value, 0.0), self.y_max)
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * inside / self.y_max


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of a stacked bar."""

    kind: str
    value: float
    text: str


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten, at or above a positive value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999999)


def scatter(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_max: float,
    y_max: float,
    label: Callable[[float], str],
    limit: tuple[float, str] | None = None,
    height: float = 190.0,
    width: float = _WIDTH,
) -> str:
    """Dots over time, in seconds.

    Args:
        series: points (seconds, quantity) by colour class.
        x_max: right end.
        y_max: upper end; what is larger is drawn there.
        label: the quantity in words.
        limit: a horizontal line, and what it is called.
        height: of the drawing.
        width: of the drawing.
    """
    axes = Axes(x_max, y_max, height, width)
    parts = [_grid(axes, label)]
    for kind, points in series.items():
        # A stroke of no length with round ends is a dot, and a thousand dots are one path.
        path = "".join(f"M{axes.x(x):.1f} {axes.y(y):.1f}h0" for x, y in points)
        if path:
            parts.append(f'<path class="dot c-{escape(kind)}" d="{path}"/>')
    if limit is not None:
        parts.append(_limit(axes, *limit))
    return _svg(axes, parts)


def bars_over_time(
    columns: Sequence[Sequence[Bar]],
    *,
    step_s: float,
    x_max: float,
    y_max: float,
    label: Callable[[float], str],
    limit: tuple[float, str] | None = None,
    height: float = 150.0,
    width: float = _WIDTH,
) -> str:
    """Stacked bars, one for every `step_s` seconds.

    Args:
        columns: the parts of each bar, from the bottom up.
        step_s: time that a bar stands for.
        x_max: right end, seconds.
        y_max: upper end.
        label: the quantity in words.
        limit: a horizontal line, and what it is called.
        height: of the drawing.
        width: of the drawing.
    """
    axes = Axes(x_max, y_max, height, width)
    parts = [_grid(axes, label)]
    for position, column in enumerate(columns):
        left, right = axes.x(position * step_s) + 0.8, axes.x((position + 1) * step_s) - 0.8
        base = 0.0
        for bar in column:
            if bar.value <= 0:
                continue
            top, bottom = axes.y(base + bar.value), axes.y(base)
            parts.append(_rectangle(bar, left, top, right - left, bottom - top))
            base += bar.value
    if limit is not None:
        parts.append(_limit(axes, *limit))
    return _svg(axes, parts)


def grouped_bars(
    groups: Sequence[tuple[str, Sequence[Bar]]], *, height: float = 210.0, width: float = 560.0
) -> str:
    """Bars of shares (0 to 1) side by side, in named groups."""
    axes = Axes(float(max(1, len(groups))), 1.0, height, width)
    parts = [_horizontal_lines(axes, lambda share: f"{share:.0%}")]
    for position, (name, bars) in enumerate(groups):
        middle = axes.x(position + 0.5)
        step = min(34.0, (axes.x(1) - axes.x(0)) * 0.8 / max(1, len(bars)))
        left = middle - step * len(bars) / 2
        for order, bar in enumerate(bars):
            top, bottom = axes.y(bar.value), axes.y(0)
            x = left + order * step
            parts.append(_rectangle(bar, x + 1.5, top, step - 3, bottom - top))
            parts.append(
                f'<text class="value" x="{x + step / 2:.1f}" y="{top - 4:.1f}" '
                f'text-anchor="middle">{bar.value * 100:.0f}</text>'
            )
        parts.append(
            f'<text x="{middle:.1f}" y="{height - 7:.1f}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    return _svg(axes, parts)


def _rectangle(bar: Bar, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="c-{escape(bar.kind)}" x="{x:.1f}" y="{y:.1f}" rx="1.5" '
        f'width="{max(0.5, width):.1f}" height="{max(0.5, height):.1f}">'
        f"<title>{escape(bar.text)}</title></rect>"
    )


def _limit(axes: Axes, value: float, name: str) -> str:
    y = axes.y(value)
    return (
        f'<line class="limit" x1="{_LEFT}" x2="{axes.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="limit" x="{axes.width - _RIGHT:.1f}" y="{y - 5:.1f}" '
        f'text-anchor="end">{escape(name)}</text>'
    )


def _horizontal_lines(axes: Axes, label: Callable[[float], str]) -> str:
    parts = []
    for quarter in range(5):
        value = axes.y_max * quarter / 4
        if quarter % 2 == 0:
            parts.append(
                f'<text x="{_LEFT - 8}" y="{axes.y(value) + 4:.1f}" text-anchor="end">'
                f"{escape(label(value))}</text>"
            )
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{axes.width - _RIGHT}" '
            f'y1="{axes.y(value):.1f}" y2="{axes.y(value):.1f}"/>'
        )
    return "".join(parts)


def _grid(axes: Axes, label: Callable[[float], str]) -> str:
    step = max(1.0, nice_ceiling(axes.x_max * 80 / axes.width))
    parts = [_horizontal_lines(axes, label)]
    for tick in range(int(axes.x_max / step + 1e-6) + 1):
        x = axes.x(tick * step)
        anchor = "end" if x > axes.width - _RIGHT - 20 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{axes.height - 7:.1f}" text-anchor="{anchor}">'
            f"{tick * step:g} s</text>"
        )
    return "".join(parts)


def _svg(axes: Axes, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {axes.width:g} {axes.height:g}" role="img">'
        + "".join(parts)
        + "</svg>"
    )
