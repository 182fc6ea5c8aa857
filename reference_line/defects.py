"""The six defects: where they can lie on given artwork, and how each changes the copper.

A defect is accepted only if the copper around it changes as its name says, which is checked on
the artwork: an open adds a piece of copper, a short joins two, spurious copper adds one, a
pin-hole adds a hole, a mouse bite and a spur change neither.  So a label is true by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from reference_line.artwork import SUPERSAMPLE, Artwork, Mask, fill_polygon
from reference_line.survey import Survey, Vector, survey_copper
from reference_line.truth import LABELS

_SPACING_PX: Final = 52.0
_SMALL_SHARE: Final = 0.55
_SIZE_TOLERANCE: Final = (0.72, 1.3)
_SIZE_LIMITS_PX: Final = (3.3, 15.5)


@dataclass(frozen=True, slots=True)
class PlacedDefect:
    """A defect drawn on artwork: class and centre in native texture pixels before the optics."""

    class_id: int
    centre: tuple[float, float]


def _blob(rng: np.random.Generator, centre: Vector, radius: float, rough: float) -> Vector:
    """Return an irregular closed outline of mean ``radius`` about ``centre``, (14, 2)."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    wobble = 1.0 + rough * np.cos(angles * 2 + rng.uniform(0, 6.3)) * rng.uniform(-1, 1)
    wobble += rough * np.cos(angles * 3 + rng.uniform(0, 6.3)) * rng.uniform(-1, 1)
    stretch = float(np.exp(rng.uniform(-0.28, 0.28)))
    shape = np.stack([np.cos(angles) * stretch, np.sin(angles) / stretch], axis=1)
    turn = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outline: Vector = centre + (shape * wobble[:, None] * radius) @ rotation
    return outline


Outline = tuple[Vector, int]


def _draw_open(
    s: Survey, rng: np.random.Generator, point: Vector, normal: Vector, size: float
) -> Outline | None:
    thickness = s.reach(point, -normal, copper=False)
    gap = size * size / thickness
    if not (3.5 <= thickness <= 17.0 and 2.8 <= gap <= 17.0 and gap > 0.3 * thickness):
        return None
    tangent = np.array([-normal[1], normal[0]])
    slant = rng.uniform(-0.35, 0.35) * gap
    far = point - normal * (thickness + 1.0)
    near = point + normal * 1.5
    bend = rng.uniform(-0.12, 0.12, 4) * gap
    half = gap / 2
    mid = (near + far) / 2
    pull = rng.uniform(-0.15, 0.25) * gap
    outline = [
        near + tangent * (-half + slant + bend[0]),
        near + tangent * (half + slant + bend[1]),
        mid + tangent * (half + pull),
        far + tangent * (half - slant + bend[2]),
        far + tangent * (-half - slant + bend[3]),
        mid + tangent * (-half - pull),
    ]
    return np.array(outline), 0


def _draw_short(
    s: Survey, rng: np.random.Generator, point: Vector, normal: Vector, size: float
) -> Outline | None:
    distance = s.reach(point, normal, copper=True)
    bridge = size * size / distance
    if not (3.5 <= distance <= 19.0 and 2.8 <= bridge <= 12.0):
        return None
    opposite = s.normal(point + normal * distance)
    if opposite is None or float(opposite @ normal) > -0.8:
        return None
    tangent = np.array([-normal[1], normal[0]])
    half, lean = bridge / 2, rng.uniform(-0.25, 0.25) * min(distance, bridge)
    waist = half * rng.uniform(0.65, 1.05)
    near, far = point - normal * 1.5, point + normal * (distance + 1.5)
    mid = (near + far) / 2 + tangent * lean * 0.5
    outline = [
        near + tangent * half,
        near - tangent * half,
        mid - tangent * waist,
        far + tangent * (lean - half),
        far + tangent * (lean + half),
        mid + tangent * waist,
    ]
    return np.array(outline), 255


