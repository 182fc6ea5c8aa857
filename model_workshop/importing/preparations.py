"""How a picture becomes model input: a convention of those who trained, not stated in any file."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from foundation.geometry import Anchor, LetterboxSpec, ResizeKind

_STRETCH = LetterboxSpec(kind=ResizeKind.STRETCH)
_THREE_ZEROS = (0.0, 0.0, 0.0)
_THREE_ONES = (1.0, 1.0, 1.0)


class Preparation(enum.StrEnum):
    """Names of conventions, as `--pixels` takes them."""

    YOLOX = "yolox"
    ULTRALYTICS = "ultralytics"
    DETR = "detr"
    FASTESTDET = "fastestdet"
    IMAGENET = "imagenet"
    INCEPTION = "inception"
    MMDETECTION = "mmdetection"


@dataclass(frozen=True, slots=True)
class Convention:
    """A pixel value v of 0..255 becomes (v * scale - mean) / std, in the order of `color`."""

    color: Literal["BGR", "RGB"]
    letterbox: LetterboxSpec
    scale: float = 1.0
    mean: tuple[float, float, float] = _THREE_ZEROS
    std: tuple[float, float, float] = _THREE_ONES

    def __str__(self) -> str:
        resize = str(self.letterbox.kind)
        if self.letterbox.kind is ResizeKind.LETTERBOX:
            resize += f" {self.letterbox.anchor}"
        values = f"0..{255 * self.scale:g}"
        if (self.mean, self.std) != (_THREE_ZEROS, _THREE_ONES):
            values = f"({values} - {self.mean}) / {self.std}"
        return f"{self.color}, {values}, {resize}"


CONVENTIONS = {
    Preparation.YOLOX: Convention("BGR", LetterboxSpec()),
    Preparation.ULTRALYTICS: Convention("RGB", LetterboxSpec(anchor=Anchor.CENTER), 1 / 255),
    Preparation.DETR: Convention("RGB", _STRETCH, 1 / 255),
    Preparation.FASTESTDET: Convention("BGR", _STRETCH, 1 / 255),
    Preparation.IMAGENET: Convention(
        "RGB", _STRETCH, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ),
    Preparation.INCEPTION: Convention("RGB", _STRETCH, 1 / 127.5, _THREE_ONES),
    Preparation.MMDETECTION: Convention(
        "BGR", LetterboxSpec(), 1.0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
    ),
}
