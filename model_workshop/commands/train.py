"""`model-workshop train`: trains a detector on a COCO-format dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.outputs import refuse_existing

HELP = "train a detector on a COCO-format dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("dataset", type=Path, help="directory with train/, val/ and test/")
    parser.add_argument("--kind", choices=("frame", "crop"), default="frame")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; resumes")
    parser.add_argument("--steps", type=int, help="budget in steps of one batch")
    parser.add_argument("--minutes", type=float, help="budget in minutes; what ends first decides")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks; needed for crop")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.training.loop import TrainingPlan
    from model_workshop.training.recipe import cloud_recipe, edge_recipe, finish, train_recipe

    refuse_existing(arguments.out)
    if arguments.kind == "crop" and arguments.proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    plan = TrainingPlan(
        minutes=arguments.minutes,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    recipe = edge_recipe(plan) if arguments.kind == "frame" else cloud_recipe(plan)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    train_recipe(recipe, arguments.dataset, arguments.work, proposer=proposer)
    script = f"model-workshop train --kind {arguments.kind} --seed {arguments.seed}"
    bundle = finish(recipe, arguments.dataset, arguments.work, proposer=proposer, script=script)
    bundle.write(arguments.out)
    print(arguments.out)