def _bump(
    rng: np.random.Generator, point: Vector, axis: Vector, width: float, depth: float, power: float
) -> Vector:
    """Return a rounded tongue on an edge: ``width`` along it, ``depth`` along ``axis``."""
    tangent = np.array([-axis[1], axis[0]])
    angles = np.linspace(0, np.pi, 11)
    along = np.cos(angles) * width / 2
    rise = np.sin(angles) ** power * depth * (1 + 0.18 * rng.uniform(-1, 1, 11))
    lean = rng.uniform(-0.25, 0.25) * width * (rise / depth)
    body = point + np.outer(along + lean, tangent) + np.outer(rise, axis)
    foot = point + np.outer([-width / 2, width / 2], tangent) - axis * 1.5
    return np.vstack([body, foot])


def _draw_mousebite(
    s: Survey, rng: np.random.Generator, point: Vector, normal: Vector, size: float
) -> Outline | None:
    ratio = rng.uniform(1.05, 1.5)
    depth, width = size / ratio, size * ratio
    thickness = s.reach(point, -normal, copper=False)
    if depth > 0.66 * thickness or thickness - depth < 2.5:
        return None
    return _bump(rng, point, -normal, width, depth + 0.5, 0.7), 0


def _draw_spur(
    s: Survey, rng: np.random.Generator, point: Vector, normal: Vector, size: float
) -> Outline | None:
    ratio = rng.uniform(0.95, 1.5)
    depth, width = size * ratio, size / ratio
    if s.reach(point, normal, copper=True) < depth + 3.0:
        return None
    return _bump(rng, point, normal, width, depth, rng.uniform(0.6, 1.1)), 255


def _draw_spurious(
    s: Survey, rng: np.random.Generator, point: Vector, _normal: Vector, size: float
) -> Outline | None:
    free = float(s.at(point[None])[0])
    if not size / 2 * 1.3 + 2.5 <= free <= 45.0:
        return None
    return _blob(rng, point, size / 2 * 1.03, 0.22), 255


def _draw_pin_hole(
    s: Survey, rng: np.random.Generator, point: Vector, _normal: Vector, size: float
) -> Outline | None:
    depth = -float(s.at(point[None])[0])
    if depth < size / 2 * 1.25 + 2.0:
        return None
    return _blob(rng, point, size / 2 * 1.05, 0.15), 0


Drawer = Callable[[Survey, np.random.Generator, Vector, Vector, float], Outline | None]

_DRAWERS: Final[dict[str, Drawer]] = {
    "open": _draw_open,
    "short": _draw_short,
    "mousebite": _draw_mousebite,
    "spur": _draw_spur,
    "spurious_copper": _draw_spurious,
    "pin_hole": _draw_pin_hole,
}
_EXPECTED_CHANGE: Final[dict[str, tuple[int, int]]] = {
    "open": (1, -2),
    "short": (-1, -2),
    "mousebite": (0, 0),
    "spur": (0, 0),
    "spurious_copper": (1, 0),
    "pin_hole": (0, 1),
}
"""Change in pieces of (copper, bare board); -2 where the second is not constrained."""


def _pieces(mask: Mask) -> tuple[int, int]:
    """Count the pieces of copper and of bare board in a patch."""
    return cv2.connectedComponents(mask)[0] - 1, cv2.connectedComponents(255 - mask)[0] - 1


