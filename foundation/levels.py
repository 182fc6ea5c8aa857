"""How much of a place is sent: how much around it, how much shrunk, in which format and quality.

These together decide what an escalation costs, more than the choice of the place does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np

from foundation.errors import ConfigError
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import encode_image

LOSSLESS_QUALITY = 100
"""The only quality of PNG."""
SIDES_PX = (16, 4096)
"""Least and largest shortest side of a crop."""
_TEXT = re.compile(
    r"([a-z]+)([0-9]{1,3})?(?:@([0-9]+(?:\.[0-9]+)?(?:e-[0-9]{1,3})?))?(?:/([0-9]{1,5}))?", re.ASCII
)
_EXAMPLES = (
    "Write it like avif45, webp80@0.5, png or webp80/96: format, quality 1 to 100, scale up to 1, "
    "shortest side of the crop in pixels"
)


@dataclass(frozen=True, slots=True)
class Level:
    """One way to cut and compress a crop.

    Its text is `avif45@0.5/96`; a scale of 1, the quality of PNG and a side that is not its own are
    left out.

    Attributes:
        encoding: the format.
        quality: 1 to 100 on the format's own scale; 100 for PNG, which loses nothing.
        scale: sides of the image that is sent over those of the crop; above 0, at most 1.
        side_px: shortest side of the crop in source pixels; None: what the settings say.

    Raises:
        ValueError: a value lies outside its range.
    """

    encoding: Encoding
    quality: int
    scale: float = 1.0
    side_px: int | None = None

    def __post_init__(self) -> None:
        lossless = self.encoding is Encoding.PNG
        if not (LOSSLESS_QUALITY if lossless else 1) <= self.quality <= LOSSLESS_QUALITY:
            allowed = LOSSLESS_QUALITY if lossless else "1 to 100"
            raise ValueError(f"the quality of {self.encoding} is {allowed}, not {self.quality}")
        if not 0 < self.scale <= 1:
            raise ValueError(f"the scale is above 0 and at most 1, not {self.scale}")
        least, most = SIDES_PX
        if self.side_px is not None and not least <= self.side_px <= most:
            raise ValueError(f"the side is {least} to {most} pixels, not {self.side_px}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The level that a text names; `Level.parse(str(level)) == level`.

        Raises:
            ConfigError: it names none.
        """
        parts = _TEXT.fullmatch(text)
        if parts is None or parts[1] not in set(Encoding):
            raise ConfigError(
                f"{text!r} is no level",
                remedy=f"{_EXAMPLES}; formats are {', '.join(Encoding)}",
            )
        encoding = Encoding(parts[1])
        if parts[2] is None and encoding is not Encoding.PNG:
            raise ConfigError(f"The level {text!r} has no quality", remedy=_EXAMPLES)
        quality = LOSSLESS_QUALITY if parts[2] is None else int(parts[2])
        try:
            scale = 1.0 if parts[3] is None else float(parts[3])
            return cls(encoding, quality, scale, None if parts[4] is None else int(parts[4]))
        except ValueError as error:
            raise ConfigError(f"The level {text!r}: {error}", remedy=_EXAMPLES) from error

    def __str__(self) -> str:
        quality = "" if self.encoding is Encoding.PNG else f"{self.quality}"
        scale = "" if self.scale == 1 else f"@{float(self.scale)!r}"
        side = "" if self.side_px is None else f"/{self.side_px}"
        return f"{self.encoding}{quality}{scale}{side}"

    def shrunk_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in pixels that are sent of a crop of this size; never 0."""
        return max(1, round(width * self.scale)), max(1, round(height * self.scale))


def encode_at(pixels: Pixels, level: Level) -> bytes:
    """Shrinks a crop by averaging areas and compresses it.

    Args:
        pixels: (height, width, 3) uint8 BGR.
        level: how.

    Returns:
        The image, which covers exactly what the crop covers.

    Raises:
        ValueError: the image cannot be encoded (it has no pixels, say).
    """
    height, width = pixels.shape[:2]
    size = level.shrunk_size(width, height)
    if pixels.size and size != (width, height):
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_image(pixels, level.encoding, level.quality)
