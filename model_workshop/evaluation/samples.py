"""Figures of one bundle under every weighting of images, stratum by stratum.

Kept as samples rather than intervals, because two bundles are compared sample by sample: what makes
an image hard for both then cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_workshop.evaluation.precision import average_precisions
from model_workshop.evaluation.rankings import AP_ROWS, AREAS, IGNORED, MISS, Rankings
from model_workshop.evaluation.strata import Stratum
from model_workshop.evaluation.truth import Array, Mask, Truth

_IMAGES_MIN = 5
"""What fewer images show has no interval: they do not say how much images differ."""
OVERALL = "overall"
Samples = dict[str, dict[str, Array]]
"""By stratum and figure: (R,), one for every row of weights, or (1,) where there is no interval."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of every detection at the report threshold's IoU.

    Attributes:
        images: (N,) index of the picture, image after image.
        class_ids: (N,) class indices.
        calibrated: (N,) calibrated scores.
        matched: (N,) index of the object it is of, `MISS` or `IGNORED`.
        reported: (N,) whether it is at or above its class's report threshold, and what the bundle's
            own score floor and most detections leave.
    """

    images: npt.NDArray[np.intp]
    class_ids: npt.NDArray[np.intp]
    calibrated: npt.NDArray[np.float32]
    matched: npt.NDArray[np.intp]
    reported: Mask

    def found(self, truth: Truth) -> Mask:
        """(O,) the objects that a reported detection is of."""
        found = np.zeros(len(truth), np.bool_)
        found[self.matched[self.reported & (self.matched >= 0)]] = True
        return found

    @property
    def false_alarms(self) -> Mask:
        """(N,) reported detections that are of nothing."""
        return self.reported & (self.matched == MISS)


def matched_at_report(rankings: Rankings, detections: int) -> npt.NDArray[np.intp]:
    """`Judgement.matched` of all detections (N,), out of the rankings of their classes."""
    matched = np.full(detections, IGNORED)
    for ranking in rankings.by_area["all"]:
        matched[ranking.found] = ranking.matched[0]
    return matched


def area_strata(truth: Truth) -> tuple[Stratum, ...]:
    """COCO's fixed areas, those with objects."""
    sides = {name: tuple(f"{limit**0.5:g}" for limit in span) for name, span in AREAS.items()}
    spans = {
        "small": f"under {sides['small'][1]} px",
        "medium": f"{sides['medium'][0]} to {sides['medium'][1]} px",
        "large": f"over {sides['large'][0]} px",
    }
    return tuple(
        Stratum("area", name, span, members)
        for name, span in spans.items()
        if (members := _in_area(truth, name)).any()
    )


def _in_area(truth: Truth, name: str) -> Mask:
    low, high = AREAS[name]
    return truth.objects & (truth.areas >= low) & (truth.areas <= high)


def sample_figures(
    rankings: Rankings,
    judgement: Judgement,
    truth: Truth,
    strata: Sequence[Stratum],
    weights: Array,
) -> Samples:
    """AP and recall of all objects and of every stratum, under every row of weights (R, I)."""
    samples: Samples = {key: {} for key in (OVERALL, *(key_of(one) for one in strata))}
    for key, values in sample_precisions(rankings, truth, strata, weights).items():
        samples[key] = {kind: values[:, rows].mean(axis=1) for kind, rows in AP_ROWS.items()}
    found = judgement.found(truth)
    members = {key_of(one): one.members for one in strata}
    for key, own in {OVERALL: truth.objects, **members}.items():
        if own.any():
            there = weights[:, truth.images[own]].sum(axis=1)
            samples[key]["recall"] = weights[:, truth.images[own & found]].sum(axis=1) / there
            if len(np.unique(truth.images[own])) < _IMAGES_MIN:
                samples[key] = {kind: values[:1] for kind, values in samples[key].items()}
    samples[OVERALL] |= _operating_point(judgement, truth, weights)
    return samples


def key_of(stratum: Stratum) -> str:
    """A stratum's name within an evaluation."""
    return f"{stratum.dimension}/{stratum.name}"


def sample_precisions(
    rankings: Rankings, truth: Truth, strata: Sequence[Stratum], weights: Array
) -> dict[str, Array]:
    """AP (R, IoU) by stratum: the mean over the classes that have objects in it.

    In a resample a class counts by how much of its objects was drawn, which is 1 in the figure
    itself. With equal weights a class that one image shows would have the same AP in every
    resample and seem certain; docs/decisions/0019 has the coverage of both.
    """
    sums: dict[str, tuple[Array, Array]] = {}
    general = {OVERALL: truth.objects}
    general |= {key_of(one): one.members for one in strata if one.dimension != "area"}
    areas = {key_of(one): one for one in strata if one.dimension == "area"}

    def add(key: str, subset: Mask, result: Array | None) -> None:
        if result is not None:
            drawn = weights[:, truth.images[subset]].sum(axis=1)[:, None] / subset.sum()
            total, shares = sums.get(key, (np.zeros_like(result), np.zeros_like(drawn)))
            sums[key] = (total + drawn * result, shares + drawn)

    for class_id, ranking in enumerate(rankings.by_area["all"]):
        own = truth.objects & (truth.class_ids == class_id)
        chosen = [members & own for members in general.values()]
        results = average_precisions(ranking, truth, own, chosen, weights)
        for key, subset, result in zip(general, chosen, results, strict=True):
            add(key, subset, result)
        for key, area in areas.items():
            # COCO's own rule: matched anew with the others ignored, nothing over-sampled.
            subset = area.members & own
            table = rankings.by_area[area.name][class_id]
            add(key, subset, *average_precisions(table, truth, subset, [subset], weights))
    return {key: total / shares for key, (total, shares) in sums.items()}


def _operating_point(judgement: Judgement, truth: Truth, weights: Array) -> dict[str, Array]:
    """Precision, F1 and false alarms at the report threshold, (R,) each."""
    hits = judgement.reported & (judgement.matched >= 0)
    right, wrong = (
        weights[:, judgement.images[chosen]].sum(axis=1)
        for chosen in (hits, judgement.false_alarms)
    )
    there = weights[:, truth.images[truth.objects]].sum(axis=1)
    return {
        "precision": right / np.maximum(right + wrong, 1e-9),
        "f1": 2 * right / np.maximum(right + wrong + there, 1e-9),
        "false_alarms_per_image": wrong / weights.shape[1],
    }


def differences(samples: Samples, reference: Samples) -> Mapping[str, Mapping[str, Array]]:
    """Samples minus those of a reference under the same weights."""
    return {
        key: {
            kind: values - reference[key][kind]
            for kind, values in figures.items()
            if kind in reference[key]
        }
        for key, figures in samples.items()
    }
