"""`model-workshop train`: trains a detector on a COCO-format dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.training.arguments import (
    add_training_arguments,
    check_ends,
    continued_recipe,
    plan_of,
    read_material,
    size,
    write_result,
)

HELP = "train a detector on a COCO-format dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add_training_arguments(parser, learning_rate=3e-3, going_on=False)
    parser.add_argument("--kind", choices=("frame", "crop"), default="frame")
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks; needed for crop")
    parser.add_argument("--name", help="of the bundle")
    parser.add_argument("--width", type=float, default=1.0, help="share of the shape's channels")
    parser.add_argument("--size", type=size, metavar="WxH", help="of the model's input")
    parser.add_argument("--window", type=size, metavar="WxH", help="of a sample")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    import dataclasses

    from foundation.bundle import Bundle
    from model_workshop.training.recipe import cloud_recipe, edge_recipe
    from model_workshop.training.stages import train_stage

    check_ends(arguments)
    if arguments.kind == "crop" and arguments.proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    if arguments.start is not None:
        recipe = continued_recipe(arguments)
    else:
        recipe = (edge_recipe if arguments.kind == "frame" else cloud_recipe)(plan_of(arguments))
        width, height = arguments.size or (recipe.width, recipe.height)
        recipe = dataclasses.replace(
            recipe,
            name=arguments.name or recipe.name,
            shape=recipe.shape.scaled(arguments.width),
            width=width,
            height=height,
            window=arguments.window
            or (min(recipe.window[0], width), min(recipe.window[1], height)),
        )
    material = read_material(arguments)
    train_stage(recipe, material, arguments.work, start=arguments.start, proposer=proposer)
    write_result(arguments, recipe, material, proposer=proposer)
