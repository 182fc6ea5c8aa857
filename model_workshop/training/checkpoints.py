"""What a training run leaves on the disk after every stretch of steps, whole or not at all.

A checkpoint holds all that the next step needs, and the shape of the net, so that whoever goes on
from it (distil, prune, fine-tune) has nothing to be told. Files are replaced, never overwritten.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from foundation.errors import ConfigError
from model_workshop.training.nets import GridDetector, NetShape

FILE = "checkpoint.pt"
_UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
)
"""What reading a foreign or damaged file may raise, besides what the disk does."""
State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a run between two steps.

    Attributes:
        shape: of the net.
        folded: whether batch normalizations are merged into their convolutions.
        net: weights of the last step.
        average: their running average, which is what leaves.
        optimizer: its state.
        step: how many steps were made.
        spent_s: how long they took.
        facts: what else the step that made it has to say, for example ranges of activations.
    """

    shape: NetShape
    folded: bool
    net: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: State
    step: int
    spent_s: float
    facts: State = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Replaces the folder's checkpoint.

        Raises:
            ConfigError: the folder cannot be written to, or the disk is full.
        """
        state = {name: getattr(self, name) for name in self.__slots__}
        partial = folder / f"{FILE}.partial"
        try:
            torch.save({**state, "shape": asdict(self.shape)}, partial)
            partial.replace(folder / FILE)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            partial.unlink(missing_ok=True)
            raise ConfigError(
                f"{folder / FILE} cannot be written: {error}",
                remedy="Make room or choose another folder; the last whole checkpoint is kept",
            ) from error

    def averaged_net(self) -> GridDetector:
        """The net with averaged weights, in evaluation mode, on the CPU."""
        net = GridDetector(self.shape)
        if self.folded:
            net.fold()
        net.load_state_dict({name: value.cpu() for name, value in self.average.items()})
        return net.eval()


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint, if there is one.

    Raises:
        ConfigError: it is not a checkpoint of this workshop.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        # Tensors, numbers and strings only: a checkpoint cannot carry code.
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        # Runs of before there was fine-tuning lack these.
        state.setdefault("folded", False)
        state.setdefault("facts", {})
        shape = NetShape(**state["shape"])
        return Checkpoint(
            shape=shape,
            folded=state["folded"],
            net=state["net"],
            average=state["average"],
            optimizer=state["optimizer"],
            step=state["step"],
            spent_s=state["spent_s"],
            facts=state["facts"],
        )
    except (*_UNREADABLE, OSError) as error:
        raise ConfigError(
            f"{path} is not a checkpoint of the workshop: {error}",
            remedy="Remove it and train anew, or give the folder of a training run",
        ) from error


def trained_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint that a training run has left.

    Raises:
        ConfigError: there is none.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(
            f"{folder / FILE} does not exist", remedy="Train first: model-workshop train"
        )
    return checkpoint
