"""COCO-format detection datasets on disk, checked while they are read.

A split is one directory with `images/` and `instances.json`; a dataset is a directory of splits.
Class index = position of the category in order of its id. Annotations keep their extra fields, so a
dataset that knows which physical object a box shows can carry that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigError
from foundation.frames import Boxes, ClassIds, Pixels

_LAYOUT = "A split is a directory with images/ and instances.json (COCO detection format)"


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a split and what it shows.

    Attributes:
        image_id: COCO id of the image.
        path: the image file.
        width: pixels per row.
        height: rows.
        boxes: (N, 4) float32 x1 y1 x2 y2 in pixels.
        class_ids: (N,) int32 class indices.
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes: Boxes
    class_ids: ClassIds

    def read(self) -> Pixels:
        """The pixels, uint8 BGR.

        Raises:
            ConfigError: the file is not an image, or not of the size that the dataset states.
        """
        pixels = read_picture(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            raise ConfigError(
                f"{self.path} is {pixels.shape[1]}x{pixels.shape[0]}, but instances.json says "
                f"{self.width}x{self.height}",
                remedy="Export the dataset anew, so that boxes and pixels belong together",
            )
        return pixels


@dataclass(frozen=True, slots=True)
class Split:
    """A checked split.

    Attributes:
        directory: where it lies.
        labels: class names, by class index.
        category_ids: COCO category ids, by class index.
        pictures: in order of the image id.
    """

    directory: Path
    labels: tuple[str, ...]
    category_ids: tuple[int, ...]
    pictures: tuple[Picture, ...]

    @property
    def annotation_path(self) -> Path:
        """The COCO file that it was read from."""
        return self.directory / "instances.json"


def read_picture(path: Path) -> Pixels:
    """An image file as (height, width, 3) uint8 BGR.

    Raises:
        ConfigError: it cannot be read as an image.
    """
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ConfigError(f"{path} cannot be read as an image", remedy="Restore or replace it")
    return np.asarray(pixels, np.uint8)


def read_split(directory: Path, *, images_max: int | None = None) -> Split:
    """Reads and checks one split.

    Args:
        directory: holds `images/` and `instances.json`.
        images_max: keep only this many images, evenly spread over the split.

    Raises:
        ConfigError: something is missing, malformed or contradictory; the message names it.
    """
    path = directory / "instances.json"
    document = _read_document(path)
    categories = sorted(document["categories"], key=lambda category: category["id"])
    if not categories:
        raise ConfigError(f"{path} lists no categories", remedy=_LAYOUT)
    index_of = {int(category["id"]): index for index, category in enumerate(categories)}
    boxes_of: dict[int, list[tuple[list[float], int]]] = {
        int(image["id"]): [] for image in document["images"]
    }
    for annotation in document["annotations"]:
        _check_annotation(annotation, path, boxes_of, index_of)
        if not annotation.get("iscrowd", 0):
            boxes_of[annotation["image_id"]].append(
                (annotation["bbox"], index_of[annotation["category_id"]])
            )
    pictures = [
        _picture(image, directory, boxes_of[image["id"]])
        for image in sorted(document["images"], key=lambda image: int(image["id"]))
    ]
    if not pictures:
        raise ConfigError(f"{path} lists no images", remedy=_LAYOUT)
    if images_max is not None and images_max < len(pictures):
        chosen = np.linspace(0, len(pictures) - 1, images_max).round().astype(int)
        pictures = [pictures[index] for index in chosen]
    labels = tuple(str(category["name"]) for category in categories)
    ids = tuple(int(category["id"]) for category in categories)
    return Split(directory, labels, ids, tuple(pictures))


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", remedy=_LAYOUT) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(
            f"{path} is not JSON ({error})", remedy="Export the dataset anew"
        ) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a COCO file", remedy=_LAYOUT)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise ConfigError(f"{path} has no list '{key}'", remedy=_LAYOUT)
    return document


def _check_annotation(
    annotation: dict[str, Any],
    path: Path,
    images: dict[int, list[tuple[list[float], int]]],
    categories: dict[int, int],
) -> None:
    name = f"annotation {annotation.get('id', '?')} in {path}"
    if annotation.get("image_id") not in images:
        raise ConfigError(
            f"{name} belongs to image {annotation.get('image_id')}, which is not listed",
            remedy="List the image, or remove the annotation",
        )
    if annotation.get("category_id") not in categories:
        raise ConfigError(
            f"{name} has the unknown category {annotation.get('category_id')}",
            remedy="List the category, or remove the annotation",
        )
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or min(box[2:]) <= 0:
        raise ConfigError(
            f"{name} has the box {box}", remedy="A box is [x, y, width, height] with positive sides"
        )


def _picture(
    image: dict[str, Any], directory: Path, found: list[tuple[list[float], int]]
) -> Picture:
    path = directory / "images" / str(image["file_name"])
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist, but {directory / 'instances.json'} lists it",
            remedy="Restore the image, or remove its entry",
        )
    xywh = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    width, height = int(image["width"]), int(image["height"])
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    limits: npt.NDArray[np.float32] = np.array([width, height, width, height], np.float32)
    inside = np.clip(xyxy, 0, limits)
    visible = np.all(inside[:, 2:] > inside[:, :2], axis=1)
    if not np.all(visible):
        raise ConfigError(
            f"{directory / 'instances.json'} has a box outside {path.name}",
            remedy="Remove the annotation, or correct it",
        )
    class_ids = np.array([class_id for _, class_id in found], np.int32)
    return Picture(int(image["id"]), path, width, height, inside, class_ids)
