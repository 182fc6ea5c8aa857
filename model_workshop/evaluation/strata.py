"""Kinds of objects that a mean hides: by class, rarity, size, contrast and crowding.

A dimension that is a number of an object is cut at quantiles of the split, so that every stratum is
populated, or where the caller says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foundation.frames import Pixels
from foundation.geometry import iou_matrix
from model_workshop.datasets import Split
from model_workshop.evaluation.truth import Array, Mask, Truth

_RING_MIN_PX = 4
_CLASSES_NAMED = 3
_NAMES = {
    "size": ("smallest", "small", "large", "largest"),
    "contrast": ("faint", "medium", "strong"),
    "crowding": ("crowded", "between", "apart"),
}
DIMENSIONS = tuple(_NAMES)
"""The dimensions that are a number, from hard to easy, and can be cut elsewhere."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """One kind of object.

    Attributes:
        dimension: what it is told apart by.
        name: within the dimension.
        span: what belongs to it, in words.
        members: (O,) the objects of the split that are of this kind.
    """

    dimension: str
    name: str
    span: str
    members: Mask


def strata_of(
    split: Split, truth: Truth, edges: Mapping[str, Sequence[float]] | None = None
) -> tuple[Stratum, ...]:
    """The strata of a split that have objects, dimension after dimension.

    Args:
        split: whose pictures are read for contrast.
        truth: its objects.
        edges: ascending cuts by dimension, instead of quantiles.

    Raises:
        ConfigError: a picture cannot be read.
    """
    values = {
        "size": truth.sizes_px,
        "contrast": contrasts(split, truth),
        "crowding": separations(truth),
    }
    strata = [*_classes(split, truth), *_rarities(split, truth)]
    for dimension, numbers in values.items():
        strata += _cut(dimension, numbers, truth.objects, (edges or {}).get(dimension))
    return tuple(stratum for stratum in strata if stratum.members.any())


def _classes(split: Split, truth: Truth) -> list[Stratum]:
    return [
        Stratum("class", label, label, truth.objects & (truth.class_ids == class_id))
        for class_id, label in enumerate(split.labels)
    ]


def _rarities(split: Split, truth: Truth) -> list[Stratum]:
    """Thirds of the classes by number of objects; nothing where there are fewer than three."""
    counts = np.bincount(truth.class_ids[truth.objects], minlength=len(split.labels))
    there = np.flatnonzero(counts)
    if len(there) < 3:
        return []
    ascending = there[np.argsort(counts[there], kind="stable")]
    strata = []
    for name, classes in zip(
        ("rare", "common", "frequent"), np.array_split(ascending, 3), strict=True
    ):
        own = counts[classes]
        span = ", ".join(split.labels[index] for index in classes)
        if len(classes) > _CLASSES_NAMED:
            span = f"{len(classes)} classes with {own.min()} to {own.max()} objects"
        members = truth.objects & np.isin(truth.class_ids, classes)
        strata.append(Stratum("rarity", name, span, members))
    return strata


def _cut(
    dimension: str, values: Array, objects: Mask, edges: Sequence[float] | None
) -> list[Stratum]:
    """Strata below, between and above edges; a value on an edge belongs to what is above it."""
    if not objects.any():
        return []
    names = _NAMES[dimension]
    if edges is None:
        shares = np.arange(1, len(names)) / len(names)
        found = np.unique(np.quantile(values[objects], shares, method="higher"))
        # Equal values are never torn apart; a cut at the least of them would leave nothing below.
        cuts = found[np.isfinite(found) & (found > values[objects].min())].tolist()
    else:
        cuts = list(edges)
    spans = [
        _span(dimension, low, high) for low, high in zip([None, *cuts], [*cuts, None], strict=True)
    ]
    if edges is not None or len(spans) != len(names):
        names = tuple(spans)
    bins = np.searchsorted(cuts, values, side="right")
    return [
        Stratum(dimension, name, span, objects & (bins == index))
        for index, (name, span) in enumerate(zip(names, spans, strict=True))
    ]


def _span(dimension: str, low: float | None, high: float | None) -> str:
    unit = {"size": "px", "contrast": "grey levels", "crowding": "sides apart"}[dimension]
    if dimension == "crowding" and max(edge for edge in (low, high, -1.0) if edge is not None) < 0:
        # Both ends are overlaps, and the larger one is the nearer.
        low, high, unit = (None if high is None else -high), (None if low is None else -low), "IoU"
    first, last = (
        None if edge is None else f"{edge:.3g}" if edge >= 0 else f"IoU {-edge:.3g}"
        for edge in (low, high)
    )
    if first is None:
        return "all" if last is None else f"under {last} {unit}"
    return f"{first} {unit} or more" if last is None else f"{first} to {last} {unit}"


def separations(truth: Truth) -> Array:
    """How far every object (O,) is from the nearest other one of its image, crowds aside.

    The gap between the boxes in units of the object's own size (square root of its box's area); an
    object that overlaps another has minus the largest IoU instead, one that is alone infinity.
    """
    result = np.full(len(truth), np.inf)
    sides = np.sqrt(truth.boxes[:, 2] * truth.boxes[:, 3])
    for image in np.unique(truth.images):
        own = np.flatnonzero((truth.images == image) & truth.objects)
        if len(own) < 2:
            continue
        low = truth.boxes[own, :2]
        high = low + truth.boxes[own, 2:]
        apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None])
        gap = np.hypot(*np.moveaxis(np.maximum(apart, 0.0), -1, 0)) / sides[own, None]
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        overlap = iou_matrix(boxes, boxes).astype(np.float64)
        measure = np.where(overlap > 0, -overlap, gap)
        np.fill_diagonal(measure, np.inf)
        result[own] = measure.min(axis=1)
    return result


def contrasts(split: Split, truth: Truth) -> Array:
    """How every object (O,) differs from what surrounds it, in grey levels.

    The Wasserstein-1 distance between the values inside the box and those in a ring around it, in
    the colour channel where it is largest: the difference of the means where only the means
    differ, and more than that where texture differs. The ring is half a side wide on every side,
    at least 4 pixels, cut at the picture's border.

    Raises:
        ConfigError: a picture cannot be read.
    """
    result = np.zeros(len(truth))
    for image, picture in enumerate(split.pictures):
        own = np.flatnonzero((truth.images == image) & truth.objects)
        if len(own):
            pixels = picture.read()
            result[own] = [_contrast(pixels, truth.boxes[index]) for index in own]
    return result


def _contrast(pixels: Pixels, box: Array) -> float:
    height, width = pixels.shape[:2]
    x, y, w, h = box.tolist()
    margin = max(_RING_MIN_PX, 0.5 * (w * h) ** 0.5)
    inner = _limits(x, y, x + w, y + h, width, height)
    outer = _limits(x - margin, y - margin, x + w + margin, y + h + margin, width, height)
    inside = _histograms(pixels, inner)
    ring = _histograms(pixels, outer) - inside
    if not ring.any():  # the object fills its picture
        return 0.0
    shares = [np.cumsum(h, axis=1) / h.sum(axis=1, keepdims=True) for h in (inside, ring)]
    return float(np.abs(shares[0] - shares[1]).sum(axis=1).max())


def _limits(*box_and_size: Any) -> tuple[int, int, int, int]:
    """A box in whole pixels of the picture, at least one of them."""
    x1, y1, x2, y2, width, height = box_and_size
    left = min(max(0, round(x1)), width - 1)
    top = min(max(0, round(y1)), height - 1)
    return left, top, min(max(left + 1, round(x2)), width), min(max(top + 1, round(y2)), height)


def _histograms(pixels: Pixels, limits: tuple[int, int, int, int]) -> npt.NDArray[np.float64]:
    """How often each value occurs in a part of a picture, (channels, 256)."""
    x1, y1, x2, y2 = limits
    part = pixels[y1:y2, x1:x2]
    counts = [cv2.calcHist([part], [channel], None, [256], [0, 256]) for channel in range(3)]
    return np.stack([count.ravel() for count in counts]).astype(np.float64)
