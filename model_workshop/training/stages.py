"""The four ways to train, in the order in which they stack: train, distil, prune, fine-tune.

Each goes on from the folder of the one before and leaves a folder of its own, with the whole story
in its checkpoint. A folder that holds a run already is gone on with, whatever the stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.geometry import Letterbox
from model_workshop.training.checkpoints import (
    Checkpoint,
    State,
    read_checkpoint,
    trained_checkpoint,
)
from model_workshop.training.finishing import calibration_tensors
from model_workshop.training.lessons import Lesson, TrainingPlan, draw_batch, losses_of
from model_workshop.training.loop import train
from model_workshop.training.nets import GridDetector
from model_workshop.training.pruning import prune
from model_workshop.training.recipe import (
    Kind,
    Material,
    Recipe,
    check_size,
    sampler_for,
    shape_for,
    validator_for,
)
from model_workshop.training.rounding import install_rounding, observe_ranges
from model_workshop.training.sampling import Sampler
from model_workshop.training.teaching import ask_all

_PRUNING_BATCHES = 8


def train_stage(
    recipe: Recipe,
    material: Material,
    folder: Path,
    *,
    start: Path | None = None,
    proposer: Bundle | None = None,
) -> None:
    """Trains a net of the recipe's shape, or goes on from another run's weights.

    Args:
        recipe: what to train; with `start`, of that run.
        material: what to train on.
        folder: of this run.
        start: folder of the run to go on from, with a schedule of its own.
        proposer: for a crop model, a frame model whose mistakes on the training frames are shown
            to it as places with nothing.

    Raises:
        ConfigError: see `loop.train`; sizes do not fit, or `start` holds no run.
    """
    check_size(recipe)
    torch.manual_seed(recipe.plan.seed)
    net = _resumed(folder, material)
    if net is None and start is not None:
        net = _trained(start, material)
    if net is None:
        net = GridDetector(shape_for(recipe, material))
    sampler = sampler_for(recipe, material, proposer=proposer)
    _learn(net, sampler, recipe, material, folder, _story(start, "trained", recipe.plan))


def distil_stage(
    recipe: Recipe, material: Material, folder: Path, *, start: Path, teacher: Bundle
) -> None:
    """Goes on from a run with a teacher's opinion beside the truth.

    The teacher is asked about every training frame once; its answers are kept in `folder`.

    Raises:
        ConfigError: see `train_stage`; the teacher knows other classes or has no heat-map, or the
            model is not a frame model.
    """
    if recipe.kind is not Kind.FRAME:
        raise ConfigError("Only frame models are distilled", remedy="Give the run of one (--from)")
    if teacher.labels != material.labels:
        raise ConfigError(
            f"The teacher {teacher.info.name} knows {', '.join(teacher.labels)}, but the data has "
            f"{', '.join(material.labels)}",
            remedy="Give a teacher of the same labels in the same order",
        )
    net = _resumed(folder, material) or _trained(start, material)
    student = Letterbox(recipe.letterbox, recipe.width, recipe.height)
    opinions = ask_all(teacher, material.train, folder, student)
    sampler = sampler_for(recipe, material, opinions=opinions)
    story = _story(start, f"distilled from {teacher.info.name}", recipe.plan)
    _learn(net, sampler, recipe, material, folder, story)


def prune_stage(
    recipe: Recipe, material: Material, folder: Path, *, start: Path, keep: float
) -> None:
    """Takes channels out of a run's net and trains on what is left.

    Raises:
        ConfigError: see `train_stage`; the share cannot be kept, or the net is folded already.
    """
    sampler = sampler_for(recipe, material)
    net = _resumed(folder, material)
    if net is None:
        whole = _trained(start, material)
        if whole.folded:
            raise ConfigError(
                f"{start} was fine-tuned for INT8, which comes after pruning",
                remedy="Prune the run that it was made from",
            )
        batches = (
            draw_batch(sampler, whole.shape, recipe.plan, step) for step in range(_PRUNING_BATCHES)
        )
        net = prune(whole, keep, batches, lambda n, b: losses_of(n, b, recipe.plan).total)
    story = _story(start, f"pruned to {keep:.0%} of its channels", recipe.plan)
    _learn(net, sampler, recipe, material, folder, story)


def finetune_stage(recipe: Recipe, material: Material, folder: Path, *, start: Path) -> None:
    """Goes on from a run with the rounding of INT8 in the net.

    Raises:
        ConfigError: see `train_stage`.
    """
    found = read_checkpoint(folder)
    net = _resumed(folder, material) or _trained(start, material)
    if not net.folded:
        net.fold()
    known = found.facts.get("ranges") if found is not None else None
    ranges = known or observe_ranges(net, _calibration_batches(recipe, material))
    _learn(
        net,
        sampler_for(recipe, material),
        recipe,
        material,
        folder,
        {**_story(start, "fine-tuned for INT8", recipe.plan), "ranges": ranges},
        rounded=True,
    )


def _learn(
    net: GridDetector,
    sampler: Sampler,
    recipe: Recipe,
    material: Material,
    folder: Path,
    facts: State,
    *,
    rounded: bool = False,
) -> None:
    def prepare(prepared: GridDetector) -> None:
        if rounded:
            install_rounding(prepared, facts["ranges"])

    facts = {**facts, "recipe": recipe.facts(), "labels": list(material.labels)}
    lesson = Lesson(sampler, validator_for(recipe, material), prepare, facts)
    train(net, lesson, recipe.plan, folder)


def _resumed(folder: Path, material: Material) -> GridDetector | None:
    """The net of a run that a folder holds already; the loop takes up its state.

    Raises:
        ConfigError: it learned other classes than the data has.
    """
    found = read_checkpoint(folder)
    return None if found is None else _net_for(found, folder, material)


def _trained(start: Path, material: Material) -> GridDetector:
    """The net of the run to go on from.

    Raises:
        ConfigError: there is none, or it learned other classes than the data has.
    """
    return _net_for(trained_checkpoint(start), start, material)


def _net_for(checkpoint: Checkpoint, folder: Path, material: Material) -> GridDetector:
    learned = checkpoint.facts.get("labels", list(material.labels))
    if learned != list(material.labels) or checkpoint.shape.classes != len(learned):
        raise ConfigError(
            f"{folder} learned {', '.join(learned)} ({checkpoint.shape.classes} classes), but the "
            f"data has {', '.join(material.labels)}",
            remedy="Go on with data of the same labels in the same order",
        )
    return checkpoint.averaged_net()


def _story(start: Path | None, stage: str, plan: TrainingPlan) -> State:
    """What led to a run: the stages before it, each with its steps, and this one."""
    told: list[str] = []
    if start is not None:
        before = trained_checkpoint(start)
        told = [*before.facts.get("story", ()), f"{before.step} steps"]
    batch = f"batches of {plan.batch_size}, peak rate {plan.learning_rate:g}, seed {plan.seed}"
    return {"story": [*told, f"{stage} in {batch}"]}


def _calibration_batches(recipe: Recipe, material: Material) -> Iterable[Tensor]:
    return (torch.from_numpy(t) for t in calibration_tensors(recipe, material.pictures))
