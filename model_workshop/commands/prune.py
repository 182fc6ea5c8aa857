"""`model-workshop prune`: takes whole channels out of a detector and trains what is left."""

from __future__ import annotations

import argparse

from model_workshop.training.arguments import (
    add_training_arguments,
    check_ends,
    continued_recipe,
    read_material,
    write_result,
)

HELP = "take channels out of a detector and train what is left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add_training_arguments(parser, learning_rate=1e-3)
    parser.add_argument("--keep", type=float, default=0.75, help="share of the channels that stay")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from model_workshop.training.stages import prune_stage

    check_ends(arguments)
    recipe = continued_recipe(arguments)
    material = read_material(arguments)
    prune_stage(recipe, material, arguments.work, start=arguments.start, keep=arguments.keep)
    write_result(arguments, recipe, material)
