"""How a model of the binary look does on real boards: ``python -m reference_line.transfer``.

Reads pictures with DeepPCB's file layout, ``NAME_test.jpg`` beside ``NAME.txt`` with one line
``x1 y1 x2 y2 class`` a defect, and reports average precision for each class: the area under the
interpolated precision-recall curve, detections matched best score first with objects of their own
class.  The mean over classes comes with a bootstrap interval over pictures, which is wide where
pictures are few.  The tested picture alone is shown to the model, never its template.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Boxes, ClassIds, Detections
from foundation.supervision import exit_code_of
from model_workshop.datasets import read_picture
from model_workshop.evaluation.coco import wide_open
from model_workshop.evaluation.matching import match
from reference_line.binary.scenes import SIDE_PX
from reference_line.truth import LABELS

IOUS: Final = (0.33, 0.5)
_FILE_CLASSES: Final = LABELS
"""Class k of the files, counted from 1, is the line's class k, counted from 0."""
_RESAMPLES: Final = 2000
_BOOTSTRAP_SEED: Final = 20261120
_LAYOUT: Final = "Give a folder with NAME_test.jpg and NAME.txt (x1 y1 x2 y2 class)"


@dataclass(frozen=True, slots=True)
class RealPicture:
    """One tested board: file, truth boxes float32 (N, 4) in its pixels, class ids int32 (N,)."""

    name: str
    path: Path
    boxes: Boxes
    class_ids: ClassIds


@dataclass(frozen=True, slots=True)
class Transfer:
    """Average precision at one IoU.

    Attributes:
        iou_min: Overlap from which a detection counts.
        by_class: Average precision by label, of the classes that the pictures show.
        mean: Mean over those classes.
        interval: 95 % bootstrap interval of the mean, pictures resampled.
    """

    iou_min: float
    by_class: dict[str, float]
    mean: float
    interval: tuple[float, float]


def read_pictures(folder: Path, groups: Sequence[str] = ()) -> tuple[RealPicture, ...]:
    """Read the truth of all pictures of a folder, in order of their names.

    Args:
        folder: Holds pictures and truth files.
        groups: Beginnings of names to keep; all where empty.

    Raises:
        ConfigError: The folder holds no such pictures, or a file is malformed.
    """
    pictures = []
    for path in sorted(folder.glob("*.txt")):
        image = path.with_name(f"{path.stem}_test.jpg")
        if not path.stem.startswith(tuple(groups) or "") or not image.exists():
            continue
        try:
            rows = np.array(
                [line.split() for line in path.read_text().splitlines() if line.strip()], np.int32
            ).reshape(-1, 5)
        except ValueError as error:
            raise ConfigError(f"{path} is malformed: {error}", remedy=_LAYOUT) from error
        class_ids = rows[:, 4] - 1
        if np.any((class_ids < 0) | (class_ids >= len(_FILE_CLASSES))):
            raise ConfigError(f"{path} names an unknown class", remedy=_LAYOUT)
        pictures.append(RealPicture(path.stem, image, rows[:, :4].astype(np.float32), class_ids))
    if not pictures:
        raise ConfigError(f"{folder} holds no picture with its truth", remedy=_LAYOUT)
    return tuple(pictures)


def detect_pictures(bundle: Bundle, pictures: Sequence[RealPicture]) -> list[Detections]:
    """Detect on whole pictures at their own scale.

    Raises:
        ConfigError: The bundle has other labels or another input size than the pictures.
    """
    if bundle.labels != LABELS:
        raise ConfigError(
            f"Bundle {bundle.info.name} knows other classes than the line",
            remedy="Give a bundle made by python -m reference_line.train_look",
        )
    detector = Detector.open(wide_open(bundle))
    size = (bundle.info.input.width, bundle.info.input.height)
    found = []
    for picture in pictures:
        pixels = read_picture(picture.path)
        if (pixels.shape[1], pixels.shape[0]) != size:
            raise ConfigError(
                f"Bundle {bundle.info.name} takes {size[0]}x{size[1]} px, {picture.path.name} "
                f"has {pixels.shape[1]}x{pixels.shape[0]}",
                remedy=f"Give a bundle for {SIDE_PX}x{SIDE_PX} px, so that nothing is resized",
            )
        found.append(detector.detect(pixels))
    return found


