"""`model-workshop finetune`: goes on training with the rounding of INT8 in the net."""

from __future__ import annotations

import argparse

from model_workshop.training.arguments import (
    add_training_arguments,
    check_ends,
    continued_recipe,
    read_material,
    write_result,
)

HELP = "go on training with INT8's rounding in the net"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add_training_arguments(parser, learning_rate=1e-4)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from model_workshop.training.stages import finetune_stage

    check_ends(arguments)
    recipe = continued_recipe(arguments)
    material = read_material(arguments)
    finetune_stage(recipe, material, arguments.work, start=arguments.start)
    write_result(arguments, recipe, material)
