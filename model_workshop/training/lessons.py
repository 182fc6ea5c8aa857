"""What a step of training is made of: the plan, the lesson, its batches and its losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model_workshop.training.checkpoints import State
from model_workshop.training.nets import STRIDE, GridDetector, NetShape
from model_workshop.training.objectives import box_loss, focal_loss, grid_targets, imitation_loss
from model_workshop.training.sampling import Sampler

Batch = tuple[Tensor, ...]
"""Pixels (N, 3, H, W) uint8, heat-map, boxes and weights as `grid_targets` gives them for each
sample, and a teacher's logits (N, classes, H / 4, W / 4) where there is one."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a net is trained.

    Attributes:
        steps: budget in steps of one batch; the same weights on the same machine.
        minutes: budget in wall-clock time; how many steps that is depends on the machine. Whichever
            budget ends first decides, and the learning rate follows the share that is used.
        batch_size: samples per step.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: AdamW's, on convolution kernels only.
        box_share: weight of the box loss against the heat-map loss.
        imitation_share: weight of the teacher's opinion against the truth, where there is one.
        average_decay: of the running average of the weights, reached after a warm-up.
        stretch: steps between two lines of the log, each with a checkpoint.
        threads: torch's threads.
        seed: of the weights' start and of the samples.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    box_share: float = 0.5
    imitation_share: float = 1.0
    average_decay: float = 0.999
    stretch: int = 100
    threads: int = 1
    seed: int = 20261120

    def progress(self, step: int, spent_s: float) -> float:
        """Share of the budget that is used, in 0..1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = spent_s / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a net is trained for.

    Attributes:
        sampler: draws what it sees.
        validate: judges the averaged net every so often; figures for the log.
        prepare: changes how a net computes, not what it holds, for example by rounding.
        facts: to be kept in the checkpoint.
    """

    sampler: Sampler
    validate: Callable[[GridDetector], Figures] = field(default=lambda _: {})
    prepare: Callable[[GridDetector], None] = field(default=lambda _: None)
    facts: State = field(default_factory=dict)


class Losses(NamedTuple):
    """What a batch costs; scalars, already weighted."""

    heatmap: Tensor
    box: Tensor
    imitation: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimized."""
        return self.heatmap + self.box + self.imitation


def draw_batch(sampler: Sampler, shape: NetShape, plan: TrainingPlan, step: int) -> Batch:
    """The samples of a step: the same ones whenever, and however often, it is made."""
    random = np.random.default_rng((plan.seed, step))
    drawn = [sampler.draw(random) for _ in range(plan.batch_size)]
    height, width = drawn[0].pixels.shape[:2]
    targets = [
        grid_targets(s.boxes, s.class_ids, shape.classes, height // STRIDE, width // STRIDE)
        for s in drawn
    ]
    stacked: list[npt.NDArray[Any]] = [np.stack(part) for part in zip(*targets, strict=True)]
    opinions = [s.opinion for s in drawn if s.opinion is not None]
    if opinions:
        stacked.append(np.stack(opinions))
    pixels = torch.from_numpy(np.stack([s.pixels for s in drawn])).permute(0, 3, 1, 2)
    return pixels, *map(torch.from_numpy, stacked)


def losses_of(net: GridDetector, batch: Batch, plan: TrainingPlan) -> Losses:
    """What a batch costs a net, on the net's device, in bfloat16 where that is safe."""
    device = next(net.parameters()).device
    pixels, heatmap, boxes, weights, *opinion = (part.to(device) for part in batch)
    image = pixels.float().div(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        logits, placement = net(image)
    logits = logits.float()
    imitation = torch.zeros((), device=device)
    if opinion:
        objects = (heatmap == 1.0).sum()
        imitation = imitation_loss(logits, opinion[0], objects)
    return Losses(
        focal_loss(logits, heatmap),
        plan.box_share * box_loss(placement.float(), boxes, weights),
        plan.imitation_share * imitation,
    )
