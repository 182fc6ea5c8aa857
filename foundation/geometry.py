"""Where pixels go: letterboxing, crop regions, box arithmetic.

Both services use these same functions; otherwise a verdict could not be compared with a detection.
All boxes are float32 rows x1 y1 x2 y2, right and bottom exclusive.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import pydantic

from foundation.escalations import Region
from foundation.frames import Boxes, Pixels
from foundation.settings import Settings

_CUT_TOLERANCE = 1e-6
"""So that 0.3 + 0.1 times ten is four and not three."""


class ResizeKind(enum.StrEnum):
    """How an image is brought to the model's input size."""

    LETTERBOX = "letterbox"
    STRETCH = "stretch"


class Anchor(enum.StrEnum):
    """Where a letterboxed image lies in the model's input."""

    TOP_LEFT = "top_left"
    CENTER = "center"


class Interpolation(enum.StrEnum):
    """How pixels are resampled.

    `halving` halves with 2 by 2 averages while the scale is at most one half, then interpolates
    linearly: close to area averaging in quality at about a tenth of its cost.
    """

    LINEAR = "linear"
    HALVING = "halving"


class LetterboxSpec(Settings):
    """The part of a bundle's manifest that says how an image becomes model input."""

    kind: ResizeKind = ResizeKind.LETTERBOX
    anchor: Anchor = Anchor.TOP_LEFT
    pad_value: Annotated[int, pydantic.Field(ge=0, le=255)] = 114
    interpolation: Interpolation = Interpolation.LINEAR
    scale_max: Annotated[float, pydantic.Field(gt=0)] = 1e9
    """Largest enlargement. Beyond about 2 a detector gains nothing from interpolated pixels."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a source image lies inside a model's input.

    Attributes:
        source_width: pixels per row of the source.
        source_height: rows of the source.
        width: pixels per row of the resized source.
        height: rows of the resized source.
        offset_x: columns left of it.
        offset_y: rows above it.
    """

    source_width: int
    source_height: int
    width: int
    height: int
    offset_x: int
    offset_y: int

    def to_source(self, boxes: Boxes) -> Boxes:
        """Boxes (N, 4) from model input pixels to source pixels, clipped to the source."""
        scale_x = self.width / self.source_width
        scale_y = self.height / self.source_height
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        offset = np.array([self.offset_x, self.offset_y] * 2, np.float32)
        moved = np.asarray((boxes - offset) / scale, np.float32)
        return clip_boxes(moved, self.source_width, self.source_height)


class Letterbox:
    """Renders images of any size into one model's input; holds the buffers for it.

    Not thread-safe: each detector owns one.
    """

    def __init__(self, spec: LetterboxSpec, input_width: int, input_height: int) -> None:
        self._spec = spec
        self._input_width = input_width
        self._input_height = input_height
        self._halves: dict[tuple[int, int], Pixels] = {}

    def placement(self, source_width: int, source_height: int) -> Placement:
        """Where an image of this size goes."""
        if self._spec.kind is ResizeKind.STRETCH:
            return Placement(
                source_width, source_height, self._input_width, self._input_height, 0, 0
            )
        scale = min(
            self._input_width / source_width,
            self._input_height / source_height,
            self._spec.scale_max,
        )
        # The two public conventions differ: YOLOX (top left) cuts, Ultralytics (centred) rounds.
        # A pixel of the resized image is worth up to a point of mAP.
        centered = self._spec.anchor is Anchor.CENTER
        width = max(1, int(source_width * scale + (0.5 if centered else _CUT_TOLERANCE)))
        height = max(1, int(source_height * scale + (0.5 if centered else _CUT_TOLERANCE)))
        offset_x = offset_y = 0
        if centered:
            offset_x = (self._input_width - width) // 2
            offset_y = (self._input_height - height) // 2
        return Placement(source_width, source_height, width, height, offset_x, offset_y)

    def render(self, pixels: Pixels, placement: Placement, out: Pixels) -> None:
        """Writes the image into `out`, a (input_height, input_width, 3) uint8 array."""
        bottom = placement.offset_y + placement.height
        right = placement.offset_x + placement.width
        pad = self._spec.pad_value
        out[: placement.offset_y] = pad
        out[bottom:] = pad
        out[placement.offset_y : bottom, : placement.offset_x] = pad
        out[placement.offset_y : bottom, right:] = pad
        target = out[placement.offset_y : bottom, placement.offset_x : right]
        source = pixels
        if self._spec.interpolation is Interpolation.HALVING:
            source = self._halve(pixels, placement)
        if source.shape == target.shape:
            target[:] = source
            return
        size = (placement.width, placement.height)
        cv2.resize(source, size, dst=target, interpolation=cv2.INTER_LINEAR)

    def _halve(self, pixels: Pixels, placement: Placement) -> Pixels:
        while (
            pixels.shape[1] >= 2 * placement.width
            and pixels.shape[0] >= 2 * placement.height
            and pixels.shape[1] % 2 == 0
            and pixels.shape[0] % 2 == 0
        ):
            width, height = pixels.shape[1] // 2, pixels.shape[0] // 2
            half = self._halves.get((width, height))
            if half is None:
                if len(self._halves) >= 8:  # crops of ever new sizes must not pile up buffers
                    self._halves.clear()
                half = self._halves[width, height] = np.empty((height, width, 3), np.uint8)
            cv2.resize(pixels, (width, height), dst=half, interpolation=cv2.INTER_AREA)
            pixels = half
        return pixels


