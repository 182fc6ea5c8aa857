"""Legitimate artwork of the binary look: what one window of a large board may show.

A window is a small part of a board at 48 px per mm, so it shows one kind of artwork at a time: a
bus, pads with routes, stripes, a plane with channels, arcs of a ring, or next to nothing.  Masks
are uint8 (``SIDE_PX`` * ``SUPERSAMPLE`` squared), 255 where copper is; coordinates are native
pixels.  Legitimate look-alikes are wanted (solid vias, ovals, slots, holes, stubs, necks), but
round ones only from a size on that hand-drawn defects seldom have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from reference_line.artwork import (
    SUPERSAMPLE,
    Artwork,
    Cell,
    Mask,
    Point,
    chamfered,
    fill_disc,
    fill_polygon,
    offset_path,
    stroke,
)
from reference_line.motifs import MOTIFS

SIDE_PX: Final = 640

Random = np.random.Generator
Painter = Callable[[Mask, Random], None]


def _land(mask: Mask, centre: Point, radius: float, hole: float) -> None:
    """Draw a round land, drilled where ``hole`` is positive."""
    fill_disc(mask, centre, radius)
    if hole > 0.0:
        fill_disc(mask, centre, hole, 0)


def _rounded(
    mask: Mask, centre: Point, half_x: float, half_y: float, corner: float, value: int = 255
) -> None:
    """Draw a rectangle with round corners."""
    x, y = centre
    corner = min(corner, half_x - 0.5, half_y - 0.5)
    inner_x, inner_y = half_x - corner, half_y - corner
    fill_polygon(mask, chamfered(x - half_x, y - half_y, x + half_x, y + half_y, corner), value)
    for sx in (-inner_x, inner_x):
        for sy in (-inner_y, inner_y):
            fill_disc(mask, (x + sx, y + sy), corner, value)


def paint_line_motifs(mask: Mask, rng: Random) -> None:
    """Draw motifs of the reference line, enlarged to this camera's scale."""
    scale = float(rng.uniform(1.3, 2.8))
    side = int(SIDE_PX / scale) + 80
    art = Artwork.blank(side, side)
    cells = 1 if side < 380 else 2
    edge = side / cells
    for i in range(cells):
        for j in range(cells):
            motif = MOTIFS[int(rng.integers(len(MOTIFS)))][0]
            turns = (bool(v) for v in rng.integers(0, 2, 3))
            motif(Cell(art, i * edge + 8, j * edge + 8, edge - 16, edge - 16, *turns), rng)
    copper = cv2.bitwise_and(art.copper, cv2.bitwise_not(art.drill))
    x, y = (int(v) for v in rng.integers(0, 40 * SUPERSAMPLE, 2))
    span = round(SIDE_PX * SUPERSAMPLE / scale)
    window = copper[y : y + span, x : x + span]
    mask[:] = cv2.resize(window, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
    cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY, mask)


def paint_stripes(mask: Mask, rng: Random) -> None:
    """Draw broad parallel bars, some of which end."""
    slant = float(rng.choice([0.0, 0.0, 0.0, 1.0]))
    width, gap = (float(v) for v in np.exp(rng.uniform(np.log(12.0), np.log(70.0), 2)))
    uniform = rng.random() < 0.6
    x = -float(rng.uniform(0, 60)) - slant * SIDE_PX
    while x < SIDE_PX + 60:
        w = width if uniform else width * float(rng.uniform(0.5, 1.8))
        top, bottom = -20.0, SIDE_PX + 20.0
        if rng.random() < 0.3:
            top = float(rng.uniform(20, SIDE_PX * 0.6))
        if rng.random() < 0.2:
            bottom = float(rng.uniform(SIDE_PX * 0.5, SIDE_PX - 20))
        ends = ((x + slant * top, top), (x + slant * bottom, bottom))
        bar = [ends[0], (ends[0][0] + w, top), (ends[1][0] + w, bottom), ends[1]]
        fill_polygon(mask, bar)
        x += w + (gap if uniform else gap * float(rng.uniform(0.6, 1.6)))


