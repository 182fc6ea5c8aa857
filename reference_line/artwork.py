"""The artwork of a board: layers of copper, mask openings, drills and silkscreen, and how to draw.

Layers are uint8 masks (0 or 255) at ``SUPERSAMPLE`` times the camera's resolution; every coordinate
and length that callers give is in native pixels of the board's texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

SUPERSAMPLE: Final = 2
_SHIFT: Final = 4

Point = tuple[float, float]
Mask = NDArray[np.uint8]


def to_fixed(points: Sequence[Point] | NDArray[np.float64]) -> NDArray[np.int32]:
    """Convert native pixel coordinates (N, 2) to OpenCV's fixed point on a supersampled mask."""
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    fixed = np.rint((array * SUPERSAMPLE - 0.5) * (1 << _SHIFT))
    return fixed.astype(np.int32)


def fill_polygon(
    mask: Mask, points: Sequence[Point] | NDArray[np.float64], value: int = 255
) -> None:
    """Fill a polygon given in native pixels."""
    cv2.fillPoly(mask, [to_fixed(points)], value, lineType=cv2.LINE_8, shift=_SHIFT)


def fill_disc(mask: Mask, centre: Point, radius: float, value: int = 255) -> None:
    """Fill a disc given in native pixels."""
    x, y = to_fixed([centre])[0]
    scaled = round(radius * SUPERSAMPLE * (1 << _SHIFT))
    cv2.circle(mask, (int(x), int(y)), scaled, value, -1, cv2.LINE_8, _SHIFT)


def stroke(mask: Mask, points: Sequence[Point], width: float, value: int = 255) -> None:
    """Draw a polyline with round joins and ends, ``width`` native pixels wide."""
    thickness = max(1, round(width * SUPERSAMPLE))
    cv2.polylines(mask, [to_fixed(points)], False, value, thickness, cv2.LINE_8, _SHIFT)


def chamfered(x1: float, y1: float, x2: float, y2: float, cut: float) -> list[Point]:
    """Return a rectangle whose corners are cut at 45 degrees."""
    return [
        (x1 + cut, y1),
        (x2 - cut, y1),
        (x2, y1 + cut),
        (x2, y2 - cut),
        (x2 - cut, y2),
        (x1 + cut, y2),
        (x1, y2 - cut),
        (x1, y1 + cut),
    ]


def offset_path(points: Sequence[Point], distance: float) -> list[Point]:
    """Shift a polyline ``distance`` to the right of its direction, mitring corners."""
    path = np.asarray(points, dtype=np.float64)
    steps = np.diff(path, axis=0)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    normals = np.stack([-steps[:, 1], steps[:, 0]], axis=1)
    before = np.vstack([normals[:1], normals])
    after = np.vstack([normals, normals[-1:]])
    mitre = (before + after) / (1.0 + (before * after).sum(axis=1, keepdims=True))
    shifted = path + mitre * distance
    return [(float(x), float(y)) for x, y in shifted]


@dataclass(slots=True)
class Artwork:
    """The layers of one board, each uint8 (height * 2, width * 2)."""

    copper: Mask
    opening: Mask
    drill: Mask
    silk: Mask

    @classmethod
    def blank(cls, width: int, height: int) -> Artwork:
        """Return empty layers for a texture of ``width`` by ``height`` native pixels."""
        shape = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        return cls(*(np.zeros(shape, np.uint8) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Cell:
    """A rectangle of the board that one motif fills, seen through a turn and mirror.

    A motif draws in local coordinates, ``0..width`` by ``0..height``; the cell maps them to the
    board, so that one motif serves all eight orientations.
    """

    art: Artwork
    x: float
    y: float
    board_width: float
    board_height: float
    swap: bool
    mirror_x: bool
    mirror_y: bool

    @property
    def width(self) -> float:
        """Local width, native px."""
        return self.board_height if self.swap else self.board_width

    @property
    def height(self) -> float:
        """Local height, native px."""
        return self.board_width if self.swap else self.board_height

    def place(self, point: Point) -> Point:
        """Map a local point to board coordinates."""
        u, v = point
        if self.mirror_x:
            u = self.width - u
        if self.mirror_y:
            v = self.height - v
        if self.swap:
            u, v = v, u
        return (self.x + u, self.y + v)

    def trace(self, points: Sequence[Point], width: float) -> None:
        """Draw a copper trace under the solder mask."""
        stroke(self.art.copper, [self.place(p) for p in points], width)

    def pour(self, points: Sequence[Point], value: int = 255) -> None:
        """Fill (or with ``value`` 0 clear) a copper area under the solder mask."""
        fill_polygon(self.art.copper, [self.place(p) for p in points], value)

    def clear_disc(self, centre: Point, radius: float) -> None:
        """Remove a disc of copper."""
        fill_disc(self.art.copper, self.place(centre), radius, 0)

    def pad(self, points: Sequence[Point]) -> None:
        """Draw a polygonal pad free of solder mask, with the mask's usual clearance around it."""
        placed = np.asarray([self.place(p) for p in points])
        centre = placed.mean(axis=0)
        fill_polygon(self.art.copper, placed)
        grown = centre + (placed - centre) + np.sign(placed - centre) * 1.5
        fill_polygon(self.art.opening, grown)

    def land(self, centre: Point, radius: float, drill: float, *, tented: bool) -> None:
        """Draw a round land; ``drill`` is the hole's radius, 0 for a solid via or test point."""
        placed = self.place(centre)
        fill_disc(self.art.copper, placed, radius)
        if not tented:
            fill_disc(self.art.opening, placed, radius + 1.5)
        if drill > 0.0:
            fill_disc(self.art.drill, placed, drill)

    def mark(self, points: Sequence[Point], width: float) -> None:
        """Draw a silkscreen line."""
        stroke(self.art.silk, [self.place(p) for p in points], width)

    def write(self, text: str, origin: Point, scale: float) -> None:
        """Write silkscreen text upright on the board, ``origin`` its lower left in local space."""
        x, y = self.place(origin)
        place = (round(x * SUPERSAMPLE), round(y * SUPERSAMPLE))
        cv2.putText(
            self.art.silk, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale * SUPERSAMPLE, 255, 4
        )
