"""The training loop: seeded, budgeted in steps or minutes, resumable between any two steps.

Owns the optimizer and the running average of the weights, which is what leaves: a single step's
weights are noise at this batch size. The samples of a step depend on the seed and the step's number
alone, so a run that was cut goes on exactly as if it had not been. One process, no worker
processes; the next batch is drawn by one thread while the last one trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from foundation.errors import ConfigError
from model_workshop.training.checkpoints import Checkpoint, read_checkpoint
from model_workshop.training.interruption import Interruption
from model_workshop.training.journal import Journal
from model_workshop.training.lessons import (
    Batch,
    Lesson,
    Losses,
    TrainingPlan,
    draw_batch,
    losses_of,
)
from model_workshop.training.nets import GridDetector

_VALIDATION_STRETCHES = 5


def train(net: GridDetector, lesson: Lesson, plan: TrainingPlan, folder: Path) -> GridDetector:
    """Trains a net, or goes on with the run that `folder` holds.

    Writes `checkpoint.pt` (whole state, replaced atomically), `log.jsonl` (one line every
    `plan.stretch` steps) and `curve.svg`.

    Args:
        net: where a new run starts.
        lesson: what it learns.
        plan: how.
        folder: of the run.

    Returns:
        The net with averaged weights, in evaluation mode, float32 on the CPU.

    Raises:
        ConfigError: no budget is given, the folder holds a run of another shape or cannot be
            written to, or the loss is no longer a number.
        KeyboardInterrupt: Ctrl-C; the checkpoint is whole, the message says how to go on.
    """
    if not plan.steps and not plan.minutes:
        raise ConfigError("The training has no budget", remedy="Give steps or minutes")
    torch.set_num_threads(plan.threads)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error}", remedy="Choose another working folder"
        ) from error
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as pool, Interruption() as interrupted:
        run = _Run(net, lesson, plan, folder)
        run.go(pool, interrupted)
    return run.checkpoint().averaged_net()


class _Run:
    """One training run; its state is what a checkpoint holds."""

    def __init__(self, net: GridDetector, lesson: Lesson, plan: TrainingPlan, folder: Path) -> None:
        self._lesson, self._plan, self._folder = lesson, plan, folder
        self._journal = Journal(folder)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._net = net.to(self._device).to(memory_format=torch.channels_last)
        lesson.prepare(self._net)
        self._average = {k: v.detach().clone() for k, v in self._net.state_dict().items()}
        self._optimizer = torch.optim.AdamW(
            [
                {
                    "params": [p for p in net.parameters() if p.ndim > 1],
                    "weight_decay": plan.weight_decay,
                },
                {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=plan.learning_rate,
        )
        self._step, self._spent_s = 0, 0.0
        found = read_checkpoint(folder)
        if found is None:
            self.checkpoint().write(folder)
        else:
            self._resume(found)

    @property
    def _progress(self) -> float:
        return self._plan.progress(self._step, self._spent_s)

    def go(self, pool: ThreadPoolExecutor, interrupted: Interruption) -> None:
        """Trains until the budget is spent."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task(f"step {self._step}", total=1.0)
            losses: list[list[float]] = []
            batches = self._batches(pool)
            while self._progress < 1.0 and not interrupted.asked:
                started = time.monotonic()
                losses.append(self._one_step(next(batches)))
                self._spent_s += time.monotonic() - started
                text = f"step {self._step}, loss {sum(losses[-1]):.3f}"
                bar.update(task, completed=self._progress, description=text)
                if self._step % self._plan.stretch == 0 or self._progress >= 1.0:
                    self._close_stretch(losses)
                    losses.clear()
        if self._progress < 1.0:
            self.checkpoint().write(self._folder)
            raise KeyboardInterrupt(
                f"Stopped after step {self._step}. {self._folder} holds all of it: the same "
                "command goes on from there."
            )

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator[Batch]:
        step = self._step
        pending = pool.submit(self._draw, step)
        while True:
            step += 1
            drawn, pending = pending, pool.submit(self._draw, step)
            yield drawn.result()

    def _draw(self, step: int) -> Batch:
        return draw_batch(self._lesson.sampler, self._net.shape, self._plan, step)

    def _one_step(self, batch: Batch) -> list[float]:
        self._net.train()
        rate = self._plan.learning_rate * one_cycle(self._progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = losses_of(self._net, batch, self._plan)
        loss = losses.total
        if not math.isfinite(loss.item()):
            raise ConfigError(
                f"The loss is not a number after step {self._step}; {self._folder} keeps its last "
                "whole checkpoint",
                remedy="Train in a new folder with a lower --learning-rate",
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), 10.0)
        self._optimizer.step()
        self._step += 1
        self._follow()
        return [part.item() for part in losses]

    def _follow(self) -> None:
        decay = min(self._plan.average_decay, (1 + self._step) / (10 + self._step))
        for name, value in self._net.state_dict().items():
            if value.dtype.is_floating_point:
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def _close_stretch(self, losses: list[list[float]]) -> None:
        line = {
            "step": self._step,
            "minutes": round(self._spent_s / 60, 2),
            "progress": round(self._progress, 4),
            "rate": round(self._plan.learning_rate * one_cycle(self._progress), 7),
        }
        for name, value in zip(Losses._fields, np.mean(losses, axis=0), strict=True):
            line[f"{name}_loss"] = round(float(value), 4)
        checkpoint = self.checkpoint()
        if self._step % (self._plan.stretch * _VALIDATION_STRETCHES) == 0 or self._progress >= 1.0:
            net = checkpoint.averaged_net()
            self._lesson.prepare(net)
            line |= {k: round(v, 4) for k, v in self._lesson.validate(net).items()}
        self._journal.add(line)
        checkpoint.write(self._folder)

    def checkpoint(self) -> Checkpoint:
        """The state as it is."""
        return Checkpoint(
            shape=self._net.shape,
            folded=self._net.folded,
            net=self._net.state_dict(),
            average=self._average,
            optimizer=self._optimizer.state_dict(),
            step=self._step,
            spent_s=self._spent_s,
            facts=self._lesson.facts,
        )

    def _resume(self, found: Checkpoint) -> None:
        if (found.shape, found.folded) != (self._net.shape, self._net.folded):
            raise ConfigError(
                f"{self._folder} holds a net of another shape: {found.shape}",
                remedy="Train in a new folder, or ask for that shape",
            )
        self._net.load_state_dict(found.net)
        self._average = {k: v.to(self._device) for k, v in found.average.items()}
        self._optimizer.load_state_dict(found.optimizer)
        self._step, self._spent_s = found.step, found.spent_s


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate: linear up over the first 5 %, cosine down to 1 %."""
    if progress < 0.05:
        return max(0.05, progress / 0.05)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)) / 2
