"""How the shipped pair of bundles was made: `python -m reference_line.train_pair --help`.

One dataset of the line, two recipes of the model workshop. The edge model sees whole frames and
becomes INT8; the cloud model sees native crops, with `--proposer` also where the edge was wrong.
docs/models.md has the commands that were run and the figures they gave.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.bundle import Bundle
from foundation.manifest import Thresholds
from model_workshop.assemble import assemble
from model_workshop.evaluation.thresholds import score_floor
from model_workshop.training.finishing import draft, finish
from model_workshop.training.lessons import TrainingPlan
from model_workshop.training.recipe import Kind, Material, Recipe, cloud_recipe, edge_recipe
from model_workshop.training.stages import distil_stage, finetune_stage, train_stage
from reference_line.evaluation import Claim, edge_claims
from reference_line.fit_asking import fit_policy_of_edge
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.track_thresholds import (
    FRAMES,
    TEST_SEEDS,
    VALIDATION_SEEDS,
    LineRun,
    above,
    cloud_claims,
    fit_cloud,
    fit_edge,
    recall_by_size,
    run_line,
    total_score,
)

SEED = 20261120
BUNDLES = Path(__file__).parent / "bundles"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.train_pair")
    parser.add_argument(
        "step",
        choices=("train", "distil", "finetune", "bundle", "float", "thresholds", "policy"),
        help="bundle writes what ships; float writes the edge's float parent, to compare with; "
        "policy fits what asking the cloud beside it gains into the edge",
    )
    parser.add_argument("part", choices=("edge", "cloud", "teacher"))
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="written by reference-line export; repeat it to train on several",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--from", dest="start", type=Path, help="folder of the run to go on from")
    parser.add_argument("--steps", type=int, help="training budget, in total")
    parser.add_argument("--minutes", type=float, help="the same in wall-clock time")
    parser.add_argument("--learning-rate", type=float, default=TrainingPlan().learning_rate)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--proposer", type=Path, help="edge bundle whose mistakes the cloud sees")
    parser.add_argument("--teacher", type=Path, help="bundle of the part `teacher`, to distil from")
    parser.add_argument("--bundles", type=Path, default=BUNDLES, help="where the bundles go")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.step == "thresholds":
        set_thresholds(arguments.part, arguments.bundles, arguments.work)
        return 0
    if arguments.step == "policy":
        set_policy(arguments.bundles, arguments.work)
        return 0
    plan = TrainingPlan(
        steps=arguments.steps,
        minutes=arguments.minutes,
        learning_rate=arguments.learning_rate,
        threads=arguments.threads,
        seed=SEED,
    )
    recipe = {"edge": edge_recipe, "cloud": cloud_recipe, "teacher": teacher_recipe}[
        arguments.part
    ](plan)
    material = Material.read(arguments.data)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    work, start = arguments.work, arguments.start
    if arguments.step == "train":
        train_stage(recipe, material, work, start=start, proposer=proposer)
    elif arguments.step == "distil":
        teacher = Bundle.open(arguments.teacher)
        distil_stage(recipe, material, work, start=start, teacher=teacher)
    elif arguments.step == "finetune":
        finetune_stage(recipe, material, work, start=start)
    elif arguments.step == "float":
        _replace(
            arguments.bundles / f"{arguments.part}-float", draft(recipe, material, work).floating
        )
    else:
        script = f"python -m reference_line.train_pair, {arguments.part}, seed {SEED}"
        bundle = finish(recipe, material, work, proposer=proposer, script=script)
        _replace(arguments.bundles / recipe.name, bundle)
        print(f"{recipe.name}: {bundle.info.model_card.figures}")
    return 0


def teacher_recipe(plan: TrainingPlan) -> Recipe:
    """The cloud model's net over whole native frames, INT8: it teaches the edge and never ships."""
    recipe = dataclasses.replace(cloud_recipe(plan), kind=Kind.FRAME, name="cloud-fullframe")
    return dataclasses.replace(recipe, width=FRAME_WIDTH, height=FRAME_HEIGHT)


