"""Charts of the page as inline SVG, coloured by its style sheet. Pure.

Every chart has a viewBox and no size, so the page decides; the classes `b0`, `b1`, ... are the
bundles in order and carry their colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from model_workshop.evaluation.figures import Curve, Estimate, Reliability
from model_workshop.evaluation.wording import interval, points

COLOURS = 8
"""Bundles beyond that share colours with the first ones."""
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Square:
    """A plot of shares against shares: 0 to 1 to the right and upwards.

    Attributes:
        side: of the plotted area.
        left: room for numbers and the vertical title.
        bottom: room for numbers and the horizontal title.
        edge: room at the top and on the right.
    """

    side: float = 260.0
    left: float = 40.0
    bottom: float = 36.0
    edge: float = 14.0

    def x(self, share: float) -> float:
        """Horizontal place."""
        return self.left + self.side * share

    def y(self, share: float) -> float:
        """Vertical place."""
        return self.edge + self.side * (1.0 - share)

    def path(self, pairs: Sequence[tuple[float, float]]) -> str:
        """A line through pairs of shares, as path data."""
        places = [f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in pairs]
        return "M" + "L".join(places) if places else ""

    def drawing(self, parts: Sequence[str], horizontal: str, vertical: str) -> str:
        """The plot with its grid, numbers and titles."""
        height = self.edge + self.side + self.bottom
        middle = self.edge + self.side / 2
        titles = (
            f'<text x="{self.x(0.5):.1f}" y="{height - 3:.1f}" text-anchor="middle">'
            f"{escape(horizontal)}</text>"
            f'<text transform="translate(10 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(vertical)}</text>"
        )
        return _svg(
            self.left + self.side + self.edge,
            height,
            [self._grid(), titles if horizontal else "", *parts],
        )

    def _grid(self) -> str:
        parts = []
        for tick in _TICKS:
            x, y = self.x(tick), self.y(tick)
            parts.append(
                f'<path class="grid" d="M{x:.1f} {self.y(0):.1f}V{self.y(1):.1f}'
                f'M{self.x(0):.1f} {y:.1f}H{self.x(1):.1f}"/>'
            )
            if tick in {0.0, 0.5, 1.0}:
                parts.append(
                    f'<text x="{x:.1f}" y="{self.y(0) + 14:.1f}" text-anchor="middle">'
                    f"{100 * tick:.0f}</text>"
                    f'<text x="{self.x(0) - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">'
                    f"{100 * tick:.0f}</text>"
                )
        return "".join(parts)


def precision_recall(curves: Sequence[Curve | None], *, small: bool = False) -> str:
    """Precision over recall at IoU 0.5, one line a bundle; None where a bundle has none."""
    square = Square(side=120, left=26, bottom=18, edge=10) if small else Square()
    parts = []
    for position, curve in enumerate(curves):
        if curve is None:
            continue
        pairs = [(index / 100, share) for index, share in enumerate(curve.precision)]
        # Beyond the largest recall there is no precision; a line along zero would claim one.
        while len(pairs) > 1 and pairs[-1][1] == 0:
            pairs.pop()
        parts.append(f'<path class="curve b{position % COLOURS}" d="{square.path(pairs)}"/>')
    titles = ("", "") if small else ("recall, %", "precision, %")
    return square.drawing(parts, *titles)


def reliability_plot(raw: Reliability, calibrated: Reliability, position: int) -> str:
    """Share of right detections over mean score, before and after calibration."""
    square, colour = Square(), f"b{position % COLOURS}"
    parts = [f'<path class="ideal" d="{square.path([(0, 0), (1, 1)])}"/>']
    for kind, measured in (("raw", raw), ("calibrated", calibrated)):
        pairs = [(one.score, one.right) for one in measured.bins]
        parts.append(f'<path class="curve {kind} {colour}" d="{square.path(pairs)}"/>')
        most = max((one.detections for one in measured.bins), default=1)
        for one in measured.bins:
            radius = 2.5 + 4.5 * (one.detections / most) ** 0.5
            parts.append(
                f'<circle class="{kind} {colour}" cx="{square.x(one.score):.1f}" '
                f'cy="{square.y(one.right):.1f}" r="{radius:.1f}"><title>{kind}: '
                f"{one.detections} detections, mean score {100 * one.score:.1f}, "
                f"{100 * one.right:.1f} % right</title></circle>"
            )
    return square.drawing(parts, "mean score, %", "right, %")


def forest(estimates: Sequence[Estimate], *, width: float = 240.0) -> str:
    """Figures with their intervals on a line from 0 to 100, one above the other."""
    step, edge = 11.0, 6.0
    height = max(40.0, 2 * edge + step * len(estimates))
    ticks = "".join(f"M{edge + (width - 2 * edge) * tick:.1f} 0V{height:.1f}" for tick in _TICKS)
    parts = [f'<path class="grid" d="{ticks}"/>']
    for position, one in enumerate(estimates):
        if one.value is None:
            continue
        y = height / 2 + step * (position - (len(estimates) - 1) / 2)
        colour = f"b{position % COLOURS}"
        x = edge + (width - 2 * edge) * one.value
        if one.low is not None and one.high is not None:
            low, high = (edge + (width - 2 * edge) * end for end in (one.low, one.high))
            parts.append(f'<path class="span {colour}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>')
        parts.append(
            f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.6"><title>'
            f"{points(one)} ({interval(one)})</title></circle>"
        )
    return _svg(width, height, parts)


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img">'
        + "".join(parts)
        + "</svg>"
    )