def measure_transfer(
    pictures: Sequence[RealPicture], found: Sequence[Detections], iou_min: float
) -> Transfer:
    """Measure average precision by class, with a bootstrap interval of its mean.

    Args:
        pictures: The truth.
        found: Detections of each picture.
        iou_min: Overlap from which a detection counts.
    """
    matches = [
        match([detections], [(picture.boxes, picture.class_ids)], len(LABELS), iou_min=iou_min)
        for picture, detections in zip(pictures, found, strict=True)
    ]
    scores = np.concatenate([m.scores for m in matches])
    class_ids = np.concatenate([m.class_ids for m in matches])
    hits = np.concatenate([m.hits for m in matches])
    owners = np.repeat(np.arange(len(matches)), [len(m.scores) for m in matches])
    objects = np.stack([m.objects for m in matches])

    def precisions(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = weights @ objects
        result = np.full(len(LABELS), np.nan)
        for k in np.flatnonzero(counts):
            own = class_ids == k
            result[k] = average_precision(
                scores[own], hits[own], weights[owners[own]], int(counts[k])
            )
        return result

    by_class = precisions(np.ones(len(matches), np.int64))
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    shares = np.full(len(matches), 1 / len(matches))
    draws = rng.multinomial(len(matches), shares, _RESAMPLES)
    means = [float(np.nanmean(precisions(weights))) for weights in draws]
    low, high = np.percentile(means, [2.5, 97.5])
    named = {label: float(v) for label, v in zip(LABELS, by_class, strict=True) if not np.isnan(v)}
    return Transfer(iou_min, named, float(np.nanmean(by_class)), (float(low), float(high)))


def average_precision(
    scores: NDArray[np.floating],
    hits: NDArray[np.bool_],
    weights: NDArray[np.int64],
    objects: int,
) -> float:
    """Return the area under the interpolated precision-recall curve.

    Args:
        scores: (N,) of one class's detections.
        hits: (N,) whether each is right.
        weights: (N,) how often each counts.
        objects: How many there are to find, at least 1.
    """
    order = np.argsort(-scores, kind="stable")
    right = weights[order] * hits[order]
    total = np.cumsum(weights[order])
    precision = np.cumsum(right) / np.maximum(total, 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((best_from_here * right).sum() / objects)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.transfer")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle of the binary look")
    parser.add_argument("--data", type=Path, required=True, help="folder with real pictures")
    parser.add_argument(
        "--groups", nargs="*", default=(), help="only pictures whose names begin like this"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    return exit_code_of(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pictures = read_pictures(arguments.data, arguments.groups)
    found = detect_pictures(Bundle.open(arguments.bundle), pictures)
    results = [measure_transfer(pictures, found, iou) for iou in IOUS]
    if arguments.json:
        print(json.dumps([_as_document(r) for r in results], indent=1))
        return
    objects = np.bincount(np.concatenate([p.class_ids for p in pictures]), minlength=len(LABELS))
    print(_table(results, objects, len(pictures)))


def _as_document(result: Transfer) -> dict[str, object]:
    return {
        "iou_min": result.iou_min,
        "map": round(result.mean, 4),
        "interval": [round(v, 4) for v in result.interval],
        "by_class": {label: round(v, 4) for label, v in result.by_class.items()},
    }


def _table(results: Sequence[Transfer], objects: NDArray[np.int64], pictures: int) -> str:
    lines = ["class            defects " + " ".join(f"AP@{r.iou_min:<5g}" for r in results)]
    for k, label in enumerate(LABELS):
        values = " ".join(f"{r.by_class.get(label, float('nan')):8.3f}" for r in results)
        lines.append(f"{label:<16} {objects[k]:>7} {values}")
    means = " ".join(f"{r.mean:8.3f}" for r in results)
    lines.append(f"{'mean':<16} {int(objects.sum()):>7} {means}")
    for r in results:
        low, high = r.interval
        lines.append(f"95 % interval of the mean at IoU {r.iou_min:g}: {low:.3f} to {high:.3f}")
    lines.append(f"{pictures} pictures are few: one defect moves its class by several points.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
