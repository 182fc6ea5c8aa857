"""Runs a bundle over a split and says how good it is: COCO mAP, and F1 at one threshold.

The detector is the services' own, so a wrong box convention shows here as a wrong mAP.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.datasets import Split
from model_workshop.evaluation.matching import Matches, OperatingPoint, best_operating_point, match

SCORE_FLOOR = 0.001
DETECTIONS_MAX = 300


@dataclass(frozen=True, slots=True)
class Evaluation:
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
    """The detections of a split matched with its objects."""
    truth = [(picture.boxes, picture.class_ids) for picture in split.pictures]
    return match(found, truth, len(split.labels))


def evaluate(bundle: Bundle, split: Split, *, threads: int = 1) -> Evaluation:
    """Evaluates a bundle on a split.

    Raises:
        ConfigError: the split's labels are not the bundle's, or a picture cannot be read.
    """
    return score_detections(split, detect_split(bundle, split, threads=threads))


def score_detections(split: Split, found: Sequence[Detections]) -> Evaluation:
    """Figures of detections that were made elsewhere, one entry per picture of the split."""
    matches = matches_of(split, found)
    best = best_operating_point(matches.scores, matches.hits, int(matches.objects.sum()))
    overall, at_half, by_class = _coco_figures(split, found)
    return Evaluation(overall, at_half, by_class, best, len(split.pictures))


def _coco_figures(
    split: Split, found: Sequence[Detections]
) -> tuple[float, float, dict[str, float]]:
    """mAP50-95, mAP50 and AP50 by label, by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rows = []
    for picture, detections in zip(split.pictures, found, strict=True):
        for box, score, class_id in zip(
            detections.boxes, detections.scores, detections.class_ids, strict=True
        ):
            x1, y1, x2, y2 = box.tolist()
            rows.append([picture.image_id, x1, y1, x2 - x1, y2 - y1, float(score), int(class_id)])
    if not rows:
        return 0.0, 0.0, dict.fromkeys(split.labels, 0.0)
    table = np.array(rows, np.float64)
    table[:, 6] = np.array(split.category_ids)[table[:, 6].astype(int)]
    with contextlib.redirect_stdout(io.StringIO()):  # it narrates
        truth = COCO(str(split.annotation_path))
        evaluation = COCOeval(truth, truth.loadRes(table), "bbox")
        evaluation.params.imgIds = [picture.image_id for picture in split.pictures]
        evaluation.params.maxDets = [1, 10, DETECTIONS_MAX]
        evaluation.evaluate()
        evaluation.accumulate()
    # Precision is indexed by IoU, recall, class, area, detections; -1 where there are no objects.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_class = {label: _mean(precision[0, :, index]) for index, label in enumerate(split.labels)}
    return _mean(precision), _mean(precision[0]), by_class


def _mean(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else 0.0
