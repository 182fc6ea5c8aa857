"""What an evaluation says: the values that the table, the JSON file, the page and the gate share.

Figures are shares in 0..1 unless a name says otherwise. One that cannot be computed, because there
are no objects for it, is null and never 0. The JSON form is `Evaluation.model_dump_json()` and
reads back with `read_evaluation`; docs/workshop/evaluate.md says what each figure means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pydantic

from foundation.errors import ConfigError
from foundation.settings import Settings


class Estimate(Settings):
    """A figure and its 95 % interval over images."""

    value: float | None
    low: float | None = None
    high: float | None = None


class StratumFigures(Settings):
    """How good a bundle is on one kind of object."""

    dimension: str
    """class, rarity, area, size, contrast or crowding."""
    name: str
    """The stratum within the dimension."""
    span: str
    """What belongs to it, in words."""
    objects: int
    images: int
    """Images that show at least one of them."""
    ap50_95: Estimate
    ap50: Estimate
    ap33: Estimate
    recall: Estimate
    """Share of the objects found at the report threshold."""

    @property
    def key(self) -> str:
        """The stratum's name in floors and tables, such as `size/smallest`."""
        return f"{self.dimension}/{self.name}"


class OverallFigures(Settings):
    """How good a bundle is on all objects."""

    ap50_95: Estimate
    ap50: Estimate
    ap75: Estimate
    ap33: Estimate
    balanced: Mapping[str, Estimate]
    """By dimension: the mean AP50-95 of its strata, each counting the same however rare."""
    recall_max: float | None
    """COCO's AR: recall at 300 detections an image, mean over IoU 0.5 to 0.95 and classes."""
    precision: Estimate
    """At the report threshold, like recall and F1, class and IoU 0.33."""
    recall: Estimate
    f1: Estimate
    false_alarms_per_image: Estimate
    f1_best: float
    """The highest F1 that one threshold on calibrated scores reaches on this split."""
    f1_best_threshold: float


class ReliabilityBin(Settings):
    """Detections of similar score."""

    detections: int
    score: float
    """Mean score."""
    right: float
    """Share of them that are right."""


class Reliability(Settings):
    """What scores are worth: D-ECE over ten equal bins of the scores from a floor on."""

    floor: float
    error: Estimate
    bins: tuple[ReliabilityBin, ...]


class Curve(Settings):
    """Interpolated precision at the recalls 0, 0.01, ..., 1, at IoU 0.5."""

    name: str
    """A label, or `all` for the mean over classes."""
    precision: tuple[float, ...]


class BundleFigures(Settings):
    """All that was measured of one bundle on one split."""

    name: str
    version: str
    digest: str
    model_bytes: int
    proposer: str | None = None
    """Digest of the frame bundle at whose proposals it was asked; null for whole frames."""
    failed_images: tuple[int, ...] = ()
    """Ids of the images on which the model failed, for example with outputs that are no numbers.
    They count as images in which it found nothing."""
    made_from: tuple[str, ...] = ()
    """What of the bundle was made from this very split, which flatters it here: `train` for its
    model, `scores` for its calibration and thresholds."""
    detections: int
    overall: OverallFigures
    strata: tuple[StratumFigures, ...]
    raw: Reliability
    calibrated: Reliability
    curves: tuple[Curve, ...]

    def stratum(self, key: str) -> StratumFigures | None:
        """The figures of one stratum; None where the split has no such objects."""
        return next((one for one in self.strata if one.key == key), None)


class StratumDifference(Settings):
    """A bundle minus the first one, on one kind of object; images are paired."""

    key: str
    """`overall`, or the stratum's key."""
    ap50_95: Estimate
    ap50: Estimate
    recall: Estimate


class Comparison(Settings):
    """A bundle against the first one on the same images."""

    digest: str
    differences: tuple[StratumDifference, ...]

    def of(self, key: str) -> StratumDifference | None:
        """The difference in one stratum, or `overall`."""
        return next((one for one in self.differences if one.key == key), None)


class SplitFacts(Settings):
    """What was evaluated on."""

    name: str
    digest: str
    """SHA-256 over its files, as the model cards of bundles name datasets."""
    labels: tuple[str, ...]
    images: int
    objects: int


class Protocol(Settings):
    """How it was measured."""

    resamples: int
    seed: int
    iou_min: float
    """From here on a detection is right at the report threshold and for calibration."""


class Evaluation(Settings):
    """Bundles side by side on one split; the first is what the others are compared with."""

    format: Literal["hardcase-evaluation/1"] = "hardcase-evaluation/1"
    split: SplitFacts
    protocol: Protocol
    bundles: tuple[BundleFigures, ...]
    comparisons: tuple[Comparison, ...]
    """One for every bundle after the first."""


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `model-workshop evaluate --json` wrote.

    Raises:
        ConfigError: it is not there, or not of this format.
    """
    try:
        return Evaluation.model_validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError) as error:
        raise ConfigError(
            f"{path} is not an evaluation: {error}", remedy="Run `model-workshop evaluate` again"
        ) from error
