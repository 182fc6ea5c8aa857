"""How often a 95 % interval of an evaluation holds the truth, for three ways of resampling.

    nice -n 10 python -m benchmarks.interval_coverage [--repeats 150] [--json FILE]

Splits are drawn from a population whose classes differ in frequency and in how well they are
found; the truth is the mean figure of many splits. The ways: images drawn with replacement, a class
that is not drawn left out (`replacement`); images weighed by a Dirichlet draw, classes alike
(`equal`); the same, each class counting by how much of it was drawn (`drawn`), which is what the
workshop does.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_workshop.evaluation.precision import average_precisions, draw_weights
from model_workshop.evaluation.rankings import IGNORED, IOUS, MISS, Ranking, Rankings
from model_workshop.evaluation.samples import OVERALL, sample_precisions
from model_workshop.evaluation.truth import Truth

Array = npt.NDArray[np.float64]
POPULATIONS = {
    "6 classes, 150 images, up to 2 objects of a class an image": (6, 150, 2.0),
    "20 classes, 64 images, up to 1": (20, 64, 1.0),
    "60 classes, 64 images, up to 0.2": (60, 64, 0.2),
}
RESAMPLES = 200
_ROW = 1
"""The only IoU that is measured; at the others there is nothing."""


def draw_split(
    random: np.random.Generator, images: int, frequency: Array, skill: Array
) -> tuple[Truth, Rankings]:
    """Objects and ranked detections of one split."""
    places: list[npt.NDArray[np.intp]] = []
    rankings = []
    for often, found_share in zip(frequency, skill, strict=True):
        own = np.repeat(np.arange(images), random.poisson(often, images))
        first = sum(len(one) for one in places)
        hit = random.random(len(own)) < found_share
        wrong = np.repeat(np.arange(images), random.poisson(0.6 * often + 0.02, images))
        scores = np.concatenate(
            [random.normal(1.2, 1, len(own))[hit], random.normal(0, 1, len(wrong))]
        )
        order = np.argsort(-scores)
        objects = np.concatenate([first + np.flatnonzero(hit), np.full(len(wrong), MISS)])
        matched = np.full((len(IOUS), len(scores)), IGNORED)
        matched[_ROW] = objects[order]
        rankings.append(Ranking(np.concatenate([own[hit], wrong])[order], order, matched))
        places.append(own)
    counts = [len(one) for one in places]
    total = sum(counts)
    truth = Truth(
        np.concatenate(places),
        np.repeat(np.arange(len(counts)), counts),
        np.zeros((total, 4)),
        np.zeros(total),
        np.zeros(total, np.bool_),
        np.zeros(total),
    )
    nothing = np.zeros(0)
    return truth, Rankings({"all": tuple(rankings)}, nothing, nothing)


def resample(truth: Truth, rankings: Rankings, images: int, seed: int) -> dict[str, Array]:
    """The mean over classes under every resample, by way; the figure itself comes first."""
    weights = draw_weights(images, RESAMPLES, seed)
    shares = np.full(images, 1 / images)
    counts = np.random.default_rng(seed).multinomial(images, shares, RESAMPLES)
    replaced = np.concatenate([weights[:1], counts])
    equal, replacement = [], []
    for class_id, ranking in enumerate(rankings.by_area["all"]):
        own = truth.class_ids == class_id
        if own.any():
            (result,) = average_precisions(ranking, truth, own, [own], weights)
            equal.append(result[:, _ROW] if result is not None else np.zeros(len(weights)))
            with np.errstate(divide="ignore", invalid="ignore"):
                (result,) = average_precisions(ranking, truth, own, [own], replaced)
            drawn = replaced[:, truth.images[own]].sum(axis=1) > 0
            values = result[:, _ROW] if result is not None else np.zeros(len(weights))
            replacement.append(np.where(drawn, values, np.nan))
    return {
        "replacement": np.nanmean(replacement, axis=0),
        "equal": np.mean(equal, axis=0),
        "drawn": sample_precisions(rankings, truth, (), weights)[OVERALL][:, _ROW],
    }


def measure(classes: int, images: int, often: float, repeats: int) -> dict[str, dict[str, float]]:
    """Coverage and mean spread by way, and the spread that there is."""
    frequency: Array = often / np.arange(1, classes + 1, dtype=np.float64) ** 1.2
    skill = np.random.default_rng(5).uniform(0.2, 0.95, classes)
    values = []
    intervals: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(repeats):
        split = draw_split(np.random.default_rng(seed), images, frequency, skill)
        for way, samples in resample(*split, images, seed).items():
            low, high = np.percentile(samples[1:], (2.5, 97.5))
            intervals.setdefault(way, []).append((low, high, samples[1:].std()))
        values.append(samples[0])
    truth = float(np.mean(values))
    found = {"truth": {"spread": float(np.std(values))}}
    for way, ends in intervals.items():
        held = np.mean([low <= truth <= high for low, high, _ in ends])
        spread = np.mean([one for *_, one in ends])
        found[way] = {"spread": float(spread), "coverage": float(held)}
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=150, help="splits of each population")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    report = {}
    for name, population in POPULATIONS.items():
        report[name] = measure(*population, arguments.repeats)
        print(name)
        for way, figures in report[name].items():
            words = ", ".join(f"{key} {100 * value:.1f}" for key, value in figures.items())
            print(f"  {way:<12} {words}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
