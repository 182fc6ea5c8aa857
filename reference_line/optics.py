"""The camera: what the lens and the motion do to artwork, and what the sensor does to a frame.

Lens blur, motion blur and skew act on a board once, when its texture is made.  Illumination, black
level and noise act on every frame and must stay cheap: a sub-pixel shift, one multiplication and
one saturating addition.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.artwork import SUPERSAMPLE, Mask

FRAME_WIDTH: Final = 1280
FRAME_HEIGHT: Final = 960
FRAME_RATE_HZ: Final = 30.0

_LENS_SIGMA_PX: Final = 0.6
_EXPOSURE_BLUR_PX: Final = 2.0
_BLACK_LEVEL: Final = 14
_NOISE_SIGMA: Final = 3.2
_NOISE_SLACK: Final = 160

Pixels = NDArray[np.uint8]


def project(mask: Mask, matrix: NDArray[np.float64], width: int, height: int) -> Mask:
    """Image a supersampled mask: lens blur, motion blur along x, skew, sampling.

    Args:
        mask: uint8 layer at ``SUPERSAMPLE`` times native resolution.
        matrix: float64 (2, 3), native texture coordinates to native texture coordinates (skew).
        width: Native width of the result, px.
        height: Native height of the result, px.

    Returns:
        uint8 (height, width) coverage, 0 to 255.
    """
    blurred = cv2.GaussianBlur(mask, (0, 0), _LENS_SIGMA_PX * SUPERSAMPLE)
    taps = round(_EXPOSURE_BLUR_PX * SUPERSAMPLE) + 1
    blurred = cv2.blur(blurred, (taps, 1))
    return np.asarray(
        cv2.warpAffine(blurred, _to_supersampled(matrix), (width, height), flags=_SAMPLING),
        dtype=np.uint8,
    )


_SAMPLING: Final = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def _to_supersampled(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the map from native result indices to supersampled source indices."""
    inverse = np.asarray(cv2.invertAffineTransform(matrix), dtype=np.float64)
    linear, shift = inverse[:, :2], inverse[:, 2]
    half = np.array([0.5, 0.5])
    offset = SUPERSAMPLE * (linear @ half + shift) - 0.5
    return np.hstack([SUPERSAMPLE * linear, offset[:, None]])


class Camera:
    """Turns strips of line into frames: illumination, black level, flicker and sensor noise.

    Not safe for use by several threads at once (it owns scratch buffers).

    Args:
        key: Seed sequence entropy of this camera; same key, same camera.
    """

    def __init__(self, key: tuple[int, ...]) -> None:
        self._key = key
        rng = np.random.default_rng((*key, 11))
        self._gain = _illumination(rng)
        shape = (FRAME_HEIGHT + _NOISE_SLACK, FRAME_WIDTH + _NOISE_SLACK, 3)
        noise = rng.standard_normal(shape, dtype=np.float32) * _NOISE_SIGMA + _BLACK_LEVEL
        self._noise = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
        self._shifted = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)

    def expose(self, strip: Pixels, fraction: float, index: int, out: Pixels) -> None:
        """Take frame ``index`` of a strip.

        Args:
            strip: uint8 (FRAME_HEIGHT, FRAME_WIDTH + 1, 3), line pixels under the camera.
            fraction: Sub-pixel shift to the right, 0 to 1.
            index: Frame number, which keys flicker and noise.
            out: uint8 (FRAME_HEIGHT, FRAME_WIDTH, 3), overwritten.
        """
        rng = np.random.default_rng((*self._key, 12, index))
        dx, dy = (int(v) for v in rng.integers(0, _NOISE_SLACK, 2))
        flicker = 1.0 + 0.015 * float(rng.uniform(-1, 1))
        cv2.addWeighted(strip[:, :-1], 1.0 - fraction, strip[:, 1:], fraction, 0.0, self._shifted)
        cv2.multiply(self._shifted, self._gain, self._shifted, flicker / 255.0)
        cv2.add(self._shifted, self._noise[dy : dy + FRAME_HEIGHT, dx : dx + FRAME_WIDTH], dst=out)


def _illumination(rng: np.random.Generator) -> Pixels:
    """Return each pixel's gain in 1/255, (FRAME_HEIGHT, FRAME_WIDTH, 3): slope and fall-off."""
    y, x = np.mgrid[-1.0 : 1.0 : FRAME_HEIGHT * 1j, -1.0 : 1.0 : FRAME_WIDTH * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.05, 0.16) * (np.cos(angle) * x + np.sin(angle) * y)
    cx, cy = rng.uniform(-0.3, 0.3, 2)
    falloff = rng.uniform(0.06, 0.16) * ((x - cx) ** 2 + (y - cy) ** 2)
    gain = 0.9 + slope - falloff
    gain = np.clip(gain / gain.max(), 0.3, 1.0) * 255.0
    tint = 1.0 - rng.uniform(0.0, 0.05, 3)
    return np.asarray(np.clip(np.rint(gain[:, :, None] * tint), 0, 255), dtype=np.uint8)
