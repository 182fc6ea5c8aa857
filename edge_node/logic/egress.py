"""What may leave of a frame: what is masked, what is blurred, and what is not sent at all.

Pure. Redaction happens where a crop is cut, so that nothing behind it, in memory, on disk or on the
wire, holds what may not leave. It can only hide what the edge sees: an object that the edge's
detector misses is hidden by a zone alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_node.config import EgressSettings
from edge_node.logic.rows import Floats, Mask
from edge_node.values import EgressRefusal
from foundation.errors import ConfigError
from foundation.escalations import Escalation, LabelledBoxes, Region
from foundation.frames import Boxes, Pixels
from foundation.geometry import intersection_matrix

GREY = 128
_CELLS = 4
"""Cells each way into which a blurred object is averaged: too few to tell anyone by."""
_MARGIN = 0.15
"""By how much more than a box is hidden, in its sides: a box is not known to the pixel."""
_HEAD_SHARE = 1 / 3
"""Of a standing body's height, what its head and shoulders take."""
_STEPS_A_PX = 4
HIDDEN_SHARE = 0.5
"""A crop, or an object, of which more is hidden has nothing to ask about."""
_TICKS = (np.arange(16, dtype=np.float32) + np.float32(0.5)) / np.float32(16)
"""Where a box is looked at, each way, in its sides: as fine as a share of it must be known."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """What of one frame may not leave, source pixels.

    Attributes:
        zone: (height, width) where nothing may be seen; None: nowhere.
        masked: (N, 4) float32, objects that are masked.
        blurred: (M, 4) float32, what is blurred.
    """

    zone: Mask | None = None
    masked: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    blurred: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def apply(self, crop: Pixels, region: Region) -> None:
        """Hides in a crop (height, width, 3) of this region what may not be seen."""
        for box in self.blurred.tolist():
            _blur(crop, region, box)
        for box in self.masked.tolist():
            left, top, right, bottom = _within(box, region)
            crop[top:bottom, left:right] = GREY
        if self.zone is not None:
            crop[self.zone[region.y1 : region.y2, region.x1 : region.x2]] = GREY

    def hidden_shares(self, boxes: Boxes) -> Floats:
        """How much (N,) of each box (N, 4), source pixels, is hidden in whatever shows it."""
        if self.zone is None and len(self.masked) + len(self.blurred) == 0:
            return np.zeros(len(boxes), np.float32)
        x = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * _TICKS
        y = boxes[:, 1:2] + (boxes[:, 3:] - boxes[:, 1:2]) * _TICKS
        hidden = np.zeros((len(boxes), len(_TICKS), len(_TICKS)), np.bool_)
        if self.zone is not None:
            height, width = self.zone.shape
            column = x.astype(np.intp).clip(0, width - 1)
            row = y.astype(np.intp).clip(0, height - 1)
            hidden = self.zone[row[:, :, None], column[:, None]]
        over = np.concatenate([self.masked, self.blurred])
        box, by = intersection_matrix(boxes, over).nonzero()
        if box.size:
            x1, y1, x2, y2 = over[by].T[:, :, None]
            across = (x1 <= x[box]) & (x[box] < x2)
            down = (y1 <= y[box]) & (y[box] < y2)
            first = np.flatnonzero(np.diff(box, prepend=-1))
            cells = down[:, :, None] & across[:, None]
            hidden[box[first]] |= np.logical_or.reduceat(cells, first, axis=0)
        shares: Floats = hidden.mean(axis=(1, 2), dtype=np.float32)
        return shares


NOTHING_HIDDEN = Redaction()


def digest_of(settings: EgressSettings) -> str:
    """SHA-256 of what the settings hide: a crop that was cut under others cannot be cut again.

    Empty where they hide nothing.
    """
    hidden = (
        sorted(sorted(polygon) for polygon in settings.zones_never),
        sorted(set(settings.labels_never)),
        sorted(settings.blur.items()),
    )
    if not any(hidden):
        return ""
    return hashlib.sha256(json.dumps(hidden).encode()).hexdigest()


def may_leave_late(settings: EgressSettings, escalation: Escalation, digest: str) -> bool:
    """Whether a crop that was cut under settings with this digest may leave under these."""
    longest = max(escalation.region.width, escalation.region.height)
    fits = longest <= settings.crop_side_max_px and len(escalation.image) <= settings.crop_bytes_max
    return fits and not settings.nothing and digest == digest_of(settings)


class EgressPolicy:
    """The settings, for a bundle's labels.

    Attributes:
        hidden_labels: By the bundle's labels, classes of which something is hidden.
    """

    def __init__(self, settings: EgressSettings, labels: Sequence[str]) -> None:
        """Takes the labels that the edge's model can see.

        Raises:
            ConfigError: The settings name another label, which could never be hidden.
        """
        for key, names in (("labels_never", settings.labels_never), ("blur", settings.blur)):
            for name in names:
                if name not in labels:
                    raise ConfigError(
                        f"egress.{key} names the label {name!r}, which the edge's model does not "
                        "see and so could not hide",
                        remedy=f"Choose from {', '.join(labels)}",
                    )
        self._settings = settings
        self._never = {labels.index(name) for name in settings.labels_never}
        self._whole = {labels.index(n) for n, part in settings.blur.items() if part == "whole"}
        self._head = {labels.index(n) for n, part in settings.blur.items() if part == "head"}
        self.hidden_labels = frozenset(self._never | self._whole | self._head)
        self._zones: dict[tuple[int, int], Mask] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is ever hidden."""
        return not (self.hidden_labels or self._settings.zones_never)

    def redaction(self, size: tuple[int, int], boxes: Boxes, class_ids: Sequence[int]) -> Redaction:
        """What may not leave of a frame.

        Args:
            size: Its width and height.
            boxes: (N, 4) float32, source pixels, of everything that is detected or tracked in it.
            class_ids: Their N classes, by the bundle's labels; others are further ones.
        """
        if self.is_empty:
            return NOTHING_HIDDEN
        masked, blurred = [], []
        if self.hidden_labels:
            for box, class_id in zip(boxes.tolist(), class_ids, strict=True):
                if class_id in self._never:
                    masked.append(_widened(box))
                elif class_id in self._whole:
                    blurred.append(_widened(box))
                elif class_id in self._head:
                    x1, y1, x2, y2 = box
                    blurred.append(_widened([x1, y1, x2, y1 + (y2 - y1) * _HEAD_SHARE]))
        return Redaction(self._zone(size), _array(masked), _array(blurred))

    def refusal(
        self, proposals: LabelledBoxes, crop: Pixels, image_bytes: int
    ) -> EgressRefusal | None:
        """Why an escalation may not leave at all; None where it may.

        Args:
            proposals: What it asks about.
            crop: (height, width, 3) uint8 BGR, redacted.
            image_bytes: What it takes, encoded.
        """
        settings = self._settings
        if settings.nothing:
            return EgressRefusal.NOTHING
        if set(proposals.labels).intersection(settings.labels_never):
            return EgressRefusal.LABEL
        if max(crop.shape[:2]) > settings.crop_side_max_px:
            return EgressRefusal.SIDE
        if image_bytes > settings.crop_bytes_max:
            return EgressRefusal.BYTES
        if not self.is_empty and float((crop == GREY).all(axis=2).mean()) > HIDDEN_SHARE:
            return EgressRefusal.HIDDEN
        return None

    def _zone(self, size: tuple[int, int]) -> Mask | None:
        polygons = self._settings.zones_never
        if not polygons:
            return None
        if size not in self._zones:
            self._zones = {size: fill_polygons(polygons, size)}
        return self._zones[size]