def paint_channels(mask: Mask, rng: Random) -> None:
    """Draw a plane that straight, square-wave and looped channels divide."""
    mask[:] = 255
    x = float(rng.uniform(10, 60))
    while x < SIDE_PX - 10:
        kind = rng.random()
        width = float(rng.uniform(7, 26))
        if kind < 0.45:
            for _ in range(int(rng.integers(1, 4))):
                stroke(mask, [(x, -20.0), (x, SIDE_PX + 20.0)], width, 0)
                x += width + float(rng.uniform(8, 30))
        elif kind < 0.8:
            x = _channel_wave(mask, rng, x)
        else:
            x = _channel_loop(mask, rng, x, width)
        x += float(rng.uniform(10, 110))


def _channel_wave(mask: Mask, rng: Random, x: float) -> float:
    """Draw a square wave whose cross bars have narrow necks; return where it ends."""
    width, swing = float(rng.uniform(6, 14)), float(rng.uniform(30, 90))
    period = float(rng.uniform(50, 120))
    neck = width * float(rng.uniform(0.5, 1.0))
    y, right = -float(rng.uniform(0, period)), False
    while y < SIDE_PX:
        here, there = (x + swing, x) if right else (x, x + swing)
        stroke(mask, [(here, y), (here, y + period)], width, 0)
        third = (there - here) * float(rng.uniform(0.25, 0.4))
        stroke(mask, [(here, y + period), (there, y + period)], neck, 0)
        stroke(mask, [(here, y + period), (here + third, y + period)], width, 0)
        stroke(mask, [(there - third, y + period), (there, y + period)], width, 0)
        y, right = y + period, not right
    return x + swing + width


def _channel_loop(mask: Mask, rng: Random, x: float, width: float) -> float:
    """Draw round-cornered loops one inside the other; return where they end."""
    span, top = float(rng.uniform(120, 300)), float(rng.uniform(-60, 300))
    for k in range(int(rng.integers(1, 4))):
        inset = k * (width + float(rng.uniform(12, 40)))
        half = span / 2 - inset
        if half < 2 * width:
            break
        centre = (x + span / 2, top + inset + 400)
        corner = float(rng.uniform(0.15, 0.8)) * half
        _rounded(mask, centre, half, 400.0, corner, 0)
        _rounded(mask, centre, half - width, 400.0 - width, max(corner - width, 2.0))
    return x + span


def paint_arcs(mask: Mask, rng: Random) -> None:
    """Draw parts of large discs with large holes, and slots that cross them."""
    for _ in range(int(rng.integers(1, 4))):
        centre = (float(rng.uniform(-100, SIDE_PX + 100)), float(rng.uniform(-100, SIDE_PX + 100)))
        radius = float(rng.uniform(90, 460))
        fill_disc(mask, centre, radius)
        if rng.random() < 0.6:
            near = rng.uniform(-0.5, 0.5, 2) * radius
            at = (centre[0] + float(near[0]), centre[1] + float(near[1]))
            fill_disc(mask, at, float(rng.uniform(15, 0.4 * radius)), 0)
    for _ in range(int(rng.integers(0, 4))):
        width = float(rng.uniform(12, 34))
        x, y = (float(v) for v in rng.uniform(0, SIDE_PX, 2))
        path: list[Point] = [(x, y)]
        heading = int(rng.integers(8))
        for _ in range(int(rng.integers(1, 4))):
            step = float(rng.uniform(60, 420))
            angle = heading * np.pi / 4
            path.append(
                (path[-1][0] + step * float(np.cos(angle)), path[-1][1] + step * np.sin(angle))
            )
            heading += int(rng.choice([-1, 1]))
        stroke(mask, path, width, 0 if rng.random() < 0.75 else 255)


