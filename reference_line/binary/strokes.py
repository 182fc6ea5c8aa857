"""Hand-drawn defects of the binary look, named by what they do to the copper.

The defects of binarized data sets are drawn with a brush on the finished black-and-white picture.
What a stroke *is* follows from what it touches, the same for both colours: one that touches
nothing of its own colour is a pin-hole or spurious copper; one that touches but divides nothing is
a mouse bite or a spur; one that divides what it crosses is an open or a short.  So strokes are
drawn at promising places and kept if they turn out to be what was wanted: a label is true by
construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.artwork import Mask
from reference_line.truth import LABELS

_MARGIN_PX: Final = 16
_PIECE_AREA_MIN_PX: Final = 90
_VISIBLE_AREA_MIN_PX: Final = 24
_VISIBLE_EXTENT_MIN: Final = 0.33
_RAY: Final = np.arange(1.0, 90.0, 0.5)
_CORNER_WINDOW_PX: Final = 15
_CORNER_EXCESS: Final = 0.17
_CORNER_SHARE: Final = 0.25
_BROAD_SHARE: Final = 0.2
_BROAD_ACROSS_MAX_PX: Final = 24.0

Random = np.random.Generator
Vector = NDArray[np.float64]
Box = tuple[int, int, int, int]


class Contact(IntEnum):
    """What a stroke does to the material that it is drawn on."""

    ISOLATED = 0
    ATTACHED = 1
    DIVIDING = 2


_KINDS: Final[dict[str, tuple[bool, Contact]]] = {
    "open": (True, Contact.DIVIDING),
    "short": (False, Contact.DIVIDING),
    "mousebite": (True, Contact.ATTACHED),
    "spur": (False, Contact.ATTACHED),
    "spurious_copper": (False, Contact.ISOLATED),
    "pin_hole": (True, Contact.ISOLATED),
}
"""Whether the class takes copper away, and its contact."""


@dataclass(frozen=True, slots=True)
class DrawnDefect:
    """One stroke: class, whether it takes copper away, bounding box of all that the brush touched.

    ``box`` is x1, y1, x2, y2 with exclusive ends; ``mask`` (0 or 255) is the brush inside it.
    """

    class_id: int
    erases: bool
    box: Box
    mask: Mask


def _line(rng: Random, start: Vector, heading: float, length: float, bend: float) -> Vector:
    """Return a wavering path, (N, 2); some are arcs, one in five has a sharp turn."""
    count = max(2, round(length / 3.0) + 1)
    curve = float(rng.normal(0, 0.12)) if bend > 0.1 and rng.random() < 0.4 else 0.0
    headings = heading + np.cumsum(rng.normal(curve, bend, count - 1))
    if rng.random() < 0.2 and bend > 0.1 and count > 3:
        turn = float(rng.uniform(0.8, 1.9)) * float(rng.choice([-1, 1]))
        headings[int(rng.integers(1, count - 1)) :] += turn
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / (count - 1))
    return np.vstack([start, start + np.cumsum(steps, axis=0)])


def _sweep(mask: Mask, path: Vector, first: float, last: float) -> None:
    """Sweep a round brush whose radius goes from ``first`` to ``last`` px along a path."""
    for k in range(len(path) - 1):
        share = k / max(len(path) - 2, 1)
        width = max(1, round(2 * (first + (last - first) * share)))
        a, b = (np.rint(p * 16).astype(int) for p in path[k : k + 2])
        cv2.line(mask, tuple(a), tuple(b), 255, width, cv2.LINE_8, 4)


def _brush(rng: Random, mask: Mask, start: Vector, heading: float, length: float) -> None:
    """Draw one of the ways in which people draw a defect from ``start`` along ``heading``."""
    kind = rng.random()
    if kind < 0.5:
        first = float(rng.uniform(1.0, 3.6))
        last = first * float(rng.choice([1.0, rng.uniform(0.25, 1.6)]))
        _sweep(mask, _line(rng, start, heading, length, float(rng.uniform(0.0, 0.35))), first, last)
    elif kind < 0.68:
        radius = float(rng.uniform(2.2, 7.0))
        reach = float(rng.uniform(0.0, 2.0)) * radius
        _sweep(mask, _line(rng, start, heading, reach, 0.1), radius, radius * rng.uniform(0.6, 1.0))
    elif kind < 0.84:
        spread = min(0.2 * length + 1.0, 6.0)
        centre = start + _unit(heading) * length * 0.4
        for _ in range(int(rng.integers(3, 7))):
            at = centre + rng.normal(0, spread, 2)
            _sweep(mask, np.stack([centre, at]), *rng.uniform(1.2, 3.8, 2))
    else:
        _scribble(rng, mask, start, heading, length)
    if rng.random() < 0.25:
        _fray(rng, mask)


def _wipe(rng: Random, mask: Mask, start: Vector, heading: float, across: float) -> None:
    """Wipe to and fro over all of a trace or gap that is ``across`` px wide, along it."""
    along = heading + np.pi / 2
    length = float(rng.uniform(2, 28))
    for reach in (0.15, 0.5, 0.85):
        begin = start + _unit(heading) * across * reach - _unit(along) * length / 2
        begin += rng.normal(0, 1.5, 2)
        radius = across / 4 + float(rng.uniform(0.5, 2.0))
        path = _line(rng, begin, along, length * float(rng.uniform(0.8, 1.1)), 0.05)
        _sweep(mask, path, radius, radius)


def _scribble(rng: Random, mask: Mask, start: Vector, heading: float, length: float) -> None:
    """Draw a thin closed loop, or a bundle of thin lines, that leaves islands."""
    if rng.random() < 0.5:
        radius = float(np.clip(length / 2, 4.0, 12.0))
        angles = np.linspace(0, 2 * np.pi, 15) * float(rng.uniform(0.6, 1.0))
        reach = radius * (1 + 0.2 * rng.uniform(-1, 1, 15))
        squeeze = float(rng.uniform(0.4, 1.0))
        ring = np.stack([np.cos(angles) * reach, np.sin(angles) * reach * squeeze], axis=1)
        c, s = _unit(heading)
        ring = start + _unit(heading) * radius + ring @ np.array([[c, s], [-s, c]])
        _sweep(mask, ring, *rng.uniform(0.8, 1.7, 2))
        return
    across = np.array([-np.sin(heading), np.cos(heading)])
    for _ in range(int(rng.integers(2, 6))):
        begin = start + across * rng.normal(0, 0.1 * length)
        lean = heading + rng.normal(0, 0.18)
        _sweep(mask, _line(rng, begin, lean, length, 0.15), *rng.uniform(0.5, 1.8, 2))


def _fray(rng: Random, mask: Mask) -> None:
    """Drop single pixels along the border of a stroke."""
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
    loose = (mask > 0) & (inner == 0) & (rng.random(mask.shape, np.float32) < 0.35)
    mask[loose] = 0


def _unit(angle: float) -> Vector:
    return np.array([np.cos(angle), np.sin(angle)])


def contact_of(material: Mask, drawn: Mask) -> Contact | None:
    """Tell what removing ``drawn`` does to ``material``, both 0 or 255 of one small patch.

    A stroke divides when it separates pieces of the material, and also when it joins pieces of the
    other one: a ring cut open on one side stays in one piece.  Islands that the stroke leaves
    inside itself do not count.  Returns None where the answer would change if the brush were one
    pixel wider, and where next to nothing of it shows.
    """
    outlines = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    solid = np.asarray(cv2.drawContours(np.zeros_like(drawn), outlines, -1, 255, -1), np.uint8)
    visible = drawn & material
    if np.count_nonzero(visible) < _VISIBLE_AREA_MIN_PX:
        return None
    if _extent(visible) < _VISIBLE_EXTENT_MIN * _extent(drawn):
        return None
    wide = _grown(solid)
    contact = _contact(material, solid)
    if contact is not _contact(material, wide):
        return None
    # A hole as near to the edge as the edge is ragged would look like a bite.
    if contact is Contact.ISOLATED and (_grown(wide) & ~material).any():
        return None
    return contact


def _extent(mask: Mask) -> int:
    """Return the area of the bounding box."""
    _, _, width, height = cv2.boundingRect(mask)
    return width * height


def _grown(mask: Mask) -> Mask:
    return np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), np.uint8)


def _contact(material: Mask, solid: Mask) -> Contact:
    touched = _pieces(~material, near=solid)
    if touched == 0:
        return Contact.ISOLATED
    divided = _pieces(material & ~solid) > _pieces(material)
    return Contact.DIVIDING if divided or touched > 1 else Contact.ATTACHED


def _pieces(material: Mask, *, near: Mask | None = None) -> int:
    """Count the pieces that are larger than a speck; with ``near`` only those that it overlaps."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(material, connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= _PIECE_AREA_MIN_PX
    large[0] = False
    if near is not None:
        large &= np.bincount(labels[near > 0], minlength=count) > 0
    return int(np.count_nonzero(large))


