"""What lies on a board and is no defect: dust, fibres, flux stains and scratches of the mask.

They differ from defects physically, not by decree.  Dust and fibres lie above the focal plane, so
they are soft and grey and cover copper and mask alike; flux is a large translucent film; a scratch
thins the mask over everything that it crosses.  Downscaled threefold, a speck of dust and a small
pin-hole look much the same; at native resolution they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Texture = NDArray[np.uint8]
Vector = NDArray[np.float64]

_CLEARANCE_PX: Final = 26.0


def _blend(
    texture: Texture,
    outline: Vector,
    colour: Vector,
    alpha: float,
    blur: float,
    width: float | None = None,
) -> None:
    """Blend a soft shape into the texture: a polygon, or a polyline when ``width`` is given."""
    margin = 3.5 * blur + 3.0 + (width or 0.0)
    h, w = texture.shape[:2]
    x1, y1 = (max(int(v), 0) for v in outline.min(axis=0) - margin)
    far = np.ceil(outline.max(axis=0) + margin).astype(int)
    x2, y2 = min(int(far[0]), w), min(int(far[1]), h)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return
    mask = np.zeros((y2 - y1, x2 - x1), np.uint8)
    fixed = np.rint((outline - (x1, y1)) * 16).astype(np.int32)
    if width is None:
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
    else:
        cv2.polylines(mask, [fixed], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur) * (alpha / 255.0)
    patch = texture[y1:y2, x1:x2].astype(np.float32)
    patch += (colour.astype(np.float32) - patch) * soft[:, :, None]
    texture[y1:y2, x1:x2] = np.rint(patch).astype(np.uint8)


def _ring(rng: np.random.Generator, centre: Vector, radius: float, rough: float) -> Vector:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    wobble = 1.0 + rough * rng.uniform(-1, 1) * np.cos(2 * angles + rng.uniform(0, 6.3))
    wobble += rough * rng.uniform(-1, 1) * np.cos(3 * angles + rng.uniform(0, 6.3))
    return centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius * wobble)[:, None]


def _curve(rng: np.random.Generator, start: Vector, length: float, bend: float) -> Vector:
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, 9))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / 9)
    return np.vstack([start, start + np.cumsum(steps, axis=0)])


def _is_clear(outline: Vector, keep_out: Sequence[tuple[float, float]]) -> bool:
    """Tell whether a shape keeps its distance from every defect."""
    if not keep_out:
        return True
    distances = np.linalg.norm(outline[:, None, :] - np.asarray(keep_out)[None], axis=2)
    return float(distances.min()) > _CLEARANCE_PX


def draw_nuisances(
    texture: Texture,
    rng: np.random.Generator,
    area: tuple[float, float, float, float],
    keep_out: Sequence[tuple[float, float]],
) -> None:
    """Scatter nuisances over a board, in place.

    Args:
        texture: uint8 BGR (height, width, 3), the board after the optics.
        rng: Source of every choice; its draws do not depend on the texture.
        area: Board rectangle x1, y1, x2, y2, px.
        keep_out: Centres of the defects, px, that only the translucent flux may come near.
    """
    x1, y1, x2, y2 = area

    def somewhere() -> Vector:
        return np.array([rng.uniform(x1, x2), rng.uniform(y1, y2)])

    for _ in range(int(rng.integers(4, 9))):
        outline = _ring(rng, somewhere(), float(rng.uniform(9, 44)), 0.3)
        amber = np.array([30.0, 110.0, 150.0]) + rng.uniform(-15, 15, 3)
        _blend(texture, outline, amber, float(rng.uniform(0.12, 0.28)), 2.5)
        rim = np.vstack([outline, outline[:1]])
        _blend(texture, rim, amber * 0.6, float(rng.uniform(0.08, 0.2)), 1.6, 2.0)
    for _ in range(int(rng.integers(5, 10))):
        path = _curve(rng, somewhere(), float(rng.uniform(14, 110)), 0.06)
        pale = np.array([150.0, 190.0, 170.0]) + rng.uniform(-20, 20, 3)
        alpha = float(rng.uniform(0.25, 0.5))
        if _is_clear(path, keep_out):
            _blend(texture, path, pale, alpha, 0.8, 1.0)
    for _ in range(int(rng.integers(48, 70))):
        centre = somewhere()
        outline = _ring(rng, centre, float(rng.uniform(1.8, 5.5)), 0.25)
        colour = _dust_colour(rng, texture, centre)
        alpha, blur = float(rng.uniform(0.6, 0.95)), float(rng.uniform(1.6, 2.5))
        if _is_clear(outline, keep_out):
            _blend(texture, outline, colour, alpha, blur)
    for _ in range(int(rng.integers(5, 10))):
        start = somewhere()
        path = _curve(rng, start, float(rng.uniform(12, 60)), 0.35)
        colour = _dust_colour(rng, texture, start)
        alpha, blur = float(rng.uniform(0.6, 0.9)), float(rng.uniform(1.2, 1.7))
        if _is_clear(path, keep_out):
            _blend(texture, path, colour, alpha, blur, 2.0)


def _dust_colour(rng: np.random.Generator, texture: Texture, centre: Vector) -> Vector:
    """Choose dust: opaque and grey, or a film that darkens or bleaches what lies under it."""
    level = rng.uniform(20, 60) if rng.random() < 0.5 else rng.uniform(130, 200)
    factor = rng.uniform(0.4, 0.6) if rng.random() < 0.5 else rng.uniform(1.5, 1.9)
    tint = rng.uniform(-6, 6, 3)
    if rng.random() < 0.4:
        return np.full(3, level) + tint
    x, y = (int(v) for v in centre)
    under = texture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(axis=0)
    return np.asarray(np.clip(under * factor + tint, 8.0, 225.0), dtype=np.float64)
