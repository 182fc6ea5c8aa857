"""Little COCO-format datasets on disk: painted squares whose classes are their colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LABELS = ("blue", "green", "red")


def write_dataset(
    directory: Path, *, images: int = 4, width: int = 160, height: int = 128, side: int = 12
) -> Path:
    """Writes train, val and test splits of noisy pictures with three squares each."""
    for number, split in enumerate(("train", "val", "test")):
        write_split(
            directory / split, images=images, width=width, height=height, side=side, seed=number
        )
    return directory


def write_split(
    directory: Path,
    *,
    images: int = 4,
    width: int = 160,
    height: int = 128,
    side: int = 12,
    seed: int = 0,
) -> Path:
    """Writes one split and returns its directory."""
    random = np.random.default_rng(seed)
    (directory / "images").mkdir(parents=True)
    document: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i + 1, "name": label} for i, label in enumerate(LABELS)],
    }
    for image_id in range(1, images + 1):
        pixels = random.integers(0, 60, (height, width, 3), np.uint8)
        for class_id in range(3):
            x = int(random.integers(class_id * width // 3, (class_id + 1) * width // 3 - side))
            y = int(random.integers(0, height - side))
            pixels[y : y + side, x : x + side, class_id] = 255
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                }
            )
        name = f"{image_id:03d}.png"
        cv2.imwrite(str(directory / "images" / name), pixels)
        document["images"].append(
            {"id": image_id, "file_name": name, "width": width, "height": height}
        )
    (directory / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    return directory


def edit_annotations(directory: Path, **changes: Any) -> None:
    """Overwrites keys of a split's first annotation."""
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["annotations"][0].update(changes)
    path.write_text(json.dumps(document), encoding="utf-8")
