"""The good board: motifs that fill cells of a board with legitimate copper.

Invariants that keep the truth honest.  Nothing here may look like a defect: every trace ends in a
land or a pad at least as wide as itself, no trace is shorter than four times its width, separate
copper keeps ``CLEARANCE_PX``, and motifs stay inside their cell, whose neighbours keep their
distance.  Legitimate look-alikes are wanted: solid vias, dog-bones, concave corners, slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from reference_line.artwork import Artwork, Cell, Point, chamfered, fill_disc, offset_path

CLEARANCE_PX: Final = 5.0
_CELL_MARGIN_PX: Final = 9.0

Motif = Callable[[Cell, np.random.Generator], None]


def _end_with_land(
    cell: Cell, rng: np.random.Generator, at: Point, radius: float, kind: float
) -> None:
    """End a trace in a drilled, an open solid or a tented solid via, by ``kind`` in 0..1."""
    if kind < 0.45:
        drill = max(2.5, radius * rng.uniform(0.42, 0.5))
        cell.land(at, radius, drill, tented=False)
    else:
        cell.land(at, radius, 0.0, tented=kind > 0.7)


def _bundle(cell: Cell, rng: np.random.Generator, path: list[Point], room: float) -> None:
    """Run parallel traces along ``path``, filling ``room`` px to its right, lands at both ends."""
    width = float(rng.choice([5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0]))
    gap = float(rng.uniform(6.0, 9.0) + 0.45 * width * rng.uniform(0.2, 1.2))
    pitch = width + gap
    radius = float(np.clip(pitch - width / 2 - CLEARANCE_PX, width / 2 + 1.5, 12.0))
    count = max(2, int((room - 2 * radius) / pitch))
    kind = rng.random()
    stagger = 2 * radius + CLEARANCE_PX
    for k in range(count):
        line = offset_path(path, radius + k * pitch)
        retreat = radius + (k % 2) * stagger
        if min(_length(line[0], line[1]), _length(line[-2], line[-1])) < retreat + 12.0:
            continue
        line[0] = _toward(line[0], line[1], retreat)
        line[-1] = _toward(line[-1], line[-2], retreat)
        cell.trace(line, width)
        _end_with_land(cell, rng, line[0], radius, kind)
        _end_with_land(cell, rng, line[-1], radius, kind)


def _toward(start: Point, goal: Point, distance: float) -> Point:
    dx, dy = goal[0] - start[0], goal[1] - start[1]
    norm = float(np.hypot(dx, dy))
    return (start[0] + dx / norm * distance, start[1] + dy / norm * distance)


def _length(start: Point, end: Point) -> float:
    return float(np.hypot(end[0] - start[0], end[1] - start[1]))


def draw_bus(cell: Cell, rng: np.random.Generator) -> None:
    """Draw a bus of parallel traces with one or two 45 degree jogs."""
    w, h = cell.width, cell.height
    jog = float(rng.uniform(0.0, 0.35) * h) if rng.random() < 0.85 else 0.0
    if jog < 24.0:
        _bundle(cell, rng, [(0.0, 0.0), (w, 0.0)], h)
        return
    room = h - jog
    first = float(rng.uniform(0.35, 0.5)) * w
    slack = w - first - jog
    # The bundle lies right of (below) the path, where a downward jog begins earlier.
    if slack < 80.0 or first - 0.42 * room < 60.0:
        _bundle(cell, rng, [(0.0, 0.0), (w, 0.0)], h)
        return
    _bundle(cell, rng, [(0.0, 0.0), (first, 0.0), (first + jog, jog), (w, jog)], room)


def draw_corner(cell: Cell, rng: np.random.Generator) -> None:
    """Draw nested traces that turn a mitred corner, as around a connector."""
    w, h = cell.width, cell.height
    cut = float(rng.uniform(0.45, 0.6)) * min(w, h)
    room = min(w, h) * float(rng.uniform(0.4, 0.52))
    _bundle(cell, rng, [(0.0, 0.0), (w - cut, 0.0), (w, cut), (w, h)], room)
    inner = min(w, h) - room - 46.0
    if inner > 50.0:
        size = min(inner * 0.5, 34.0)
        centre = (size + 8.0, h - size - 8.0)
        cell.land(centre, size * 0.8, size * 0.38, tented=False)


def draw_meander(cell: Cell, rng: np.random.Generator) -> None:
    """Draw serpentine traces between two lands."""
    w, h = cell.width, cell.height
    width = float(rng.choice([5.0, 6.0, 8.0]))
    step = width + float(rng.uniform(7.0, 14.0))
    rows = max(1, int(h / 96.0))
    for row in range(rows):
        top, bottom = row * h / rows + 14.0, (row + 1) * h / rows - 14.0
        middle, cut = (top + bottom) / 2, step * 0.3
        points: list[Point] = [(14.0, middle), (52.0, middle)]
        x, upward = 52.0 + step, True
        points.append((x - cut, middle))
        while x + step < w - 60.0:
            edge = top if upward else bottom
            sign = -1.0 if upward else 1.0
            first = points[-1][1]
            points += [(x, first + sign * cut), (x, edge - sign * cut), (x + cut, edge)]
            points.append((x + step - cut, edge))
            x, upward = x + step, not upward
        sign = -1.0 if upward else 1.0
        first = points[-1][1]
        points += [(x, first + sign * cut), (x, middle - sign * cut), (x + cut, middle)]
        points.append((w - 14.0, middle))
        cell.trace(points, width)
        for end in (points[0], points[-1]):
            _end_with_land(cell, rng, end, 12.0, rng.random())


def draw_package(cell: Cell, rng: np.random.Generator) -> None:
    """Draw rows of rectangular pads with dog-bones to vias, and the part's silkscreen."""
    w, h = cell.width, cell.height
    pitch = float(rng.uniform(24.0, 36.0))
    pad_width = pitch * float(rng.uniform(0.42, 0.58))
    pad_length = float(rng.uniform(26.0, 44.0))
    escape = float(rng.uniform(26.0, 36.0))
    radius = min(float(rng.uniform(7.5, 10.0)), pitch - 4.0 - CLEARANCE_PX)
    trace_width = float(rng.uniform(5.0, 7.0))
    count = int((w - 24.0) / pitch)
    body = h - 2 * (pad_length + escape + 2 * radius + 24.0)
    sides = (False, True) if body > 30.0 else (False,)
    cut = pad_width * float(rng.choice([0.0, 0.2, 0.35]))
    solid = rng.random() < 0.5
    for flipped in sides:
        for k in range(count):
            x = 12.0 + pitch * (k + 0.5)
            reach = escape + (k % 2) * (2 * radius + CLEARANCE_PX)
            inner = radius + 4.0 + escape + 2 * radius + CLEARANCE_PX
            connected = rng.random() < 0.8
            top, bottom = inner, inner + pad_length
            via = inner - reach
            if flipped:
                top, bottom, via = h - bottom, h - top, h - via
            if connected:
                cell.trace([(x, (top + bottom) / 2), (x, via)], trace_width)
                cell.land((x, via), radius, 0.0 if solid else radius * 0.45, tented=solid)
            cell.pad(chamfered(x - pad_width / 2, top, x + pad_width / 2, bottom, cut))
    if len(sides) == 2:
        low = radius + 4.0 + escape + 2 * radius + CLEARANCE_PX + pad_length + 8.0
        if h - 2 * low > 16.0:
            frame = chamfered(14.0, low, w - 14.0, h - low, 8.0)
            cell.mark([*frame, frame[0]], 2.0)