def fill_polygons(polygons: Sequence[Sequence[tuple[float, float]]], size: tuple[int, int]) -> Mask:
    """Where (height, width) a frame lies in polygons; every pixel that one touches counts.

    Args:
        polygons: Corners x, y as shares of width and height.
        size: Width and height in pixels.
    """
    width, height = size
    inside = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        corners = [(x * width, y * height) for x, y in polygon]
        edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
        for row in range(height):
            level = row + 0.5
            crossings = sorted(
                x1 + (level - y1) * (x2 - x1) / (y2 - y1)
                for (x1, y1), (x2, y2) in edges
                if (y1 <= level) != (y2 <= level)
            )
            for left, right in zip(crossings[::2], crossings[1::2], strict=True):
                inside[row, max(0, math.floor(left)) : max(0, math.ceil(right))] = True
        # What lies between the middles of two rows is found along the sides.
        for (x1, y1), (x2, y2) in edges:
            count = 2 + int(_STEPS_A_PX * math.hypot(x2 - x1, y2 - y1))
            columns = np.linspace(x1, x2, count).astype(np.intp).clip(0, width - 1)
            inside[np.linspace(y1, y2, count).astype(np.intp).clip(0, height - 1), columns] = True
    return inside


def _blur(crop: Pixels, region: Region, box: list[float]) -> None:
    """Averages cells of a box. Cells are the box's own, so that crops of it add no detail."""
    across, down = (box[2] - box[0]) / _CELLS, (box[3] - box[1]) / _CELLS
    for row in range(_CELLS):
        for column in range(_CELLS):
            x1, y1 = box[0] + column * across, box[1] + row * down
            left, top, right, bottom = _within([x1, y1, x1 + across, y1 + down], region)
            cell = crop[top:bottom, left:right]
            if cell.size:
                cell[:] = cell.mean(axis=(0, 1)).astype(np.uint8)


def _within(box: Sequence[float], region: Region) -> tuple[int, int, int, int]:
    """A box in whole pixels of a crop, each that it touches, clipped."""
    return (
        min(max(math.floor(box[0]) - region.x1, 0), region.width),
        min(max(math.floor(box[1]) - region.y1, 0), region.height),
        min(max(math.ceil(box[2]) - region.x1, 0), region.width),
        min(max(math.ceil(box[3]) - region.y1, 0), region.height),
    )


def _widened(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    across, down = _MARGIN * (x2 - x1), _MARGIN * (y2 - y1)
    return [x1 - across, y1 - down, x2 + across, y2 + down]


def _array(boxes: list[list[float]]) -> Boxes:
    return np.array(boxes, np.float32).reshape(-1, 4)
