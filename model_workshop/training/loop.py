"""The training loop: seeded, budgeted in minutes or epochs, resumable after every epoch.

Owns the optimizer and the running average of the weights, which is what leaves: a single step's
weights are noise at this batch size. One process, no worker processes; samples are drawn by one
thread while the last batch trains.
"""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from foundation.errors import ConfigError
from model_workshop.training.nets import STRIDE, GridDetector, NetShape
from model_workshop.training.objectives import box_loss, focal_loss, grid_targets
from model_workshop.training.sampling import Sampler

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a net is trained.

    Attributes:
        minutes: wall-clock budget; the learning rate follows the share of it that is used.
        epochs: budget in passes over the data; whichever budget ends first decides.
        batch_size: samples per step.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: AdamW's, on convolution kernels only.
        box_share: weight of the box loss against the heat-map loss.
        average_decay: of the running average of the weights, reached after a warm-up.
        threads: torch's threads.
        seed: of the weights' start and of the samples.
    """

    minutes: float = 50.0
    epochs: int = 1_000_000
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    box_share: float = 0.5
    average_decay: float = 0.999
    threads: int = 1
    seed: int = 20261120


def train(shape: NetShape, sampler: Sampler, plan: TrainingPlan, folder: Path) -> GridDetector:
    """Trains a net, or goes on with the run that `folder` holds.

    Writes `checkpoint.pt` (whole state, replaced atomically each epoch) and `log.jsonl` (one line
    an epoch). The same seed, data and step count give the same weights on the same machine; a
    budget in minutes makes the step count depend on the machine.

    Returns:
        The net with averaged weights, in evaluation mode, float32 on the CPU.

    Raises:
        ConfigError: the folder holds a run of another shape.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    run = _Run(shape, sampler, plan, folder)
    run.resume()
    with ThreadPoolExecutor(1, thread_name_prefix="samples") as pool:
        run.go(pool)
    return run.averaged_net()


