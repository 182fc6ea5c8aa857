"""Runs a bundle over a split and says how good it is: COCO mAP, and F1 at one threshold.

The detector is the services' own, so a wrong box convention shows here as a wrong mAP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.datasets import Split
from model_workshop.evaluation.matching import (
    IOU_MIN,
    Matches,
    OperatingPoint,
    best_operating_point,
    match,
)
from model_workshop.evaluation.rankings import AP_ROWS, DETECTIONS_MAX, rank
from model_workshop.evaluation.truth import Array, read_truth

SCORE_FLOOR = 0.001


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """How good a bundle is on a split.

    Attributes:
        map50_95: COCO mean average precision over IoU 0.5 to 0.95, in 0..1.
        map50: the same at IoU 0.5.
        class_map50: average precision at IoU 0.5 by label.
        best: the threshold on raw scores with the highest F1, one for all classes.
        images: how many were evaluated.
    """

    map50_95: float
    map50: float
    class_map50: dict[str, float]
    best: OperatingPoint
    images: int


def wide_open(bundle: Bundle) -> Bundle:
    """The same bundle, keeping every detection above 0.001 and up to 300 per image."""
    postprocess = bundle.info.postprocess.model_copy(
        update={"score_floor": SCORE_FLOOR, "detections_max": DETECTIONS_MAX, "multi_label": True}
    )
    info = bundle.info.model_copy(update={"postprocess": postprocess})
    return dataclasses.replace(bundle, info=info)


def detect_split(bundle: Bundle, split: Split, *, threads: int = 1) -> list[Detections]:
    """Raw detections of every picture, in order.

    Raises:
        ConfigError: the split's labels are not the bundle's, or a picture cannot be read.
    """
    check_labels(bundle, split)
    detector = Detector.open(wide_open(bundle), intra_op_threads=threads)
    return [detector.detect(picture.read()) for picture in split.pictures]


def check_labels(bundle: Bundle, split: Split) -> None:
    """Compares the labels of a bundle and a split.

    Raises:
        ConfigError: they differ in number, name or order.
    """
    if bundle.labels != split.labels:
        raise ConfigError(
            f"Bundle {bundle.info.name} knows {len(bundle.labels)} classes "
            f"({', '.join(bundle.labels[:3])}, ...), but {split.annotation_path} has "
            f"{len(split.labels)} ({', '.join(split.labels[:3])}, ...)",
            remedy="Evaluate on a dataset with the bundle's labels in the bundle's order",
        )


def matches_of(split: Split, found: Sequence[Detections]) -> Matches:
    """The detections of a split, those of crowds aside, matched with its objects."""
    truth = [(picture.boxes, picture.class_ids) for picture in split.pictures]
    return match(outside_crowds(split, found), truth, len(split.labels))


def outside_crowds(split: Split, found: Sequence[Detections]) -> list[Detections]:
    """The detections that count: all but those of a crowd and of no single object.

    A crowd stands for objects that nobody drew one by one, so that a detection in it is neither
    right nor wrong. As COCO has it, a detection is of a crowd of its class by the share of its own
    area that the crowd covers.
    """
    truth, counted = read_truth(split), list(found)
    for image in np.unique(truth.images[truth.crowds]).tolist():
        own, picture = truth.crowds & (truth.images == image), split.pictures[image]
        detections = counted[image]
        covered = _covered(detections, truth.boxes[own], truth.class_ids[own])
        hits = match([detections], [(picture.boxes, picture.class_ids)], len(split.labels)).hits
        counted[image] = detections.take(np.flatnonzero(hits | (covered < IOU_MIN)))
    return counted


def _covered(detections: Detections, crowds: Array, class_ids: npt.NDArray[np.intp]) -> Array:
    """The largest share (N,) of each detection that one crowd (x y width height) covers."""
    boxes = detections.boxes.astype(np.float64)[:, None]
    low = np.maximum(boxes[..., :2], crowds[None, :, :2])
    high = np.minimum(boxes[..., 2:], crowds[None, :, :2] + crowds[None, :, 2:])
    common = np.maximum(high - low, 0.0).prod(axis=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)
    common[detections.class_ids[:, None] != class_ids[None]] = 0.0
    return np.asarray((common / np.maximum(areas, 1e-9)).max(axis=1))


def evaluate(bundle: Bundle, split: Split, *, threads: int = 1) -> CocoFigures:
    """Evaluates a bundle on a split.

    Raises:
        ConfigError: the split's labels are not the bundle's, or a picture cannot be read.
    """
    return score_detections(split, detect_split(bundle, split, threads=threads))


def score_detections(split: Split, found: Sequence[Detections]) -> CocoFigures:
    """Figures of detections that were made elsewhere, one entry per picture of the split."""
    matches = matches_of(split, found)
    best = best_operating_point(matches.scores, matches.hits, int(matches.objects.sum()))
    rankings = rank(split, read_truth(split), found)
    at_half = np.nan_to_num(rankings.precision[AP_ROWS["ap50"]].mean(axis=(0, 1)))
    return CocoFigures(
        rankings.mean_precision(AP_ROWS["ap50_95"]) or 0.0,
        rankings.mean_precision(AP_ROWS["ap50"]) or 0.0,
        dict(zip(split.labels, at_half.tolist(), strict=True)),
        best,
        len(split.pictures),
    )
