"""`model-workshop train`: trains a detector on a COCO-format dataset."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from model_workshop.training.recipe import Recipe

HELP = "train a detector on a COCO-format dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    add_training_arguments(parser, learning_rate=3e-3, going_on=False)
    parser.add_argument("--kind", choices=("frame", "crop"), default="frame")
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks; needed for crop")
    parser.add_argument("--name", help="of the bundle")
    parser.add_argument("--width", type=float, help="share of the shape's channels")
    parser.add_argument("--size", type=size, metavar="WxH", help="of the model's input")
    parser.add_argument("--window", type=size, metavar="WxH", help="of a sample")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.training.stages import train_stage

    check_ends(arguments)
    if arguments.kind == "crop" and arguments.proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    recipe = _recipe(arguments)
    material = read_material(arguments)
    train_stage(recipe, material, arguments.work, start=arguments.start, proposer=proposer)
    write_result(arguments, recipe, material, proposer=proposer)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """A new recipe, or that of the run to go on from, with what was asked for otherwise."""
    from model_workshop.training.recipe import cloud_recipe, edge_recipe

    if arguments.start is not None:
        if arguments.width is not None:
            raise ConfigError(
                "A net that is trained already has its width",
                remedy="Leave out --width, or take channels out with model-workshop prune",
            )
        recipe = continued_recipe(arguments)
    else:
        recipe = (edge_recipe if arguments.kind == "frame" else cloud_recipe)(plan_of(arguments))
        recipe = dataclasses.replace(recipe, shape=recipe.shape.scaled(arguments.width or 1.0))
    width, height = arguments.size or (recipe.width, recipe.height)
    window = arguments.window or (min(recipe.window[0], width), min(recipe.window[1], height))
    name = arguments.name or recipe.name
    return dataclasses.replace(recipe, name=name, width=width, height=height, window=window)