def paint_sparse(mask: Mask, rng: Random) -> None:
    """Draw little: rings, targets, a trace or two, thin lines, ovals, ends of large copper."""
    for _ in range(int(rng.integers(0, 3))):
        y, width = float(rng.uniform(0, SIDE_PX)), float(np.exp(rng.uniform(1.8, 4.3)))
        start = float(rng.choice([-20.0, rng.uniform(30, 400)]))
        stroke(mask, [(start, y), (SIDE_PX + 20.0, y)], width)
    if rng.random() < 0.4:
        x, y = (float(v) for v in rng.uniform(40, SIDE_PX - 40, 2))
        thin = float(rng.uniform(2.5, 6))
        stroke(mask, [(x, y - 90), (x, y + 90)], thin)
        stroke(mask, [(x, y), (x + float(rng.uniform(40, 120)), y)], thin * 1.6)
    if rng.random() < 0.4:
        x, half = float(rng.uniform(0, SIDE_PX)), float(rng.uniform(60, 160))
        depth = float(rng.uniform(30, 120))
        fill_polygon(mask, chamfered(x - half, -200, x + half, depth, min(half, depth) * 0.6))
        fill_disc(mask, (x, float(rng.uniform(0, depth / 3))), float(rng.uniform(10, 18)), 0)
    if rng.random() < 0.5:
        x, y = (float(v) for v in rng.uniform(60, SIDE_PX - 60, 2))
        radius_x, radius_y = float(rng.uniform(6, 10)), float(rng.uniform(6, 14))
        for k in range(int(rng.integers(2, 8))):
            pitch = 2 * radius_x + float(rng.uniform(40, 44))
            _rounded(mask, (x + k * pitch, y), radius_x, radius_y, radius_x)
    for _ in range(int(rng.integers(1, 6))):
        centre = tuple(float(v) for v in rng.uniform(0, SIDE_PX, 2))
        radius = float(rng.uniform(14, 34))
        if rng.random() < 0.6:
            _land(mask, (centre[0], centre[1]), radius, radius * float(rng.uniform(0.35, 0.65)))
        else:
            outer = radius * float(rng.uniform(2.0, 2.8))
            _land(mask, (centre[0], centre[1]), outer, outer - float(rng.uniform(6, 11)))
            fill_disc(mask, (centre[0], centre[1]), radius * 0.7)


def paint_routes(mask: Mask, rng: Random) -> None:
    """Draw pads on a loose grid, and traces with 45 degree bends between neighbours."""
    pitch = float(rng.uniform(75, 150))
    half = pitch * float(rng.uniform(0.16, 0.3))
    width = min(float(rng.uniform(9, 22)), 1.6 * half)
    aspect = float(rng.uniform(0.6, 1.5))
    kind, hole = rng.random(), float(rng.uniform(0.3, 0.5))
    count = int(SIDE_PX / pitch) + 2
    shift = rng.uniform(-60, 0, 2)
    jitter = rng.uniform(-0.12, 0.12, (count, count, 2)) * pitch * (rng.random() < 0.5)
    at = np.stack(np.meshgrid(np.arange(count), np.arange(count)), axis=2) * pitch + shift + jitter
    shown = rng.random((count, count)) < 0.85
    for i in range(count - 1):
        for j in range(count - 1):
            for di, dj in ((0, 1), (1, 0), (1, 1)):
                if rng.random() < 0.3:
                    (x1, y1), (x2, y2) = at[i, j], at[i + di, j + dj]
                    run = min(abs(x2 - x1), abs(y2 - y1))
                    bend = (x1 + np.sign(x2 - x1) * run, y1 + np.sign(y2 - y1) * run)
                    stroke(mask, [(x1, y1), bend, (x2, y2)], width)
                    shown[i, j] = shown[i + di, j + dj] = True
    for i in range(count):
        for j in range(count):
            centre = (float(at[i, j, 0]), float(at[i, j, 1]))
            if not shown[i, j]:
                continue
            if kind < 0.5:
                _rounded(mask, centre, half * aspect, half, half * 0.45)
            else:
                _land(mask, centre, half, half * hole if kind < 0.85 else 0.0)


def paint_bus(mask: Mask, rng: Random) -> None:
    """Draw parallel traces with common bends over the whole window, and lands that they avoid."""
    width, gap = float(rng.uniform(8, 18)), float(rng.uniform(7, 22))
    pitch = width + gap
    heading = 0
    path: list[Point] = [(-500.0, float(rng.uniform(100, SIDE_PX - 100)))]
    while path[-1][0] < SIDE_PX + 300 and len(path) < 8:
        step = float(rng.uniform(150, 420)) if path[1:] else float(rng.uniform(550, 900))
        angle = heading * np.pi / 4
        last = path[-1]
        path.append((last[0] + step * float(np.cos(angle)), last[1] + step * float(np.sin(angle))))
        heading = int(np.clip(heading + rng.choice([-1, 1]), -1, 1))
    shown = rng.random() < 0.7
    for k in range(-int(900 / pitch), int(900 / pitch)):
        line = offset_path(path, k * pitch)
        if (shown or rng.random() < 0.8) and _keeps_direction(path, line):
            stroke(mask, line, width)
    for _ in range(int(rng.integers(0, 7))):
        x, y = (float(v) for v in rng.uniform(0, SIDE_PX, 2))
        radius = float(rng.uniform(18, 36))
        fill_disc(mask, (x, y), radius + gap, 0)
        end = offset_path([(x, y), (x + radius + 2 * gap, y)], 0.0)
        if rng.random() < 0.6:
            stroke(mask, end, width)
        _land(mask, (x, y), radius, radius * float(rng.uniform(0.3, 0.45)))


