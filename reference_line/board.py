"""One board: artwork, defects and nuisances, imaged into a texture the camera can move over.

A texture covers one pitch of the line: the board and half of the gap to its neighbours, so that
textures side by side are the line.  All randomness comes from generators keyed by (seed, board).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.artwork import SUPERSAMPLE, Artwork, Mask
from reference_line.defects import PlacedDefect, place_defects
from reference_line.motifs import draw_board
from reference_line.nuisances import draw_nuisances
from reference_line.optics import FRAME_HEIGHT, project
from reference_line.truth import BoardDefect

BOARD_PITCH_PX: Final = 1600
BELT_BGR: Final = (34.0, 33.0, 32.0)
_RIM_X_PX: Final = 30.0
_RIM_Y_PX: Final = 24.0
_SKEW_MAX_DEG: Final = 0.3
_DEFECTS: Final = (12, 18)
_CHANGE_SHARE: Final = 0.35

Pixels = NDArray[np.uint8]

_MASKS_BGR: Final = (
    ((44.0, 84.0, 30.0), (84.0, 150.0, 66.0)),
    ((30.0, 62.0, 22.0), (66.0, 116.0, 52.0)),
    ((104.0, 56.0, 24.0), (170.0, 112.0, 66.0)),
    ((34.0, 30.0, 104.0), (70.0, 72.0, 172.0)),
    ((40.0, 38.0, 36.0), (92.0, 90.0, 84.0)),
)
"""Solder mask colours: over laminate, over copper."""
_FINISHES_BGR: Final = ((84.0, 178.0, 214.0), (186.0, 188.0, 184.0), (86.0, 128.0, 196.0))


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """A finished board.

    Attributes:
        texture: uint8 BGR (FRAME_HEIGHT, BOARD_PITCH_PX, 3), read-only.
        defects: The defects that the texture shows.
    """

    texture: Pixels
    defects: tuple[BoardDefect, ...]


def render_board(seed: int, index: int, *, defective: bool = True) -> Board:
    """Make board ``index`` of line ``seed``.

    Args:
        seed: The line's seed, non-negative.
        index: Board number, from 0.
        defective: False gives the board's good twin: the same pixels but for the defects.

    Returns:
        The board; its pixels depend on nothing but the arguments.
    """
    layout, flaws, surface = (np.random.default_rng((seed, 1, index, k)) for k in range(3))
    width, height = BOARD_PITCH_PX, FRAME_HEIGHT
    area = (_RIM_X_PX, _RIM_Y_PX, width - _RIM_X_PX, height - _RIM_Y_PX)
    art = Artwork.blank(width, height)
    draw_board(art, layout, area)
    clip = cv2.dilate(cv2.bitwise_or(art.opening, art.drill), np.ones((5, 5), np.uint8))
    art.silk[clip > 0] = 0
    flawed, placed = place_defects(art, flaws, area, int(flaws.integers(*_DEFECTS)))

    matrix = _skew(surface, width, height)
    rough = _roughness(surface, art.copper.shape)
    good, bad = _etch(art.copper, rough), _etch(flawed, rough)
    change = project(np.asarray(cv2.absdiff(good, bad), dtype=np.uint8), matrix, width, height)
    defects = tuple(_measure(change, matrix, defect) for defect in placed)
    art.copper = bad if defective else good
    texture = _compose(art, matrix, surface, area)
    centres = [_transform(matrix, defect.centre) for defect in placed]
    draw_nuisances(texture, surface, area, centres)
    texture.setflags(write=False)
    return Board(texture, defects if defective else ())


def _skew(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    """Return the small turn and shift with which the board lies on the belt, (2, 3)."""
    angle = float(rng.uniform(-_SKEW_MAX_DEG, _SKEW_MAX_DEG))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    matrix = np.array(turn, dtype=np.float64)
    matrix[:, 2] += rng.uniform(-4.0, 4.0, 2)
    return matrix


def _transform(matrix: NDArray[np.float64], point: tuple[float, float]) -> tuple[float, float]:
    x, y = matrix[:, :2] @ np.asarray(point) + matrix[:, 2]
    return float(x), float(y)


def _roughness(rng: np.random.Generator, shape: tuple[int, ...]) -> Mask:
    """Return smooth noise about 128 that etching adds to the edges of copper."""
    noise = rng.integers(0, 256, (shape[0] // 2, shape[1] // 2), np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.1)
    return np.asarray(cv2.resize(smooth, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def _etch(copper: Mask, rough: Mask) -> Mask:
    """Round corners and roughen edges as etching does; returns 0 or 255."""
    soft = cv2.GaussianBlur(copper, (0, 0), 1.3)
    mixed = cv2.addWeighted(soft, 1.0, rough, 1.6, -1.6 * 128.0)
    return np.asarray(cv2.threshold(mixed, 127, 255, cv2.THRESH_BINARY)[1], dtype=np.uint8)


def _measure(change: Mask, matrix: NDArray[np.float64], defect: PlacedDefect) -> BoardDefect:
    """Measure a defect's tight box in the imaged change of copper coverage."""
    x, y = _transform(matrix, defect.centre)
    reach = 22
    x1, y1 = max(round(x) - reach, 0), max(round(y) - reach, 0)
    patch = change[y1 : round(y) + reach, x1 : round(x) + reach]
    peak = int(patch.max())
    left, top, w, h = cv2.boundingRect((patch >= max(peak * _CHANGE_SHARE, 1)).astype(np.uint8))
    box = (x1 + left, y1 + top, x1 + left + w, y1 + top + h)
    return BoardDefect(defect.class_id, box, peak / 255.0)


