"""How the shipped pair of bundles was made: `python -m reference_line.train_pair --help`.

One dataset of the line, two recipes of the model workshop. The edge model sees whole frames and
becomes INT8; the cloud model sees native crops, with `--proposer` also where the edge was wrong.
docs/models.md has the commands that were run and the figures they gave.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from foundation.bundle import Bundle
from model_workshop.training.finishing import draft, finish
from model_workshop.training.lessons import TrainingPlan
from model_workshop.training.recipe import Kind, Material, Recipe, cloud_recipe, edge_recipe
from model_workshop.training.stages import distil_stage, finetune_stage, train_stage
from reference_line.fit_pair import replace
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH

SEED = 20261120
BUNDLES = Path(__file__).parent / "bundles"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.train_pair")
    parser.add_argument(
        "step",
        choices=("train", "distil", "finetune", "bundle", "float"),
        help="bundle writes what ships; float writes the edge's float parent, to compare with",
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
        replace(
            arguments.bundles / f"{arguments.part}-float", draft(recipe, material, work).floating
        )
    else:
        script = f"python -m reference_line.train_pair, {arguments.part}, seed {SEED}"
        bundle = finish(recipe, material, work, proposer=proposer, script=script)
        replace(arguments.bundles / recipe.name, bundle)
        print(f"{recipe.name}: {bundle.info.model_card.figures}")
    return 0


def teacher_recipe(plan: TrainingPlan) -> Recipe:
    """The cloud model's net over whole native frames, INT8: it teaches the edge and never ships."""
    recipe = dataclasses.replace(cloud_recipe(plan), kind=Kind.FRAME, name="cloud-fullframe")
    return dataclasses.replace(recipe, width=FRAME_WIDTH, height=FRAME_HEIGHT)


if __name__ == "__main__":
    raise SystemExit(main())