def _keeps_direction(path: list[Point], line: list[Point]) -> bool:
    """Tell whether no segment of an offset path is turned round, as inside a narrow bend."""
    steps, shifted = np.diff(np.array(path), axis=0), np.diff(np.array(line), axis=0)
    return bool(((steps * shifted).sum(axis=1) > 0).all())


def paint_polygons(mask: Mask, rng: Random) -> None:
    """Draw copper areas with cut corners, streets between them, and holes."""
    gap = float(rng.uniform(14, 60))

    def fill(x1: float, y1: float, x2: float, y2: float, depth: int) -> None:
        if depth > 0 and max(x2 - x1, y2 - y1) > 180:
            share = float(rng.uniform(0.3, 0.7))
            if (x2 - x1) * rng.uniform(0.6, 1.6) > y2 - y1:
                middle = x1 + (x2 - x1) * share
                fill(x1, y1, middle, y2, depth - 1)
                fill(middle, y1, x2, y2, depth - 1)
            else:
                middle = y1 + (y2 - y1) * share
                fill(x1, y1, x2, middle, depth - 1)
                fill(x1, middle, x2, y2, depth - 1)
            return
        if rng.random() < 0.12:
            return
        cut = float(rng.uniform(0, 0.35)) * min(x2 - x1 - gap, y2 - y1 - gap)
        half = gap / 2
        fill_polygon(mask, chamfered(x1 + half, y1 + half, x2 - half, y2 - half, max(cut, 0.0)))
        radius = float(rng.uniform(5, 20))
        room = 2 * radius + gap
        if rng.random() < 0.5 and min(x2 - x1, y2 - y1) > 2 * room:
            x, y = float(rng.uniform(x1 + room, x2 - room)), y1 + room
            for _ in range(int(rng.integers(1, 5))):
                if y < y2 - room:
                    fill_disc(mask, (x, y), radius, 0)
                y += float(rng.uniform(3, 6)) * radius

    start = float(rng.uniform(-120, -20))
    fill(start, start, SIDE_PX + 120.0, SIDE_PX + 120.0, int(rng.integers(1, 5)))


PAINTERS: Final[tuple[tuple[Painter, float], ...]] = (
    (paint_line_motifs, 0.18),
    (paint_stripes, 0.11),
    (paint_channels, 0.13),
    (paint_arcs, 0.10),
    (paint_sparse, 0.12),
    (paint_routes, 0.14),
    (paint_bus, 0.12),
    (paint_polygons, 0.10),
)


def draw_scene(rng: Random) -> Mask:
    """Draw the good copper of one window, uint8 0 or 255 at ``SUPERSAMPLE`` times ``SIDE_PX``."""
    side = SIDE_PX * SUPERSAMPLE
    mask = _paint(rng)
    if rng.random() < 0.35:
        other = _paint(rng)
        border = int(rng.uniform(0.25, 0.75) * side)
        street = int(rng.uniform(8, 40) * SUPERSAMPLE)
        mask[:, border:] = 0
        mask[:, border + street :] = other[:, border + street :]
    if rng.random() < 0.15:
        mask = ~mask
    if rng.random() < 0.12:
        mask[int(rng.uniform(0.35, 0.9) * side) :] = 0
    mask = np.rot90(mask, int(rng.integers(4)))
    return np.ascontiguousarray(mask[:, ::-1] if rng.random() < 0.5 else mask)


def _paint(rng: Random) -> Mask:
    weights = np.array([weight for _, weight in PAINTERS])
    mask = np.zeros((SIDE_PX * SUPERSAMPLE, SIDE_PX * SUPERSAMPLE), np.uint8)
    PAINTERS[int(rng.choice(len(PAINTERS), p=weights / weights.sum()))][0](mask, rng)
    return mask