def _try_outline(
    copper: Mask, label: str, outline: Outline, size: float
) -> tuple[float, float] | None:
    """Draw an outline if it makes the defect ``label`` of about ``size`` px; return its centre."""
    points, value = outline
    low = np.floor(points.min(axis=0) - 9.0)
    high = np.ceil(points.max(axis=0) + 9.0)
    h, w = copper.shape
    x1, y1 = (int(v) for v in np.maximum(low, 0) * SUPERSAMPLE)
    x2, y2 = min(int(high[0]) * SUPERSAMPLE, w), min(int(high[1]) * SUPERSAMPLE, h)
    before = np.ascontiguousarray(copper[y1:y2, x1:x2])
    after = before.copy()
    fill_polygon(after, points - np.array([x1, y1]) / SUPERSAMPLE, value)
    changed = cv2.boundingRect(cv2.absdiff(before, after))
    measured = float(np.sqrt(changed[2] * changed[3])) / SUPERSAMPLE
    if not _SIZE_TOLERANCE[0] * size <= measured <= _SIZE_TOLERANCE[1] * size:
        return None
    if not _SIZE_LIMITS_PX[0] <= measured <= _SIZE_LIMITS_PX[1]:
        return None
    if min(changed[2], changed[3]) < 2.4 * SUPERSAMPLE:
        return None
    (metal, bare), (metal_after, bare_after) = _pieces(before), _pieces(after)
    expected = _EXPECTED_CHANGE[label]
    if metal_after - metal != expected[0]:
        return None
    if expected[1] != -2 and bare_after - bare != expected[1]:
        return None
    copper[y1:y2, x1:x2] = after
    return (
        (x1 + changed[0] + changed[2] / 2) / SUPERSAMPLE,
        (y1 + changed[1] + changed[3] / 2) / SUPERSAMPLE,
    )


def _draw_size(rng: np.random.Generator) -> float:
    if rng.random() < _SMALL_SHARE:
        return float(rng.uniform(3.6, 7.0))
    return float(rng.uniform(7.0, 14.5))


def place_defects(
    art: Artwork,
    rng: np.random.Generator,
    area: tuple[float, float, float, float],
    count: int,
) -> tuple[Mask, tuple[PlacedDefect, ...]]:
    """Draw up to ``count`` defects on a copy of the artwork's copper.

    Args:
        art: The good board; not changed.
        rng: Source of every choice.
        area: Board rectangle x1, y1, x2, y2 in native texture pixels.
        count: Defects wanted; classes take turns, so that each is equally frequent.

    Returns:
        The defective copper mask (same shape as ``art.copper``) and the defects on it.
    """
    survey = survey_copper(art, rng, area)
    copper = art.copper.copy()
    placed: list[PlacedDefect] = []
    first = int(rng.integers(len(LABELS)))
    for k in range(count):
        class_id = (first + k) % len(LABELS)
        centre = _place_one(survey, copper, rng, LABELS[class_id])
        if centre is None:
            continue
        placed.append(PlacedDefect(class_id, centre))
        at = (round(centre[0]), round(centre[1]))
        cv2.circle(survey.forbidden, at, round(_SPACING_PX), 255, -1)
    return copper, tuple(placed)


def _place_one(
    survey: Survey, copper: Mask, rng: np.random.Generator, label: str
) -> tuple[float, float] | None:
    """Find a place for one defect; a size that fits nowhere gives way to another after a while."""
    xy = survey.probes
    signed = survey.signed[xy[:, 1], xy[:, 0]]
    if label == "pin_hole":
        wanted = signed < -4.0
    elif label == "spurious_copper":
        wanted = (signed > 5.0) & (signed < 45.0)
    else:
        wanted = (signed <= 0.0) & (signed > -1.6)
    wanted &= survey.forbidden[xy[:, 1], xy[:, 0]] == 0
    candidates = xy[wanted]
    on_edge = label not in ("pin_hole", "spurious_copper")
    for _ in range(6):
        size = _draw_size(rng)
        for index in rng.integers(0, max(len(candidates), 1), 120 if len(candidates) else 0):
            point = candidates[index].astype(np.float64)
            normal = survey.normal(point) if on_edge else np.array([1.0, 0.0])
            if normal is None:
                continue
            if on_edge:
                point = point + normal * -float(survey.at(point[None])[0]) * 0.8
            if on_edge and not survey.is_straight(point, normal, size / 2 + 2.0):
                continue
            outline = _DRAWERS[label](survey, rng, point, normal, size)
            if outline is None or not survey.is_free(outline[0]):
                continue
            centre = _try_outline(copper, label, outline, size)
            if centre is not None:
                return centre
    return None