def draw_connector(cell: Cell, rng: np.random.Generator) -> None:
    """Draw a field of annular lands, some linked, with traces that run between the columns."""
    w, h = cell.width, cell.height
    pitch = float(rng.uniform(52.0, 72.0))
    radius = pitch * float(rng.uniform(0.24, 0.31))
    drill = radius * float(rng.uniform(0.42, 0.55))
    columns, rows = int(w / pitch), int(h / pitch)
    link_width = float(rng.choice([6.0, 8.0, 10.0, 13.0]))
    channel = pitch - 2 * radius
    thin = float(rng.uniform(5.0, 6.5))
    square = rng.random() < 0.3
    for i in range(columns):
        x = pitch * (i + 0.5)
        for j in range(rows):
            y = pitch * (j + 0.5)
            if j + 1 < rows and rng.random() < 0.35:
                cell.trace([(x, y), (x, y + pitch)], link_width)
            if square and i == 0:
                cell.pad(chamfered(x - radius, y - radius, x + radius, y + radius, 2.0))
            cell.land((x, y), radius, drill, tented=False)
        if i + 1 < columns and channel > thin + 2 * CLEARANCE_PX and rng.random() < 0.7:
            middle = x + pitch / 2
            end = min(channel / 2 - CLEARANCE_PX, 6.5)
            cell.trace([(middle, 10.0), (middle, rows * pitch - 10.0)], thin)
            for y in (10.0, rows * pitch - 10.0):
                cell.land((middle, y), max(end, thin / 2 + 1.0), 0.0, tented=True)


