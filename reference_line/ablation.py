"""What each step of making the edge model buys: `python -m reference_line.ablation --help`.

Takes the folders of training runs, makes a float and an INT8 bundle of each in memory, runs both
over the same held-out frames, and prints a table in Markdown. Differences are paired: both models
see the same frames with the same weights, so that what makes a frame hard for both cancels.
Latencies are taken in turns, one inference of every model a round, on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.datasets import Picture, Split, check_disjoint, read_split
from model_workshop.evaluation.coco import matches_of
from model_workshop.evaluation.detecting import find
from model_workshop.evaluation.figures import Estimate
from model_workshop.evaluation.measure import Grounds, Measured, Options, measure
from model_workshop.evaluation.precision import estimate
from model_workshop.evaluation.samples import OVERALL, differences
from model_workshop.training.checkpoints import Checkpoint, trained_checkpoint
from model_workshop.training.finishing import draft
from model_workshop.training.lessons import TrainingPlan
from model_workshop.training.nets import multiply_adds, parameter_count
from model_workshop.training.recipe import Material, Recipe, edge_recipe, recipe_of

PROPOSALS = (10, 20)
"""Detections a frame at which recall is told: what a camera's share of the cloud may be."""

_COLUMNS = (
    "arm",
    "steps",
    "parameters",
    "GMAC",
    "INT8 model",
    "FP32 ms",
    "INT8 ms",
    "mAP50-95 FP32",
    "mAP50-95 INT8",
    "against the reference, INT8",
    "lost by INT8",
    "worst stratum",
    "mAP50 INT8",
    "best F1 INT8",
    *(f"recall at {count} a frame" for count in PROPOSALS),
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One trained net, measured.

    Attributes:
        name: of the row.
        checkpoint: of the run.
        recipe: of the run.
        floating: its figures in float.
        integer: its figures in INT8.
        bundles: float and INT8.
    """

    name: str
    checkpoint: Checkpoint
    recipe: Recipe
    floating: Measured
    integer: Measured
    bundles: tuple[Bundle, Bundle]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.ablation")
    parser.add_argument("arms", nargs="+", metavar="NAME=WORK", help="the first is the reference")
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="that they were trained on"
    )
    parser.add_argument("--test", type=Path, required=True, help="held-out split to measure on")
    parser.add_argument("--rounds", type=int, default=60, help="inferences of each model")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    material, test = Material.read(arguments.data), read_split(arguments.test)
    check_disjoint(*material.train, test)
    grounds = Grounds.prepare(test, Options())
    arms = [
        measure_arm(name, Path(folder), material, grounds)
        for name, folder in map(_named, arguments.arms)
    ]
    bundles = [bundle for arm in arms for bundle in arm.bundles]
    medians = latencies(bundles, test.pictures[0], arguments.rounds)
    print(f"{len(test.pictures)} frames with {len(grounds.truth)} defects\n")
    print("| " + " | ".join(_COLUMNS) + " |")
    print("|" + "---|" * len(_COLUMNS))
    for position, arm in enumerate(arms):
        row = table_row(arm, arms[0], medians[2 * position : 2 * position + 2], test)
        print("| " + " | ".join(row) + " |")
    return 0


def measure_arm(name: str, folder: Path, material: Material, grounds: Grounds) -> Arm:
    """Makes both bundles of a run and measures them.

    Raises:
        ConfigError: the folder holds no run.
    """
    checkpoint = trained_checkpoint(folder)
    plan = TrainingPlan()
    recipe = recipe_of(checkpoint, plan) if checkpoint.facts else edge_recipe(plan)
    drafts = draft(recipe, material, folder)
    if drafts.integer is None:
        raise ConfigError(f"{folder} holds a crop model", remedy="Give runs of frame models")
    bundles = (drafts.floating, drafts.integer)
    floating, integer = (
        measure(bundle, find(bundle, grounds.split), grounds) for bundle in bundles
    )
    return Arm(name, checkpoint, recipe, floating, integer, bundles)


def latencies(bundles: Sequence[Bundle], picture: Picture, rounds: int) -> list[float]:
    """Median seconds of one inference of each bundle on one thread, all of them in turns."""
    pixels = picture.read()
    buffers = [Detector.open(bundle).load([pixels]) for bundle in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    for _ in range(rounds):
        for own, taken in zip(buffers, seconds, strict=True):
            own.run()  # the caches are the previous model's until this one has run
            started = time.perf_counter()
            own.run()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def recall_at(found: Sequence[Detections], split: Split, per_frame: int) -> float:
    """Share of all objects among the best so many detections a frame, over all frames together."""
    scores = np.sort(np.concatenate([one.scores for one in found]))[::-1]
    kept = min(len(scores), per_frame * len(found))
    floor = scores[kept - 1] if kept else 1.0
    matches = matches_of(split, [one.take(one.scores >= floor) for one in found])
    return float(matches.hits.sum() / max(1, matches.objects.sum()))


def table_row(arm: Arm, reference: Arm, medians: Sequence[float], split: Split) -> list[str]:
    """An arm as cells of the table."""
    net = arm.checkpoint.averaged_net()
    figures, floating = arm.integer.figures.overall, arm.floating.figures.overall
    lost = differences(arm.integer.samples, arm.floating.samples)
    gained = differences(arm.integer.samples, reference.integer.samples)[OVERALL]["ap50_95"]
    worst_key, worst = min(
        (
            (key, value)
            for key, parts in lost.items()
            if key != OVERALL and (value := estimate(parts.get("ap50_95")).value) is not None
        ),
        key=lambda one: one[1],
    )
    recalls = [recall_at(arm.integer.found.detections, split, count) for count in PROPOSALS]
    return [
        arm.name,
        f"{arm.checkpoint.step:,}",
        f"{parameter_count(net) / 1e6:.2f} M",
        f"{multiply_adds(net, arm.recipe.height, arm.recipe.width) / 1e9:.2f}",
        f"{len(arm.bundles[1].model) / 1e3:,.0f} kB",
        *(f"{1e3 * median:.1f}" for median in medians),
        _points(floating.ap50_95),
        _points(figures.ap50_95),
        "—" if arm is reference else _points(estimate(gained), signed=True),
        _points(estimate(lost[OVERALL]["ap50_95"]), signed=True),
        f"{100 * worst:+.1f} {worst_key}",
        _points(figures.ap50),
        f"{figures.f1_best:.3f}",
        *(f"{recall:.3f}" for recall in recalls),
    ]


def _points(found: Estimate, *, signed: bool = False) -> str:
    """A share in points with its interval."""
    if found.value is None:
        return "—"
    sign = "+" if signed else ""
    text = f"{100 * found.value:{sign}.1f}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({100 * found.low:{sign}.1f} to {100 * found.high:{sign}.1f})"


def _named(text: str) -> tuple[str, str]:
    name, found, folder = text.partition("=")
    if not found:
        raise ConfigError(f"{text} is not NAME=WORK", remedy="For example plain=WORK/edge")
    return name, folder


if __name__ == "__main__":
    raise SystemExit(main())
