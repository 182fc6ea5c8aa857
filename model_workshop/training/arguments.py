"""What the commands that train have in common; light, so that help needs no extras."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import ConfigError
from model_workshop.gating.arguments import add_gate_arguments

if TYPE_CHECKING:
    from foundation.bundle import Bundle
    from model_workshop.datasets import Split
    from model_workshop.training.lessons import TrainingPlan
    from model_workshop.training.recipe import Material, Recipe

SEED = 20261120


def add_training_arguments(
    parser: argparse.ArgumentParser, *, learning_rate: float, going_on: bool = True
) -> None:
    """Declares what is trained on, from where, for how long, and where it goes.

    Args:
        parser: of the command.
        learning_rate: the command's default.
        going_on: whether the command must be told which run it goes on from.
    """
    parser.add_argument(
        "dataset",
        type=Path,
        nargs="+",
        help="directory with train/, val/ and test/; of further ones only train/ is used",
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        required=going_on,
        metavar="WORK",
        help="folder of the run to go on from",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of this run; resumes")
    parser.add_argument("--out", type=Path, help="bundle to write at the end")
    parser.add_argument("--steps", type=int, help="budget in steps: the same steps, the same bytes")
    parser.add_argument("--minutes", type=float, help="budget in minutes; what ends first decides")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=learning_rate, help="its peak")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--seed", type=int, default=SEED)
    add_gate_arguments(parser)


def plan_of(arguments: argparse.Namespace) -> TrainingPlan:
    """The training plan that was asked for.

    Raises:
        ConfigError: there is no budget, or a number makes no sense.
    """
    if arguments.steps is None and arguments.minutes is None:
        raise ConfigError("The training has no budget", remedy="Give --steps or --minutes")
    for name in ("steps", "minutes", "batch_size", "learning_rate", "threads"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is {value}", remedy="Give a positive number")
    from model_workshop.training.lessons import TrainingPlan

    return TrainingPlan(
        steps=arguments.steps,
        minutes=arguments.minutes,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        threads=arguments.threads,
        seed=arguments.seed,
    )


def continued_recipe(arguments: argparse.Namespace) -> Recipe:
    """The recipe of the run that the command goes on from, with the plan that was asked for.

    Raises:
        ConfigError: there is no run, or it does not say what it was trained for.
    """
    from model_workshop.training.checkpoints import trained_checkpoint
    from model_workshop.training.recipe import recipe_of

    return recipe_of(trained_checkpoint(arguments.start), plan_of(arguments))


def read_material(arguments: argparse.Namespace) -> Material:
    """The datasets, no image of which is in two splits.

    Raises:
        ConfigError: a split is not what it should be, or shares images with another; floors are to
            be held on images that the bundle is made from.
    """
    from model_workshop.datasets import check_disjoint
    from model_workshop.training.recipe import Material

    material = Material.read(arguments.dataset)
    check_disjoint(*material.train, material.val, material.test)
    check_judge(arguments, *material.train, material.val)
    return material


def check_judge(arguments: argparse.Namespace, *made_from: Split) -> None:
    """Checks that floors are held where the bundle is not from, before hours of work on it.

    Args:
        arguments: of the command.
        made_from: the splits that train the model or fit its scores.

    Raises:
        ConfigError: the split of the floors shares images with one of them.
    """
    from model_workshop.datasets import check_disjoint, read_split

    if arguments.floors_split is not None:
        judge = read_split(arguments.floors_split)
        for split in made_from:
            check_disjoint(split, judge)


def write_result(
    arguments: argparse.Namespace,
    recipe: Recipe,
    material: Material,
    *,
    proposer: Bundle | None = None,
) -> None:
    """Writes the bundle of a run that is done, where one was asked for and its floors are held.

    Raises:
        BelowFloorError: it misses a floor; the run's folder stays.
        ConfigError: it cannot be written.
    """
    from model_workshop.gating.arguments import open_gate
    from model_workshop.gating.gate import write_admitted
    from model_workshop.training.finishing import finish

    if arguments.out is None:
        print(arguments.work)
        return
    gate = open_gate(arguments, proposer=proposer)
    script = f"model-workshop {arguments.command}, seed {arguments.seed}"
    bundle = finish(recipe, material, arguments.work, proposer=proposer, script=script)
    written = write_admitted(bundle, arguments.out, gate)
    print(f"{arguments.out}: {written.info.name}, {written.digest[:12]}")


def check_ends(arguments: argparse.Namespace) -> None:
    """Checks what is needed at the end of hours of work before they begin.

    Raises:
        ConfigError: the bundle cannot be written, the floors cannot be read or would judge nothing,
            or the run would go on from itself.
    """
    from model_workshop.gating.arguments import open_gate
    from model_workshop.outputs import check_output

    if arguments.start is not None and arguments.start.resolve() == arguments.work.resolve():
        # A folder that holds a run is resumed: the step that was asked for would never begin.
        raise ConfigError(
            f"{arguments.work} is the folder to go on from and that of this run",
            remedy="Give this run a folder of its own (--work)",
        )
    if arguments.out is not None:
        check_output(arguments.out)
    elif arguments.floors is not None:
        raise ConfigError(
            "Floors judge a bundle, and none is to be written", remedy="Give --out, or no --floors"
        )
    open_gate(arguments)


def size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT as two numbers.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not WIDTHxHEIGHT, for example 416x320")
    return int(width), int(height)
