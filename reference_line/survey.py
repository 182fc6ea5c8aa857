"""Where on a board's good copper a defect could lie: distances, edges and free places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.artwork import SUPERSAMPLE, Artwork, Mask

_PROBES: Final = 60_000
_RAY: Final = np.arange(1.0, 30.0, 0.5)

Vector = NDArray[np.float64]


@dataclass(slots=True)
class Survey:
    """Distances on the good artwork (native px): `signed` and `forbidden` are (height, width)."""

    signed: NDArray[np.float32]
    """Distance to the copper's edge, negative inside copper, (height, width)."""
    forbidden: Mask
    """Non-zero where no defect may lie: drills, silkscreen, the board's rim, other defects."""
    probes: NDArray[np.int64]
    """Random allowed places to try, (N, 2) as x, y."""

    def at(self, points: Vector) -> NDArray[np.float32]:
        """Sample the signed distance at points (N, 2), nearest pixel, clamped to the texture."""
        h, w = self.signed.shape
        xy = np.rint(points).astype(np.int64)
        return self.signed[np.clip(xy[:, 1], 0, h - 1), np.clip(xy[:, 0], 0, w - 1)]

    def normal(self, point: Vector) -> Vector | None:
        """Return the outward unit normal of a straight copper edge at ``point``, else None."""
        reach = 2.5
        offsets = np.array([[reach, 0], [-reach, 0], [0, reach], [0, -reach]])
        right, left, down, up = self.at(point + offsets)
        gradient = np.array([right - left, down - up], dtype=np.float64)
        norm = float(np.hypot(*gradient))
        return gradient / norm if norm > 2 * reach * 0.86 else None

    def is_free(self, points: Vector) -> bool:
        """Tell whether none of the points (N, 2) is forbidden."""
        h, w = self.forbidden.shape
        xy = np.rint(points).astype(np.int64)
        return not self.forbidden[np.clip(xy[:, 1], 0, h - 1), np.clip(xy[:, 0], 0, w - 1)].any()

    def is_straight(self, point: Vector, normal: Vector, half_width: float) -> bool:
        """Tell whether the edge keeps its direction for ``half_width`` px to both sides."""
        tangent = np.array([-normal[1], normal[0]])
        for side in (-half_width, half_width):
            beside = self.normal(point + tangent * side)
            if beside is None or float(beside @ normal) < 0.75:
                return False
        return True

    def reach(self, point: Vector, direction: Vector, *, copper: bool) -> float:
        """Return how far a ray runs before it meets copper (or leaves it), px, 30 if never."""
        values = self.at(point + np.outer(_RAY, direction))
        hits = np.flatnonzero(values <= 0.0 if copper else values > 0.0)
        hits = hits[hits >= 2]
        return float(_RAY[hits[0]]) if len(hits) else 30.0


def survey_copper(
    art: Artwork, rng: np.random.Generator, area: tuple[float, float, float, float]
) -> Survey:
    """Survey the good artwork inside ``area`` (x1, y1, x2, y2, native px) with random probes."""
    native = np.ascontiguousarray(art.copper[::SUPERSAMPLE, ::SUPERSAMPLE])
    outside = cv2.distanceTransform(255 - native, cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(native, cv2.DIST_L2, 5)
    blocked = cv2.bitwise_or(art.drill, art.silk)[::SUPERSAMPLE, ::SUPERSAMPLE]
    forbidden = cv2.dilate(blocked, np.ones((9, 9), np.uint8))
    x1, y1, x2, y2 = (int(v) for v in area)
    rim = np.full_like(forbidden, 255)
    rim[y1 + 14 : y2 - 14, x1 + 14 : x2 - 14] = 0
    forbidden = cv2.bitwise_or(forbidden, rim)
    h, w = native.shape
    probes = np.stack([rng.integers(0, w, _PROBES), rng.integers(0, h, _PROBES)], axis=1)
    probes = probes[forbidden[probes[:, 1], probes[:, 0]] == 0]
    signed = np.asarray(outside - inside, dtype=np.float32)
    return Survey(signed, np.asarray(forbidden, dtype=np.uint8), probes)
