"""Measures bundles side by side on one split.

Objects, strata and weights of images are the same for every bundle, so that their figures can be
compared. Detections go in raw; pycocotools matches them; the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.frames import Boxes, Detections
from model_workshop.datasets import Split, parts_from, split_digest
from model_workshop.evaluation.detecting import Found, find
from model_workshop.evaluation.figures import (
    BundleFigures,
    Comparison,
    Curve,
    Estimate,
    Evaluation,
    OverallFigures,
    Protocol,
    Reliability,
    SplitFacts,
    StratumDifference,
    StratumFigures,
)
from model_workshop.evaluation.matching import IOU_MIN, best_operating_point
from model_workshop.evaluation.precision import draw_weights, estimate
from model_workshop.evaluation.rankings import AP_ROWS, IGNORED, Rankings, rank
from model_workshop.evaluation.reliability import reliability
from model_workshop.evaluation.samples import (
    OVERALL,
    Judgement,
    Samples,
    area_strata,
    differences,
    key_of,
    matched_at_report,
    sample_figures,
)
from model_workshop.evaluation.strata import Stratum, strata_of
from model_workshop.evaluation.truth import Array, Mask, Truth, read_truth

RESAMPLES = 1000
SEED = 20261120
_OVERALL_KINDS = (
    "ap50_95",
    "ap50",
    "ap75",
    "ap33",
    "precision",
    "recall",
    "f1",
    "false_alarms_per_image",
)
_STRATUM_KINDS = ("ap50_95", "ap50", "ap33", "recall")
_DIFFERENCE_KINDS = ("ap50_95", "ap50", "recall")


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        resamples: of the images, for intervals.
        seed: of the resamples.
        edges: where to cut size, contrast or crowding instead of at quantiles of the split.
    """

    resamples: int = RESAMPLES
    seed: int = SEED
    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What every bundle is measured against.

    Attributes:
        split: the pictures.
        truth: their objects.
        strata: kinds of objects.
        weights: (1 + resamples, images), the first row ones.
        digest: of the split.
    """

    split: Split
    truth: Truth
    strata: tuple[Stratum, ...]
    weights: Array
    digest: str

    @staticmethod
    def prepare(split: Split, options: Options) -> Grounds:
        """Reads the objects of a split and sorts them into strata.

        Raises:
            ConfigError: a picture cannot be read.
        """
        truth = read_truth(split)
        strata = (*strata_of(split, truth, options.edges), *area_strata(truth))
        weights = draw_weights(len(split.pictures), options.resamples, options.seed)
        return Grounds(split, truth, strata, weights, split_digest(split))


@dataclass(frozen=True, slots=True)
class Measured:
    """One bundle's figures, and what they were made from.

    Attributes:
        figures: for people and files.
        samples: for comparisons.
        found: its detections.
        judgement: what became of each.
    """

    figures: BundleFigures
    samples: Samples
    found: Found
    judgement: Judgement


def measure_bundles(
    bundles: Sequence[Bundle],
    split: Split,
    *,
    proposer: Bundle | None = None,
    threads: int = 1,
    options: Options = Options(),  # frozen
) -> Evaluation:
    """Runs bundles over a split and measures them; the first is what the others are compared with.

    Args:
        bundles: with the split's labels.
        split: to evaluate on.
        proposer: the frame bundle at whose proposals all other bundles are asked.
        threads: of one inference.
        options: how to measure.

    Raises:
        ConfigError: the labels differ, or a picture cannot be read.
        IntegrityError: a model does not load, or fails on every picture.
    """
    grounds = Grounds.prepare(split, options)
    measured = [
        measure(bundle, find(bundle, split, proposer=proposer, threads=threads), grounds)
        for bundle in bundles
    ]
    return side_by_side(measured, grounds, options)


def measure(bundle: Bundle, found: Found, grounds: Grounds) -> Measured:
    """Measures what a bundle detected."""
    split, truth, weights = grounds.split, grounds.truth, grounds.weights
    rankings = rank(split, truth, found.detections)
    judgement = _judge(bundle, found, rankings)
    samples = sample_figures(rankings, judgement, truth, grounds.strata, weights)
    return Measured(
        BundleFigures(
            name=bundle.info.name,
            version=bundle.info.version,
            digest=bundle.digest,
            model_bytes=len(bundle.model),
            proposer=found.proposer,
            failed_images=found.failed_images,
            made_from=parts_from(bundle.info, grounds.digest),
            detections=len(judgement.images),
            overall=_overall(samples, rankings, judgement, grounds),
            strata=tuple(_stratum(one, samples, truth) for one in grounds.strata),
            raw=_reliability(_joined(found, "scores"), judgement, weights),
            calibrated=_reliability(judgement.calibrated, judgement, weights),
            curves=_curves(rankings, split.labels),
        ),
        samples,
        found,
        judgement,
    )


def side_by_side(measured: Sequence[Measured], grounds: Grounds, options: Options) -> Evaluation:
    """Several bundles on the same split, each after the first compared with the first."""
    split = grounds.split
    return Evaluation(
        split=SplitFacts(
            name=split.directory.name,
            digest=grounds.digest,
            labels=split.labels,
            images=len(split.pictures),
            objects=int(grounds.truth.objects.sum()),
        ),
        protocol=Protocol(resamples=options.resamples, seed=options.seed, iou_min=IOU_MIN),
        bundles=tuple(one.figures for one in measured),
        comparisons=tuple(_comparison(one, measured[0]) for one in measured[1:]),
    )


def _judge(bundle: Bundle, found: Found, rankings: Rankings) -> Judgement:
    counts = [len(detections) for detections in found.detections]
    class_ids = _joined(found, "class_ids").astype(np.intp)
    together = Detections(
        _joined(found, "boxes"), _joined(found, "scores"), class_ids.astype(np.int32)
    )
    calibrated = bundle.calibration.apply(together, bundle.labels)
    report = np.array([bundle.thresholds.of(label).report for label in bundle.labels])
    return Judgement(
        np.repeat(np.arange(len(counts)), counts),
        class_ids,
        calibrated,
        matched_at_report(rankings, len(class_ids)),
        (calibrated >= report[class_ids]) & _left_over(bundle, found),
    )


def _left_over(bundle: Bundle, found: Found) -> Mask:
    """(N,) what the bundle's own postprocess leaves of detections that were made wide open.

    A service finds nothing below the score floor, whatever the report threshold says, and names one
    class a place where the bundle does.
    """
    own = bundle.info.postprocess
    # A grid judges each class by itself. Of others the classes of one place have its very box.
    one_class = not own.multi_label and bundle.info.outputs.family != "grid"
    kept = []
    for detections in found.detections:
        left = detections.scores > own.score_floor
        if one_class and len(detections):
            left &= _is_first(detections.boxes)
        if found.proposer is None:  # else the most detections are those of a crop
            left &= np.cumsum(left) <= own.detections_max
        kept.append(left)
    return np.concatenate(kept)


def _is_first(boxes: Boxes) -> Mask:
    """(N,) whether no equal box stands before it."""
    _, first = np.unique(boxes, axis=0, return_index=True)
    return np.isin(np.arange(len(boxes)), first)


def _joined(found: Found, name: str) -> Any:
    """One array of all detections."""
    return np.concatenate([getattr(detections, name) for detections in found.detections])


def _overall(
    samples: Samples, rankings: Rankings, judgement: Judgement, grounds: Grounds
) -> OverallFigures:
    own = {kind: estimate(values) for kind, values in samples[OVERALL].items()}
    counted = judgement.matched != IGNORED
    best = best_operating_point(
        judgement.calibrated[counted],
        judgement.matched[counted] >= 0,
        int(grounds.truth.objects.sum()),
    )
    by_dimension: dict[str, list[Array]] = {}
    for stratum in grounds.strata:
        # Classes count the same already, and COCO's areas follow COCO's rule.
        if stratum.dimension not in {"class", "area"}:
            values = samples[key_of(stratum)]["ap50_95"]
            by_dimension.setdefault(stratum.dimension, []).append(values)
    nothing = Estimate(value=None)
    return OverallFigures(
        **{name: own.get(name, nothing) for name in _OVERALL_KINDS},
        balanced={dimension: estimate(_mean(values)) for dimension, values in by_dimension.items()},
        recall_max=rankings.mean_recall,
        f1_best=best.f1,
        f1_best_threshold=best.threshold,
    )


def _mean(values: Sequence[Array]) -> Array:
    """Mean of samples; just the figure where one of them has no interval."""
    rows = min(len(one) for one in values)
    return np.asarray(np.mean([one[:rows] for one in values], axis=0))


def _stratum(stratum: Stratum, samples: Samples, truth: Truth) -> StratumFigures:
    figures = samples[key_of(stratum)]
    return StratumFigures(
        dimension=stratum.dimension,
        name=stratum.name,
        span=stratum.span,
        objects=int(stratum.members.sum()),
        images=len(np.unique(truth.images[stratum.members])),
        **{kind: estimate(figures[kind]) for kind in _STRATUM_KINDS},
    )


def _reliability(
    scores: npt.NDArray[np.float32], judgement: Judgement, weights: Array
) -> Reliability:
    counted = judgement.matched != IGNORED
    return reliability(
        scores[counted], judgement.matched[counted] >= 0, judgement.images[counted], weights
    )


def _curves(rankings: Rankings, labels: Sequence[str]) -> tuple[Curve, ...]:
    at_half = rankings.precision[AP_ROWS["ap50"]][0]
    known = ~np.isnan(at_half[0])
    curves = {label: at_half[:, index] for index, label in enumerate(labels) if known[index]}
    if curves:
        curves = {"all": at_half[:, known].mean(axis=1)} | curves
    return tuple(
        Curve(name=name, precision=tuple(values.round(4).tolist()))
        for name, values in curves.items()
    )


def _comparison(measured: Measured, reference: Measured) -> Comparison:
    found = differences(measured.samples, reference.samples)
    return Comparison(
        digest=measured.figures.digest,
        differences=tuple(
            StratumDifference(key=key, **{k: estimate(figures.get(k)) for k in _DIFFERENCE_KINDS})
            for key, figures in found.items()
        ),
    )