def set_thresholds(part: str, bundles: Path, work: Path) -> None:
    """Fits a bundle's thresholds on validation lines and reports what they give on other lines."""
    edge_path, cloud_path = (bundles / name for name in ("edge-reference", "cloud-reference"))
    if part == "edge":
        # Fitted on all that a lower floor shows, so that the floor can follow from it.
        fitted = fit_edge(Bundle.open(edge_path), _runs(edge_path, VALIDATION_SEEDS, work))
        edge = Bundle.open(edge_path)
        floor = score_floor(edge.calibration, fitted, edge.labels)
        _replace(edge_path, _carded(edge, fitted, floor, {}))
        return
    edge, cloud = Bundle.open(edge_path), Bundle.open(cloud_path)
    fitted = fit_cloud(cloud, _runs(edge_path, VALIDATION_SEEDS, work))
    runs = _runs(edge_path, TEST_SEEDS, work)
    limits = edge.thresholds.default
    detections_min = runs[0].settings.tracks.min_detections
    seen = [
        edge_claims(run.records.tracks, edge.thresholds, detections_min=detections_min)
        for run in runs
    ]
    asked = above(cloud_claims(cloud, runs), fitted.default.report)
    figures = {
        "per_defect": {
            "lines": list(TEST_SEEDS),
            "frames": FRAMES * len(TEST_SEEDS),
            "edge_alone": {"threshold": limits.report, **_figures(seen, runs)},
            "cloud_on_every_proposal": _figures(asked, runs),
            "proposals": sum(len(run.records.tracks) for run in runs),
        }
    }
    floor = cloud.info.postprocess.score_floor
    # A policy names this cloud, so the cloud cannot name an edge that has one.
    parent = dataclasses.replace(edge, policy=None).digest
    parented = dataclasses.replace(
        cloud,
        info=cloud.info.model_copy(
            update={"model_card": cloud.info.model_card.model_copy(update={"parents": (parent,)})}
        ),
    )
    _replace(cloud_path, _carded(parented, fitted, floor, figures))
    print(json.dumps(figures, indent=1))


def set_policy(bundles: Path, work: Path) -> None:
    """Fits what asking gains on the validation lines, and puts it into the edge bundle."""
    edge_path, cloud_path = (bundles / name for name in ("edge-reference", "cloud-reference"))
    edge, fit = fit_policy_of_edge(edge_path, cloud_path, work)
    _replace(edge_path, edge)
    for name, reached in fit.held_out.items():
        print(f"{name}: {reached}")


def _runs(edge: Path, seeds: tuple[int, ...], work: Path) -> list[LineRun]:
    return [run_line(edge, seed, work / f"line-{seed}") for seed in seeds]


def _carded(
    bundle: Bundle, thresholds: Thresholds, floor: float, figures: Mapping[str, Any]
) -> Bundle:
    """The bundle with other thresholds, its smoke test still within them, and more figures."""
    card = bundle.info.model_card
    info = bundle.info.model_copy(
        update={
            "postprocess": bundle.info.postprocess.model_copy(update={"score_floor": floor}),
            "model_card": card.model_copy(update={"figures": {**card.figures, **figures}}),
        }
    )
    return assemble(
        info,
        bundle.model,
        bundle.smoke.pixels,
        calibration=bundle.calibration,
        thresholds=thresholds,
    )


def _figures(claims: Sequence[Sequence[Claim]], runs: Sequence[LineRun]) -> dict[str, Any]:
    score = total_score(claims, runs)
    return {
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "f1": round(score.f1, 4),
        "recall_by_size": recall_by_size(claims, runs),
    }


def _replace(path: Path, bundle: Bundle) -> None:
    if path.exists():
        shutil.rmtree(path)
    bundle.write(path)


if __name__ == "__main__":
    raise SystemExit(main())
