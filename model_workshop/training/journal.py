"""The log of a training run, and the learning curve that is drawn from it.

The curve is a small SVG of its own making: three panels over the steps, with what was logged last
at the end of each line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

Line = dict[str, float]
Point = tuple[float, float]

LOG = "log.jsonl"
CURVE = "curve.svg"

_WIDTH, _PANEL, _LEFT, _RIGHT, _TOP, _GAP = 720, 130, 56, 96, 30, 44
_PANELS = (("heatmap_loss", "box_loss", "imitation_loss"), ("val_f1",), ("rate",))
_TITLES = ("loss of training samples", "best F1 on validation samples", "learning rate")
_COLOURS = {
    "heatmap_loss": "#1f6feb",
    "box_loss": "#bf5700",
    "imitation_loss": "#6f42c1",
    "val_f1": "#1a7f37",
    "rate": "#57606a",
}


class Journal:
    """`log.jsonl` of a run's folder, one line a stretch of steps, with `curve.svg` beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, line: Line) -> None:
        """Appends a line, tells it, and draws the curve anew."""
        text = json.dumps(line)
        with (self._folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        print(text, flush=True)
        (self._folder / CURVE).write_text(draw_curve(self.lines()), encoding="utf-8")

    def lines(self) -> list[Line]:
        """What was logged, by step; of a stretch that was trained twice after a cut, the last."""
        text = (self._folder / LOG).read_text(encoding="utf-8")
        found: list[Line] = [json.loads(line) for line in text.splitlines()]
        return sorted({line["step"]: line for line in found}.values(), key=lambda one: one["step"])


def draw_curve(lines: Sequence[Line]) -> str:
    """The learning curve as SVG."""
    parts = []
    last = max(1.0, lines[-1]["step"])
    for number, (names, title) in enumerate(zip(_PANELS, _TITLES, strict=True)):
        top = _TOP + number * (_PANEL + _GAP)
        rows = {name: [(one["step"], one[name]) for one in lines if name in one] for name in names}
        # A loss that is nothing throughout belongs to a part that the run does not have.
        curves = {name: points for name, points in rows.items() if any(y for _, y in points)}
        parts.append(_text(_LEFT, top - 8, title, anchor="start"))
        if curves:
            parts += _panel(curves, top, last)
    height = _TOP + len(_PANELS) * (_PANEL + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(curves: dict[str, list[Point]], top: int, last: float) -> list[str]:
    values = [y for points in curves.values() for _, y in points]
    low, high = min(values), max(values)
    spread = (high - low) or abs(high) or 1.0
    right, bottom = _WIDTH - _RIGHT, top + _PANEL
    parts = [
        f'<path d="M{_LEFT} {top}V{bottom}H{right}" fill="none" stroke="#8c959f"/>',
        _text(_LEFT - 6, top + 8, f"{high:.3g}"),
        _text(_LEFT - 6, bottom, f"{low:.3g}"),
        _text(right, bottom + 14, f"step {last:g}"),
    ]
    for name, points in curves.items():
        place = [
            (_LEFT + x / last * (right - _LEFT), bottom - (y - low) / spread * _PANEL)
            for x, y in points
        ]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in place)
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{_COLOURS[name]}" stroke-width="1.5"/>'
        )
        end_x, end_y = place[-1]
        label = f"{name.replace('_', ' ')} {points[-1][1]:.3g}"
        parts.append(_text(end_x + 4, end_y + 4, label, anchor="start", fill=_COLOURS[name]))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "end", fill: str = "#24292f") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'
