"""Datasets of the line in COCO format, split by board.

``DIR/{train,val,test}/images/BBBBB_FF.jpg`` (JPEG quality 95) and ``DIR/{split}/instances.json``.
``category_id`` is the class index + 1; boxes are COCO's x, y, width, height in source pixels after
the convention of ``reference_line.truth``.  Every frame shows exactly one board, so a board never
appears in two splits.  Annotations add ``defect_id``, ``size_px`` and ``visibility``.

The *colour* look is what the line's camera sees.  The *binary* look is a black-and-white picture of
640x640 px (``reference_line.binary``); its frames are specimens of one board, each with defects of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reference_line.binary.picture import BOX_CONVENTION, JPEG_QUALITY, render_picture
from reference_line.binary.scenes import SIDE_PX
from reference_line.board import BOARD_PITCH_PX, render_board
from reference_line.line import expose_board
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH, Camera
from reference_line.truth import BOX_PADDING_PX, BOX_SIDE_MIN_PX, LABELS, FrameTruth

GENERATOR_VERSION: Final = "1"
SPLITS: Final = ("train", "val", "test")
_JPEG_QUALITY: Final = 95
_OVERHANG_PX: Final = 160
_DEFECTS_PER_PICTURE: Final = 100


class Look(StrEnum):
    """What the pictures look like."""

    COLOUR = "colour"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export: boards of each split and frames of each board, all at least 0 and 1."""

    seed: int
    boards: tuple[int, int, int]
    frames_per_board: int
    look: Look = Look.COLOUR

    def numbers(self, split: int) -> range:
        """Return the board numbers of a split; splits follow one another on the line."""
        first = sum(self.boards[:split])
        return range(first, first + self.boards[split])


@dataclass(frozen=True, slots=True)
class _Job:
    seed: int
    board: int
    frames: int
    folder: Path


def frame_offsets(seed: int, board: int, frames: int) -> list[float]:
    """Choose where on a board its frames look, px, so that together they see all of it.

    The offsets are spread from the left overhang to the right one, each moved at random within its
    own share.
    """
    rng = np.random.default_rng((seed, 3, board))
    first, last = -float(_OVERHANG_PX), float(BOARD_PITCH_PX - FRAME_WIDTH + _OVERHANG_PX)
    share = (last - first) / frames
    return [first + share * (k + float(rng.random())) for k in range(frames)]


def _export_board(job: _Job) -> list[tuple[str, FrameTruth]]:
    """Render and write one board's frames (runs in a worker process)."""
    cv2.setNumThreads(1)
    board = render_board(job.seed, job.board)
    camera = Camera((job.seed, 4, job.board))
    written = []
    for k, offset in enumerate(frame_offsets(job.seed, job.board, job.frames)):
        pixels, truth = expose_board(board, job.board, offset, camera, k)
        written.append((_write(job, k, pixels, _JPEG_QUALITY), truth))
    return written


def _export_specimens(job: _Job) -> list[tuple[str, FrameTruth]]:
    """Render and write one board's pictures in the binary look (runs in a worker process)."""
    cv2.setNumThreads(1)
    written = []
    for k in range(job.frames):
        picture = render_picture(job.seed, job.board, k)
        count = len(picture.class_ids)
        truth = FrameTruth(
            picture.boxes,
            picture.class_ids,
            np.arange(count, dtype=np.int64) + (job.board * job.frames + k) * _DEFECTS_PER_PICTURE,
            picture.sizes_px,
            np.ones(count, np.float32),
        )
        written.append((_write(job, k, picture.tested, JPEG_QUALITY), truth))
    return written


def _write(job: _Job, frame: int, pixels: NDArray[np.uint8], quality: int) -> str:
    name = f"{job.board:05d}_{frame:02d}.jpg"
    path = job.folder / name
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"cannot write {path}")
    return name


@dataclass(frozen=True, slots=True)
class _Style:
    """What differs between looks: who writes a board's pictures, and what describes them."""

    export: Callable[[_Job], list[tuple[str, FrameTruth]]]
    width: int
    height: int
    description: str
    box_convention: str


_STYLES: Final = {
    Look.COLOUR: _Style(
        _export_board,
        FRAME_WIDTH,
        FRAME_HEIGHT,
        "Hardcase reference line",
        f"tight box of changed pixels + {BOX_PADDING_PX} px a side, "
        f"at least {BOX_SIDE_MIN_PX} px a side",
    ),
    Look.BINARY: _Style(
        _export_specimens, SIDE_PX, SIDE_PX, "Hardcase reference line, binary look", BOX_CONVENTION
    ),
}


def export_dataset(out: Path, plan: ExportPlan, *, workers: int = 1) -> Iterator[str]:
    """Write the three splits, yielding the split's name after each board.

    Args:
        out: Folder to create; files of the same names are overwritten.
        plan: What to write.
        workers: Processes that render boards.

    Raises:
        OSError: A folder or file cannot be written.
    """
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number, split in enumerate(SPLITS):
            folder = out / split / "images"
            folder.mkdir(parents=True, exist_ok=True)
            jobs = [
                _Job(plan.seed, board, plan.frames_per_board, folder)
                for board in plan.numbers(number)
            ]
            frames: list[tuple[int, str, FrameTruth]] = []
            for job, written in zip(jobs, pool.map(_STYLES[plan.look].export, jobs), strict=True):
                frames += [(job.board, name, truth) for name, truth in written]
                yield split
            document = _coco_document(plan, split, frames)
            (out / split / "instances.json").write_text(json.dumps(document, indent=1) + "\n")


def _coco_document(
    plan: ExportPlan, split: str, frames: list[tuple[int, str, FrameTruth]]
) -> dict[str, Any]:
    style = _STYLES[plan.look]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (board, name, truth) in enumerate(frames, start=1):
        images.append(
            {
                "id": image_id,
                "file_name": name,
                "width": style.width,
                "height": style.height,
                "board": board,
            }
        )
        for k in range(len(truth)):
            x1, y1, x2, y2 = (round(float(v), 3) for v in truth.boxes[k])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(truth.class_ids[k]) + 1,
                    "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                    "area": round((x2 - x1) * (y2 - y1), 3),
                    "iscrowd": 0,
                    "defect_id": int(truth.defect_ids[k]),
                    "size_px": round(float(truth.sizes_px[k]), 3),
                    "visibility": round(float(truth.visibility[k]), 4),
                }
            )
    return {
        "info": {
            "description": style.description,
            "generator_version": GENERATOR_VERSION,
            "seed": plan.seed,
            "split": split,
            "frames_per_board": plan.frames_per_board,
            "box_convention": style.box_convention,
        },
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": label} for k, label in enumerate(LABELS)],
    }
