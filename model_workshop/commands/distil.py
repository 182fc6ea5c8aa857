"""`model-workshop distil`: goes on training a detector with a larger one's opinion."""

from __future__ import annotations

import argparse
from pathlib import Path

from model_workshop.training.arguments import (
    add_training_arguments,
    check_ends,
    continued_recipe,
    read_material,
    write_result,
)

HELP = "go on training with a larger detector's opinion"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add_training_arguments(parser, learning_rate=1e-3)
    parser.add_argument("--teacher", type=Path, required=True, help="bundle with a heat-map")
    parser.add_argument("--share", type=float, default=1.0, help="weight of the teacher's opinion")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    import dataclasses

    from foundation.bundle import Bundle
    from model_workshop.training.stages import distil_stage

    check_ends(arguments)
    recipe = continued_recipe(arguments)
    plan = dataclasses.replace(recipe.plan, imitation_share=arguments.share)
    recipe = dataclasses.replace(recipe, plan=plan)
    teacher = Bundle.open(arguments.teacher)
    material = read_material(arguments)
    distil_stage(recipe, material, arguments.work, start=arguments.start, teacher=teacher)
    write_result(arguments, recipe, material)