class _Run:
    """One training run; its state is what a checkpoint holds."""

    def __init__(self, shape: NetShape, sampler: Sampler, plan: TrainingPlan, folder: Path) -> None:
        self._shape, self._sampler, self._plan, self._folder = shape, sampler, plan, folder
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net = GridDetector(shape).to(self._device)
        self._net = net.to(memory_format=torch.channels_last)
        self._average = {k: v.detach().clone() for k, v in self._net.state_dict().items()}
        kernels = [p for p in net.parameters() if p.ndim > 1]
        others = [p for p in net.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": kernels, "weight_decay": plan.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=plan.learning_rate,
        )
        self._random = np.random.default_rng(plan.seed)
        self._epoch = 0
        self._step = 0
        self._spent_s = 0.0
        self._steps_per_epoch = max(20, sampler.samples_per_epoch // plan.batch_size)

    @property
    def _progress(self) -> float:
        by_time = self._spent_s / (60 * self._plan.minutes)
        by_steps = self._step / (self._plan.epochs * self._steps_per_epoch)
        return min(1.0, max(by_time, by_steps))

    def go(self, pool: ThreadPoolExecutor) -> None:
        """Trains until the budget is spent."""
        while self._progress < 1.0:
            started, totals = time.monotonic(), np.zeros(2)
            steps = 0
            pending = pool.submit(self._draw)
            while steps < self._steps_per_epoch and self._progress < 1.0:
                batch = pending.result()
                steps += 1
                # Nothing is drawn ahead across an epoch's end: a checkpoint must know which
                # samples come next.
                if steps < self._steps_per_epoch:
                    pending = pool.submit(self._draw)
                totals += self._one_step(batch)
                now = time.monotonic()
                self._spent_s += now - started
                started = now
            wait([pending])
            self._epoch += 1
            self._record(totals / max(1, steps), steps)
            self._save()

    def _draw(self) -> Batch:
        classes = self._shape.classes
        drawn = [self._sampler.draw(self._random) for _ in range(self._plan.batch_size)]
        height, width = drawn[0].pixels.shape[:2]
        targets = [
            grid_targets(s.boxes, s.class_ids, classes, height // STRIDE, width // STRIDE)
            for s in drawn
        ]
        pixels = np.stack([s.pixels for s in drawn])
        stacked: list[npt.NDArray[np.float32]] = [
            np.stack(part) for part in zip(*targets, strict=True)
        ]
        heatmaps, boxes, weights = (torch.from_numpy(part) for part in stacked)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), heatmaps, boxes, weights

    def _one_step(self, batch: Batch) -> npt.NDArray[np.float64]:
        self._net.train()
        rate = self._plan.learning_rate * one_cycle(self._progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        pixels, heatmaps, boxes, weights = (part.to(self._device) for part in batch)
        image = pixels.float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, dtype=torch.bfloat16):
            logits, placement = self._net(image)
        seen = focal_loss(logits.float(), heatmaps)
        placed = box_loss(placement.float(), boxes, weights)
        self._optimizer.zero_grad(set_to_none=True)
        (seen + self._plan.box_share * placed).backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), 10.0)
        self._optimizer.step()
        self._step += 1
        self._follow()
        return np.array([seen.item(), placed.item()])

    def _follow(self) -> None:
        decay = min(self._plan.average_decay, (1 + self._step) / (10 + self._step))
        for name, value in self._net.state_dict().items():
            if value.dtype.is_floating_point:
                self._average[name].lerp_(value, 1 - decay)
            else:
                self._average[name].copy_(value)

    def _record(self, losses: npt.NDArray[np.float64], steps: int) -> None:
        line = {
            "epoch": self._epoch,
            "step": self._step,
            "minutes": round(self._spent_s / 60, 2),
            "progress": round(self._progress, 4),
            "heatmap_loss": round(float(losses[0]), 4),
            "box_loss": round(float(losses[1]), 4),
            "samples": steps * self._plan.batch_size,
        }
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        state = {
            "shape": asdict(self._shape),
            "net": self._net.state_dict(),
            "average": self._average,
            "optimizer": self._optimizer.state_dict(),
            "random": self._random.bit_generator.state,
            "epoch": self._epoch,
            "step": self._step,
            "spent_s": self._spent_s,
        }
        partial = self._folder / "checkpoint.pt.partial"
        torch.save(state, partial)
        partial.replace(self._folder / "checkpoint.pt")

    def resume(self) -> None:
        """Takes up the run of the folder, where there is one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "checkpoint.pt"
        if not path.exists():
            return
        state = _load(path, self._shape)
        self._net.load_state_dict(state["net"])
        self._average = {k: v.to(self._device) for k, v in state["average"].items()}
        self._optimizer.load_state_dict(state["optimizer"])
        self._random.bit_generator.state = state["random"]
        self._epoch, self._step = state["epoch"], state["step"]
        self._spent_s = state["spent_s"]

    def averaged_net(self) -> GridDetector:
        """A net with the averaged weights."""
        net = GridDetector(self._shape)
        net.load_state_dict({k: v.cpu() for k, v in self._average.items()})
        return net.eval()


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate: linear up over the first 5 %, cosine down to 1 %."""
    if progress < 0.05:
        return max(0.05, progress / 0.05)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (progress - 0.05) / 0.95)) / 2


def load_averaged_net(folder: Path, shape: NetShape) -> GridDetector:
    """The net that a training run has come to so far, with averaged weights.

    Raises:
        ConfigError: there is no checkpoint in the folder, or one of another shape.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise ConfigError(f"{path} does not exist", remedy="Train first: model-workshop train")
    net = GridDetector(shape)
    net.load_state_dict(_load(path, shape)["average"])
    return net.eval()


def _load(path: Path, shape: NetShape) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    if state["shape"] != asdict(shape):
        raise ConfigError(
            f"{path} holds a net of another shape: {state['shape']}",
            remedy="Train in a new folder, or ask for that shape",
        )
    return state