def draw_plane(cell: Cell, rng: np.random.Generator) -> None:
    """Draw a copper area with concave corners, slots, clearances and vias."""
    w, h = cell.width, cell.height
    notch_x, notch_y = rng.uniform(0.15, 0.4) * w, rng.uniform(0.15, 0.4) * h
    cut = float(rng.uniform(8.0, 26.0))
    cell.pour(
        [
            (cut, 2.0),
            (w - notch_x, 2.0),
            (w - notch_x, notch_y - 12.0),
            (w - notch_x + 12.0, notch_y),
            (w - 2.0, notch_y),
            (w - 2.0, h - cut),
            (w - cut, h - 2.0),
            (2.0, h - 2.0),
            (2.0, cut),
        ]
    )
    if notch_x > 60.0 and notch_y > 60.0:
        at = (w - notch_x / 2 + 4.0, notch_y / 2 - 4.0)
        cell.land(at, min(notch_x, notch_y) * 0.24, 7.0, tented=False)
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(w * h / 9000.0) + 2):
        kind, reach = rng.random(), float(rng.uniform(16.0, 28.0))
        x, y = float(rng.uniform(40.0, w - 40.0)), float(rng.uniform(40.0, h - 40.0))
        in_notch = x > w - notch_x - 40.0 and y < notch_y + 40.0
        if in_notch or any(np.hypot(x - a, y - b) < reach + r + 14.0 for a, b, r in taken):
            continue
        taken.append((x, y, reach))
        if kind < 0.35:
            cell.clear_disc((x, y), reach * 0.8)
            cell.land((x, y), reach * 0.8 - 6.5, reach * 0.22, tented=False)
        elif kind < 0.6:
            half = float(rng.uniform(3.5, 6.0))
            cell.pour(chamfered(x - reach, y - half, x + reach, y + half, half * 0.6), 0)
        elif kind < 0.8:
            cell.land((x, y), 9.0, 4.0, tented=False)
        else:
            inner = reach * 0.55
            cell.clear_disc((x, y), inner + 6.0)
            cell.trace([(x - reach, y), (x + reach, y)], 7.0)
            cell.trace([(x, y - reach), (x, y + reach)], 7.0)
            cell.land((x, y), inner, inner * 0.5, tented=False)