class Hand:
    """Draws defects on one picture.

    Args:
        copper: uint8 (side, side), 255 where copper is, with clean edges.
        rng: Source of every choice.
    """

    def __init__(self, copper: Mask, rng: Random) -> None:
        self._copper, self._bare = copper, cv2.bitwise_not(copper)
        self._rng = rng
        depth = cv2.distanceTransform(self._bare, cv2.DIST_L2, 5)
        signed = np.asarray(depth - cv2.distanceTransform(copper, cv2.DIST_L2, 5), np.float32)
        smooth = cv2.GaussianBlur(signed, (0, 0), 1.5)
        self._slopes = np.stack([cv2.Sobel(smooth, -1, 1, 0), cv2.Sobel(smooth, -1, 0, 1)], axis=2)
        self._signed = signed
        window = (_CORNER_WINDOW_PX, _CORNER_WINDOW_PX)
        self._corners = np.abs(cv2.blur(copper, window) / 255.0 - 0.5) > _CORNER_EXCESS
        self._taken = np.zeros_like(copper)

    def draw(self, label: str) -> DrawnDefect | None:
        """Draw one defect where none of its neighbours is near; None if no place was found."""
        rng = self._rng
        erases, contact = _KINDS[label]
        signed = self._signed if erases else -self._signed
        wanted = signed < -4.0 if contact is Contact.ISOLATED else np.abs(signed + 0.5) <= 1.5
        wanted &= self._taken == 0
        if contact is Contact.ATTACHED and rng.random() < _CORNER_SHARE:
            wanted &= self._corners
        rows, columns = np.nonzero(wanted)
        if len(rows) == 0:
            return None
        for index in rng.integers(0, len(rows), 150):
            point = np.array([columns[index], rows[index]], np.float64)
            found = self._try(point, signed, erases=erases, contact=contact)
            if found is not None:
                box, mask = found
                x1, y1, x2, y2 = box
                m = _MARGIN_PX
                self._taken[max(y1 - m, 0) : y2 + m, max(x1 - m, 0) : x2 + m] = 255
                return DrawnDefect(LABELS.index(label), erases, box, mask)
        return None

    def _try(
        self, point: Vector, signed: NDArray[np.float32], *, erases: bool, contact: Contact
    ) -> tuple[Box, Mask] | None:
        rng = self._rng
        length = float(np.clip(np.exp(rng.normal(2.65, 0.6)), 3.0, 70.0))
        heading = float(rng.uniform(0, 2 * np.pi))
        across: float | None = None
        if contact is not Contact.ISOLATED:
            slope = self._slopes[int(point[1]), int(point[0])] * (-1.0 if erases else 1.0)
            heading = float(np.arctan2(slope[1], slope[0]))
            spread = 1.0 if contact is Contact.ATTACHED else 0.45
            heading += float(rng.normal(0, spread))
            overshoot = float(rng.uniform(0, 6))
            if contact is Contact.DIVIDING:
                across = self._thickness(point, heading, signed)
                if across is None or rng.random() > np.exp(-across / 55.0):
                    return None
                length = across + overshoot + float(rng.uniform(0, 6))
            point = point - _unit(heading) * overshoot
        canvas = np.zeros_like(self._copper)
        broad = across is not None and across < _BROAD_ACROSS_MAX_PX
        if across is not None and broad and rng.random() < _BROAD_SHARE:
            _wipe(rng, canvas, point, heading, across)
        else:
            _brush(rng, canvas, point, heading, length)
        x, y, w, h = cv2.boundingRect(canvas)
        side = canvas.shape[0]
        if w == 0 or min(x, y) < 4 or max(x + w, y + h) > side - 4:
            return None
        m = _MARGIN_PX
        patch = (slice(max(y - m, 0), y + h + m), slice(max(x - m, 0), x + w + m))
        if self._taken[y : y + h, x : x + w].any():
            return None
        material = self._copper if erases else self._bare
        if contact_of(np.ascontiguousarray(material[patch]), canvas[patch].copy()) is not contact:
            return None
        return (x, y, x + w, y + h), canvas[y : y + h, x : x + w].copy()

    def _thickness(
        self, point: Vector, heading: float, signed: NDArray[np.float32]
    ) -> float | None:
        """Return how far a ray through the material runs, None if it is too far or leaves."""
        track = np.rint(point + np.outer(_RAY, _unit(heading))).astype(int)
        inside = np.all((track >= 0) & (track < signed.shape[0]), axis=1)
        values = signed[track[inside, 1], track[inside, 0]]
        deep = np.flatnonzero(values < -1.0)
        if len(deep) == 0:
            return None
        out = np.flatnonzero(values[deep[0] :] > 0.5)
        return float(_RAY[deep[0] + out[0]]) if len(out) else None