def clip_boxes(boxes: Boxes, width: int, height: int) -> Boxes:
    """Boxes (N, 4) limited to an image of this size."""
    limits = np.array([width, height, width, height], np.float32)
    return np.clip(boxes, np.float32(0), limits).astype(np.float32, copy=False)


def box_areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Areas (N,) in square pixels; an inverted box has none."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def intersection_matrix(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Areas (N, M) that boxes (N, 4) share with boxes (M, 4)."""
    # A coordinate at a time, in place: an array of pairs of sides takes ten times as long.
    left, top, right, bottom = first.T[:, :, None]
    across: npt.NDArray[np.float32] = np.minimum(right, second[:, 2])
    across -= np.maximum(left, second[:, 0])
    along = np.minimum(bottom, second[:, 3])
    along -= np.maximum(top, second[:, 1])
    np.maximum(across, 0, out=across)
    np.maximum(along, 0, out=along)
    across *= along
    return across


def iou_matrix(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union (N, M) of boxes (N, 4) with boxes (M, 4)."""
    shared = intersection_matrix(first, second)
    union = box_areas(first)[:, None] + box_areas(second)
    union -= shared
    np.maximum(union, np.float32(1e-9), out=union)
    shared /= union
    return shared


def crop_region(
    box: Boxes, *, margin: float, side_min_px: int, frame_width: int, frame_height: int
) -> Region:
    """The square region around a box that is sent to the cloud.

    Its side is `margin` times the longer side of the box, at least `side_min_px`. Where it would
    leave the frame it is shifted inside, because real pixels are worth more than padding; it is
    smaller than asked for only where the frame is.

    Args:
        box: (4,) float32, source pixels.
        margin: side of the region in sides of the box.
        side_min_px: smallest side.
        frame_width: source pixels per row.
        frame_height: source rows.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    side = max(side_min_px, round(margin * max(x2 - x1, y2 - y1)))
    width, height = min(side, frame_width), min(side, frame_height)
    left = min(max(0, round((x1 + x2 - width) / 2)), frame_width - width)
    top = min(max(0, round((y1 + y2 - height) / 2)), frame_height - height)
    return Region(left, top, left + width, top + height)


def crop_within(region: Region, boxes: Boxes, *, margin: float, side_min_px: int) -> Region:
    """What is left of a crop that shows boxes, where less of their surroundings is wanted.

    The span of the square regions around the boxes, each shifted into the crop.

    Args:
        region: the crop, source pixels.
        boxes: (N, 4) float32, source pixels, at least one, inside the crop.
        margin: as for `crop_region`.
        side_min_px: as for `crop_region`.
    """
    corner = np.array([region.x1, region.y1] * 2, np.float32)
    parts = [
        crop_region(
            box,
            margin=margin,
            side_min_px=side_min_px,
            frame_width=region.width,
            frame_height=region.height,
        )
        for box in boxes - corner
    ]
    return Region(
        region.x1 + min(part.x1 for part in parts),
        region.y1 + min(part.y1 for part in parts),
        region.x1 + max(part.x2 for part in parts),
        region.y1 + max(part.y2 for part in parts),
    )