def draw_passives(cell: Cell, rng: np.random.Generator) -> None:
    """Draw two-pad parts with wide escapes, test points, fiducials and text."""
    w, h = cell.width, cell.height
    pitch_x, pitch_y = 104.0, 76.0
    for i in range(int(w / pitch_x)):
        for j in range(int(h / pitch_y)):
            x, y = pitch_x * i + 10.0, pitch_y * j + 24.0
            kind = rng.random()
            if kind < 0.5:
                pad_w, pad_h = float(rng.uniform(14.0, 20.0)), float(rng.uniform(18.0, 28.0))
                cell.pad(chamfered(x + 18, y, x + 18 + pad_w, y + pad_h, 2.0))
                cell.pad(chamfered(x + 64 - pad_w, y, x + 64, y + pad_h, 2.0))
                cell.trace([(x + 64 - pad_w / 2, y + pad_h / 2), (x + 86, y + pad_h / 2)], 7.0)
                _end_with_land(cell, rng, (x + 86, y + pad_h / 2), 8.5, rng.random())
                cell.write(f"{'RCL'[int(rng.integers(3))]}{rng.integers(10, 99)}", (x, y - 5), 0.35)
            elif kind < 0.65:
                cell.land((x + 40, y + 14), float(rng.uniform(9.0, 15.0)), 0.0, tented=False)
            elif kind < 0.75:
                cell.land((x + 40, y + 14), 8.0, 0.0, tented=False)
                fill_disc(cell.art.opening, cell.place((x + 40, y + 14)), 17.0)
            elif kind < 0.88:
                a = float(rng.uniform(14.0, 24.0))
                path = [(x + 12, y + 6), (x + 12 + a * 1.6, y + 6), (x + 36 + a * 1.6, y + 30)]
                width = float(rng.choice([8.0, 12.0, 16.0]))
                cell.trace(path, width)
                for end in (path[0], path[-1]):
                    _end_with_land(cell, rng, end, width / 2 + 5.0, rng.random())
            else:
                cell.write(f"TP{rng.integers(1, 99)}", (x + 20, y + 20), 0.45)


MOTIFS: Final[tuple[tuple[Motif, float], ...]] = (
    (draw_bus, 0.30),
    (draw_corner, 0.16),
    (draw_meander, 0.07),
    (draw_package, 0.12),
    (draw_connector, 0.10),
    (draw_plane, 0.16),
    (draw_passives, 0.09),
)


def _split(
    rng: np.random.Generator, x: float, y: float, w: float, h: float
) -> list[tuple[float, float, float, float]]:
    """Cut a rectangle at random into cells of about 170 to 400 px."""
    if max(w, h) < 400.0 and (max(w, h) < 340.0 or rng.random() < 0.5):
        return [(x, y, w, h)]
    share = float(rng.uniform(0.38, 0.62))
    if w > h:
        left = w * share
        return _split(rng, x, y, left, h) + _split(rng, x + left, y, w - left, h)
    top = h * share
    return _split(rng, x, y, w, top) + _split(rng, x, y + top, w, h - top)


def draw_board(
    art: Artwork, rng: np.random.Generator, area: tuple[float, float, float, float]
) -> None:
    """Fill ``area`` (x1, y1, x2, y2, native px) of the artwork with motifs and loose silkscreen."""
    x1, y1, x2, y2 = area
    weights = np.array([weight for _, weight in MOTIFS])
    for x, y, w, h in _split(rng, x1, y1, x2 - x1, y2 - y1):
        motif = MOTIFS[int(rng.choice(len(MOTIFS), p=weights / weights.sum()))][0]
        m = _CELL_MARGIN_PX
        turn, flip_x, flip_y = (bool(v) for v in rng.integers(0, 2, 3))
        motif(Cell(art, x + m, y + m, w - 2 * m, h - 2 * m, turn, flip_x, flip_y), rng)
    _draw_silk(art, rng, area)


def _draw_silk(
    art: Artwork, rng: np.random.Generator, area: tuple[float, float, float, float]
) -> None:
    """Add part outlines, polarity dots and numbers that cross traces as real print does."""
    x1, y1, x2, y2 = area
    cell = Cell(art, 0.0, 0.0, x2, y2, False, False, False)
    for _ in range(int(rng.integers(6, 11))):
        x, y = float(rng.uniform(x1 + 10, x2 - 160)), float(rng.uniform(y1 + 30, y2 - 90))
        kind = rng.random()
        if kind < 0.4:
            text = f"{'UJDQX'[int(rng.integers(5))]}{rng.integers(1, 400)}"
            cell.write(text, (x, y), float(rng.uniform(0.4, 0.8)))
        elif kind < 0.7:
            w, h = float(rng.uniform(40, 140)), float(rng.uniform(24, 70))
            cell.mark([(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)], 2.0)
        else:
            fill_disc(art.silk, (x, y), float(rng.uniform(2.5, 5.0)))
