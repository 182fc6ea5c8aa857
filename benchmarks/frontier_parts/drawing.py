"""The frontier as a stand-alone SVG: bytes to the right, logarithmic, the gap upwards. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT = 1080.0, 560.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 330.0, 16.0, 46.0
_X = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)
_Y_MIN, _Y_MAX, _Y_STEP = -0.25, 2.0, 0.25
_COLOURS = {
    "own": ("#0b6bcb",),
    "oracle": ("#111111", "#777777"),
    "track": ("#d9730d", "#b8860b", "#c2410c", "#a16207", "#e0a030"),
    "frame": (
        "#2e7d32",
        "#558b2f",
        "#00838f",
        "#6a1b9a",
        "#ad1457",
        "#795548",
        "#5c6bc0",
        "#00897b",
        "#8e24aa",
        "#43a047",
        "#7cb342",
    ),
    "ablation": ("#9e9e9e", "#bdbdbd", "#90a4ae", "#b0a090"),
}


def draw(rows: Sequence[Mapping[str, Any]], edge_f1: float, cloud_f1: float) -> str:
    """All curves with their 95 % intervals where they are the product's own.

    Args:
        rows: as in the JSON of the benchmark.
        edge_f1: what a gap of 0 stands for.
        cloud_f1: what a gap of 1 stands for.
    """
    parts = [_grid()]
    parts += [
        _level(0.0, f"the edge alone, F1 {edge_f1:.3f}"),
        _level(1.0, f"the cloud on everything, F1 {cloud_f1:.3f}"),
    ]
    numbers: dict[str, int] = {}
    for place, row in enumerate(rows):
        number = numbers.get(row["kind"], 0)
        numbers[row["kind"]] = number + 1
        colours = _COLOURS[row["kind"]]
        parts.append(_curve(row, colours[number % len(colours)], place))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img">'
        "<title>Gap recovered over bytes that leave the site</title>"
        f'<rect width="{_WIDTH:g}" height="{_HEIGHT:g}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _x(share: float) -> float:
    inside = min(max(share, _X[0]), _X[-1])
    part = math.log(inside / _X[0]) / math.log(_X[-1] / _X[0])
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * part


def _y(value: float) -> float:
    inside = min(max(value, _Y_MIN), _Y_MAX)
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (inside - _Y_MIN) / (_Y_MAX - _Y_MIN)


def _grid() -> str:
    parts, bottom, right = [], _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for share in _X:
        x = _x(share)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#e5e5e5"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{100 * share:g} %</text>'
        )
    for number in range(round((_Y_MAX - _Y_MIN) / _Y_STEP) + 1):
        value = _Y_MIN + number * _Y_STEP
        parts.append(f'<path d="M{_LEFT} {_y(value):.1f}H{right}" stroke="#e5e5e5"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{_y(value) + 4:.1f}" text-anchor="end">{value:.0%}</text>'
        )
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "bytes that leave the site, share of all frames as JPEG 85</text>"
    )
    return "".join(parts)


def _level(value: float, name: str) -> str:
    y = _y(value)
    return (
        f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#555" stroke-dasharray="4 4"/>'
        f'<text x="{_LEFT + 6}" y="{y - 5:.1f}" fill="#555">{escape(name)}</text>'
    )


def _curve(row: Mapping[str, Any], colour: str, place: int) -> str:
    points = sorted(
        (point["share"], point["recovered"]) for point in row["points"] if point["share"] > 0
    )
    parts = []
    width = 3 if row["kind"] == "own" else 1.6
    path = "L".join(f"{_x(share):.1f} {_y(one['value']):.1f}" for share, one in points)
    if points:
        parts.append(
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{width}">'
            f"<title>{escape(row['name'])}</title></path>"
        )
    if row["kind"] == "own":
        parts += [
            f'<path d="M{_x(share):.1f} {_y(one["low"]):.1f}V{_y(one["high"]):.1f}" '
            f'stroke="{colour}" stroke-opacity="0.45"/>'
            for share, one in points
        ]
    x, y = _WIDTH - _RIGHT + 14, _TOP + 12 + 19 * place
    parts.append(
        f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="{width}"/>'
        f'<text x="{x + 24}" y="{y}">{escape(row["name"])}</text>'
    )
    return "".join(parts)
