"""Datasets of the line in COCO format, split by board.

``DIR/{train,val,test}/images/BBBBB_FF.jpg`` (JPEG quality 95) and ``DIR/{split}/instances.json``.
``category_id`` is the class index + 1; boxes are COCO's x, y, width, height in source pixels after
the convention of ``reference_line.truth``.  Every frame shows exactly one board, so a board never
appears in two splits.  Annotations add ``defect_id``, ``size_px`` and ``visibility``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from reference_line.board import BOARD_PITCH_PX, render_board
from reference_line.line import expose_board
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH, Camera
from reference_line.truth import BOX_PADDING_PX, BOX_SIDE_MIN_PX, LABELS, FrameTruth

GENERATOR_VERSION: Final = "1"
SPLITS: Final = ("train", "val", "test")
_JPEG_QUALITY: Final = 95
_OVERHANG_PX: Final = 160


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What to export: boards of each split and frames of each board, all at least 0 and 1."""

    seed: int
    boards: tuple[int, int, int]
    frames_per_board: int

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
        name = f"{job.board:05d}_{k:02d}.jpg"
        path = job.folder / name
        if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]):
            raise OSError(f"cannot write {path}")
        written.append((name, truth))
    return written


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
            for job, written in zip(jobs, pool.map(_export_board, jobs), strict=True):
                frames += [(job.board, name, truth) for name, truth in written]
                yield split
            document = _coco_document(plan, split, frames)
            (out / split / "instances.json").write_text(json.dumps(document, indent=1) + "\n")


def _coco_document(
    plan: ExportPlan, split: str, frames: list[tuple[int, str, FrameTruth]]
) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (board, name, truth) in enumerate(frames, start=1):
        images.append(
            {
                "id": image_id,
                "file_name": name,
                "width": FRAME_WIDTH,
                "height": FRAME_HEIGHT,
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
            "description": "Hardcase reference line",
            "generator_version": GENERATOR_VERSION,
            "seed": plan.seed,
            "split": split,
            "frames_per_board": plan.frames_per_board,
            "box_convention": f"tight box of changed pixels + {BOX_PADDING_PX} px a side, "
            f"at least {BOX_SIDE_MIN_PX} px a side",
        },
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": label} for k, label in enumerate(LABELS)],
    }
