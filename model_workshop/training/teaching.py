"""What a larger teacher sees in the training frames, on its own grid, asked once and kept.

A teacher is a bundle of the grid family with the student's labels. It looks at whole frames through
its own letterbox, usually at a higher resolution, and its heat-map says more than the truth does:
how sure one can be of an object, and what else looks a little like one. Answers are kept as logits
in steps of 1/12 between -10.6 and 10.6, one byte each, in a file that is read a window at a time.

The student's cells are larger: a cell is taught the highest logit that the teacher gives for any of
its own cells within.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.geometry import Letterbox, LetterboxSpec, Placement
from foundation.manifest import GridOutputs
from model_workshop.datasets import Picture, Split, split_digest
from model_workshop.training.nets import STRIDE

_LEVELS_PER_LOGIT = 12.0
_ZERO_LEVEL = 128
_COLD_LEVEL = 0

Logits = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Axis:
    """How positions of one axis of the teacher's grid map to the student's input."""

    scale: float
    offset: float

    def cells(self, count: int, start: int) -> npt.NDArray[np.intp]:
        """Student cell, counted from input pixel `start`, of each of `count` teacher cells."""
        centres = (np.arange(count) + 0.5) * self.scale + self.offset
        return np.floor((centres - start) / STRIDE).astype(np.intp)


class Opinions:
    """A teacher's answers about pictures, for windows of the student's input."""

    def __init__(
        self,
        levels: Sequence[Levels],
        teacher: Bundle,
        pictures: Sequence[Picture],
        student: Letterbox,
    ) -> None:
        """Remembers how both letterboxes lie over each picture.

        Args:
            levels: as `ask` gives them; together one row a picture.
            teacher: who answered.
            pictures: what was asked about.
            student: letterbox of the student's input.
        """
        self._levels = [row for part in levels for row in part]
        own = _letterbox(teacher)
        stride = _grid(teacher).stride
        self._axes: list[tuple[_Axis, _Axis]] = []
        for picture in pictures:
            asked = own.placement(picture.width, picture.height)
            shown = student.placement(picture.width, picture.height)
            self._axes.append(_axes(asked, shown, stride))

    def window(self, index: int, x: int, y: int, width: int, height: int) -> Logits:
        """What the teacher says of a window of the student's input.

        Returns:
            (classes, height / 4, width / 4) float32 logits.
        """
        across, down = self._axes[index]
        levels = self._levels[index]
        classes, rows, columns = levels.shape
        column = across.cells(columns, x)
        row = down.cells(rows, y)
        wide, high = width // STRIDE, height // STRIDE
        chosen_x = np.flatnonzero((column >= 0) & (column < wide))
        chosen_y = np.flatnonzero((row >= 0) & (row < high))
        out = np.full((classes, high, wide), _COLD_LEVEL, np.uint8)
        if len(chosen_x) and len(chosen_y):
            part = levels[:, chosen_y[0] : chosen_y[-1] + 1, chosen_x[0] : chosen_x[-1] + 1]
            firsts_y, at_y = np.unique(row[chosen_y], return_index=True)
            firsts_x, at_x = np.unique(column[chosen_x], return_index=True)
            pooled = np.maximum.reduceat(np.maximum.reduceat(part, at_y, axis=1), at_x, axis=2)
            out[:, firsts_y[:, None], firsts_x[None, :]] = pooled
        return (out.astype(np.float32) - _ZERO_LEVEL) / np.float32(_LEVELS_PER_LOGIT)


def ask(teacher: Bundle, pictures: Sequence[Picture], path: Path) -> Levels:
    """The teacher's answers about pictures: those in the file, or new ones, which go there.

    Args:
        teacher: of the grid family.
        pictures: what it is asked about, in this order.
        path: `.npy` file; a file that is there was written whole.

    Returns:
        (N, classes, rows, columns) uint8, mapped from the file.

    Raises:
        ConfigError: the teacher is not of the grid family, or the file holds something else.
    """
    spec = _grid(teacher)
    contract = teacher.info.input
    rows, columns = contract.height // spec.stride, contract.width // spec.stride
    shape = (len(pictures), len(teacher.labels), rows, columns)
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        levels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        detector = Detector.open(teacher)
        for picture, out in zip(pictures, levels, strict=True):
            buffers = detector.load([picture.read()])
            buffers.run()
            scaled = buffers.outputs[spec.heatmap][0] * _LEVELS_PER_LOGIT + _ZERO_LEVEL
            out[:] = np.clip(scaled.round(), 0, 255)
        levels.flush()
        partial.replace(path)
    kept: Levels = np.load(path, mmap_mode="r")
    if kept.shape != shape:
        raise ConfigError(
            f"{path} holds answers of the shape {kept.shape}, not {shape}",
            remedy="Remove it, so that the teacher is asked anew",
        )
    return kept


def ask_all(teacher: Bundle, splits: Sequence[Split], folder: Path, student: Letterbox) -> Opinions:
    """A teacher's answers about several splits, kept in files of a folder.

    Args:
        teacher: of the grid family.
        splits: what it is asked about.
        folder: holds one file for each split, named by the digests of teacher and split.
        student: letterbox of the student's input.

    Raises:
        ConfigError: see `ask`; the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error}", remedy="Choose another") from error
    levels = [
        ask(
            teacher,
            split.pictures,
            folder / f"{teacher.digest[:12]}-{split_digest(split)[:12]}.npy",
        )
        for split in splits
    ]
    pictures = [picture for split in splits for picture in split.pictures]
    return Opinions(levels, teacher, pictures, student)


def _grid(teacher: Bundle) -> GridOutputs:
    spec = teacher.info.outputs
    if not isinstance(spec, GridOutputs):
        raise ConfigError(
            f"Bundle {teacher.info.name} has no heat-map to learn from",
            remedy="Teach with a bundle that model-workshop train has made",
        )
    return spec


def _letterbox(bundle: Bundle) -> Letterbox:
    contract = bundle.info.input
    spec: LetterboxSpec = bundle.info.letterbox
    return Letterbox(spec, contract.width, contract.height)


def _axes(asked: Placement, shown: Placement, stride: int) -> tuple[_Axis, _Axis]:
    """Teacher cell to student pixel, across and down, through the picture's own pixels."""
    ratio_x = shown.width / asked.width
    ratio_y = shown.height / asked.height
    return (
        _Axis(stride * ratio_x, shown.offset_x - asked.offset_x * ratio_x),
        _Axis(stride * ratio_y, shown.offset_y - asked.offset_y * ratio_y),
    )