def _compose(
    art: Artwork,
    matrix: NDArray[np.float64],
    rng: np.random.Generator,
    area: tuple[float, float, float, float],
) -> Pixels:
    """Colour the imaged layers from laminate to silkscreen; uint8 BGR."""
    height, width = art.copper.shape[0] // SUPERSAMPLE, art.copper.shape[1] // SUPERSAMPLE
    body = np.zeros_like(art.copper)
    corners = [round(v * SUPERSAMPLE) for v in area]
    body[corners[1] : corners[3], corners[0] : corners[2]] = 255
    copper, opening, drill, silk, board = (
        project(layer, matrix, width, height).astype(np.float32) / np.float32(255.0)
        for layer in (art.copper, art.opening, art.drill, art.silk, body)
    )
    lacquer, covered = _MASKS_BGR[int(rng.integers(len(_MASKS_BGR)))]
    finish = _FINISHES_BGR[int(rng.integers(len(_FINISHES_BGR)))]
    contrast = float(rng.uniform(0.8, 1.1))
    shade = rng.uniform(-6, 6, 3)
    ink = float(rng.uniform(195, 225))
    grain = _grain(rng, height, width)
    planes = []
    for c in range(3):
        base = lacquer[c] + float(shade[c])
        over = base + (covered[c] - lacquer[c]) * contrast
        laminate = (58.0, 112.0, 124.0)[c]
        plane = base + copper * np.float32(over - base)
        bare = laminate + copper * np.float32(finish[c] - laminate)
        plane += (bare - plane) * opening
        plane += (np.float32(ink) - plane) * silk
        plane += (np.float32(12.0) - plane) * drill
        plane = np.float32(BELT_BGR[c]) + (plane - np.float32(BELT_BGR[c])) * board
        planes.append(np.clip(np.rint(plane + grain), 0, 255).astype(np.uint8))
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def _grain(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return the texture of weave and belt, about +-4 levels, float32 (height, width)."""
    fine = rng.integers(0, 256, (height // 2, width // 2), np.uint8)
    coarse = rng.integers(0, 256, (height // 16, width // 16), np.uint8)
    fine = cv2.resize(cv2.GaussianBlur(fine, (0, 0), 0.9), (width, height))
    coarse = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    mixed = cv2.addWeighted(fine, 0.09, coarse, 0.035, -0.125 * 128.0, dtype=cv2.CV_32F)
    return np.asarray(mixed, dtype=np.float32)
