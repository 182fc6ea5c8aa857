"""Who matched whom, by pycocotools, kept as arrays from which figures can be had again and again.

pycocotools decides which detection is of which object; everything after that, under any weights of
images and for any choice of objects, is arithmetic on these tables (`precision.py`).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.frames import Detections
from model_workshop.datasets import Split
from model_workshop.evaluation.matching import IOU_MIN
from model_workshop.evaluation.truth import Array, Truth

DETECTIONS_MAX = 300
IOUS = np.concatenate([[IOU_MIN], np.linspace(0.5, 0.95, 10)])
"""Row by row of `Ranking.matched`: the place-not-outline threshold, then COCO's ten."""
AP_ROWS = {"ap50_95": slice(1, None), "ap50": slice(1, 2), "ap75": slice(6, 7), "ap33": slice(0, 1)}
"""Rows of `IOUS` over which a figure is the mean."""
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}
"""COCO's fixed ranges of an object's area in square pixels."""
MISS, IGNORED = -1, -2


@dataclass(frozen=True, slots=True)
class Ranking:
    """The detections of one class in all images, best score first.

    Attributes:
        images: (D,) index of the picture.
        found: (D,) index of the detection among all detections, image after image.
        matched: (IoU, D) index of the object it is of; `MISS` for a false alarm; `IGNORED` where
            COCO counts it neither way, because it is of a crowd or outside an area.
    """

    images: npt.NDArray[np.intp]
    found: npt.NDArray[np.intp]
    matched: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Rankings:
    """What pycocotools made of the detections of a split.

    Attributes:
        by_area: for every range of `AREAS`, one ranking a class.
        precision: (IoU, 101, classes) interpolated precision of all objects at the recalls 0, 0.01,
            ..., 1; NaN for a class without objects.
        recall: (IoU, classes) largest recall; NaN likewise.
    """

    by_area: dict[str, tuple[Ranking, ...]]
    precision: Array
    recall: Array

    def mean_precision(self, rows: slice) -> float | None:
        """COCO's mAP over some rows of `IOUS`; None where there are no objects."""
        return _mean(self.precision[rows])

    @property
    def mean_recall(self) -> float | None:
        """COCO's AR at 300 detections an image; None where there are no objects."""
        return _mean(self.recall[AP_ROWS["ap50_95"]])


def rank(split: Split, truth: Truth, found: Sequence[Detections]) -> Rankings:
    """Matches the detections of every picture with its objects as COCO does."""
    evaluation = _run_coco(split, truth, found)
    classes, pictures = len(split.labels), len(split.pictures)
    by_area = {}
    for number, name in enumerate(AREAS):
        start = np.arange(classes) * len(AREAS) * pictures + number * pictures
        by_area[name] = tuple(
            _ranking(evaluation.evalImgs[first : first + pictures]) for first in start.tolist()
        )
    # Indexed by IoU, recall, class, area and detections; -1 where there are no objects.
    precision, recall = (
        np.where(evaluation.eval[name] < 0, np.nan, evaluation.eval[name])[..., 0, 0]
        for name in ("precision", "recall")
    )
    return Rankings(by_area, precision, recall)


def _mean(values: Array) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _ranking(images: Sequence[dict[str, Any] | None]) -> Ranking:
    """One class in one range of areas; `images` has None where there is nothing of it."""
    parts = [(index, one) for index, one in enumerate(images) if one is not None]
    rows = len(IOUS)
    scores = np.concatenate([np.zeros(0), *(one["dtScores"] for _, one in parts)])
    order = np.argsort(-scores, kind="mergesort")
    places = [np.full(len(one["dtIds"]), index) for index, one in parts]
    numbers = [np.asarray(one["dtIds"], np.intp) for _, one in parts]
    objects = [np.asarray(one["dtMatches"], np.intp).reshape(rows, -1) for _, one in parts]
    ignored = [np.asarray(one["dtIgnore"], np.bool_).reshape(rows, -1) for _, one in parts]
    nothing = np.zeros(0, np.intp)
    # Numbers begin at 1 and 0 is no match; one below is an index, and -1 the mark of a miss.
    matched = np.concatenate([np.zeros((rows, 0), np.intp), *objects], axis=1) - 1
    matched[np.concatenate([np.zeros((rows, 0), np.bool_), *ignored], axis=1)] = IGNORED
    return Ranking(
        np.concatenate([nothing, *places])[order],
        np.concatenate([nothing, *numbers])[order] - 1,
        matched[:, order],
    )


def _run_coco(split: Split, truth: Truth, found: Sequence[Detections]) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # By index, and not by the file's own ids, which may be too large to be told apart as floats.
    images, classes = list(range(len(split.pictures))), list(range(len(split.labels)))
    with contextlib.redirect_stdout(io.StringIO()):  # it narrates
        objects = COCO()
        objects.dataset = _document(images, classes, truth)
        objects.createIndex()
        rows = _rows(found)
        detections = objects.loadRes(rows) if len(rows) else COCO()
        evaluation = COCOeval(objects, detections, "bbox")
        evaluation.params.imgIds = images
        evaluation.params.catIds = classes
        evaluation.params.iouThrs = IOUS
        evaluation.params.maxDets = [DETECTIONS_MAX]
        evaluation.params.areaRng = [list(span) for span in AREAS.values()]
        evaluation.params.areaRngLbl = list(AREAS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _document(images: list[int], classes: list[int], truth: Truth) -> dict[str, Any]:
    """The split as a COCO file whose annotations are numbered from 1: to pycocotools 0 is none."""
    annotations = [
        {
            "id": number + 1,
            "image_id": image,
            "category_id": class_id,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for number, (image, class_id, box, area, crowd) in enumerate(
            zip(
                truth.images.tolist(),
                truth.class_ids.tolist(),
                truth.boxes.tolist(),
                truth.areas.tolist(),
                truth.crowds.tolist(),
                strict=True,
            )
        )
    ]
    return {
        "info": {},
        "images": [{"id": image} for image in images],
        "annotations": annotations,
        "categories": [{"id": class_id} for class_id in classes],
    }


def _rows(found: Sequence[Detections]) -> Array:
    """Detections (N, 7): image, x, y, width, height, score, class."""
    parts = [np.zeros((0, 7))]
    for image, detections in enumerate(found):
        part = np.empty((len(detections), 7))
        part[:, 0] = image
        part[:, 1:3] = detections.boxes[:, :2]
        part[:, 3:5] = detections.boxes[:, 2:].astype(np.float64) - detections.boxes[:, :2]
        part[:, 5] = detections.scores
        part[:, 6] = detections.class_ids
        parts.append(part)
    return np.concatenate(parts)
