"""COCO-format detection datasets on disk, checked while they are read.

A split is one directory with `images/` and `instances.json`; a dataset is a directory of splits.
Class index = position of the category in order of its id. Annotations keep their extra fields, so a
dataset that knows which physical object a box shows can carry that. What a split holds is named by
a digest over the bytes of its annotations and images, which `sha256sum` computes as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigError
from foundation.frames import Boxes, ClassIds, Pixels
from foundation.images import load_picture
from foundation.manifest import BundleInfo
from model_workshop.coco_files import LAYOUT, check_annotation, read_document

_NAMED_MAX = 3


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
    pixels = load_picture(path)
    if pixels is None:
        raise ConfigError(f"{path} cannot be read as an image", remedy="Restore or replace it")
    return pixels


def read_split(directory: Path, *, images_max: int | None = None) -> Split:
    """Reads and checks one split. Boxes that reach over the edge of their image are cut there.

    Args:
        directory: holds `images/` and `instances.json`.
        images_max: keep only this many images, evenly spread over the split.

    Raises:
        ConfigError: something is missing, malformed or contradictory; the message names it.
    """
    path = directory / "instances.json"
    document = read_document(path)
    categories = sorted(document["categories"], key=lambda category: category["id"])
    index_of = {category["id"]: index for index, category in enumerate(categories)}
    images = {image["id"]: image for image in document["images"]}
    found: dict[int, list[tuple[list[float], int]]] = {image_id: [] for image_id in images}
    for annotation in document["annotations"]:
        check_annotation(annotation, path, images, index_of)
        if not annotation.get("iscrowd", 0):
            found[annotation["image_id"]].append(
                (annotation["bbox"], index_of[annotation["category_id"]])
            )
    if not any(found.values()):
        raise ConfigError(f"{path} shows no object in any image", remedy="Annotate the images")
    chosen = sorted(images)
    if images_max is not None and images_max < len(chosen):
        kept = np.linspace(0, len(chosen) - 1, images_max).round().astype(int)
        chosen = [chosen[index] for index in kept]
    return Split(
        directory,
        tuple(category["name"] for category in categories),
        tuple(index_of),
        tuple(_picture(images[image_id], directory, found[image_id]) for image_id in chosen),
    )


def content_digest(paths: Iterable[Path], root: Path) -> str:
    """Names the contents of files: SHA-256, in hexadecimal, over what `sha256sum` prints of them.

    Args:
        paths: files below `root`; their order does not matter.
        root: names in the listing are relative to it, so that a moved folder keeps its digest.

    Raises:
        ConfigError: a file cannot be read.
    """
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    listing = "".join(f"{_file_digest(root / name)}  {name}\n" for name in names)
    return hashlib.sha256(listing.encode()).hexdigest()


def split_digest(split: Split) -> str:
    """Names a split's contents: `sha256sum images/* instances.json | sha256sum` in its folder.

    Raises:
        ConfigError: a file cannot be read.
    """
    paths = [split.annotation_path, *(picture.path for picture in split.pictures)]
    return content_digest(paths, split.directory)


def check_disjoint(*splits: Split, images: Sequence[Path] = ()) -> None:
    """Compares the images of splits by their bytes, whatever their names.

    Args:
        splits: none of which may share images with another.
        images: files that may be in none of them either.

    Raises:
        ConfigError: two splits share images, so that what is fitted on one is not judged by the
            other.
    """
    owners: dict[str, tuple[int, Path]] = {}
    shared = []
    groups = [images, *([picture.path for picture in split.pictures] for split in splits)]
    for number, group in enumerate(groups):
        for path in group:
            owner, first = owners.setdefault(_file_digest(path), (number, path))
            if owner != number:
                shared.append(f"{first} and {path}")
    if shared:
        raise ConfigError(
            f"Splits share images ({len(shared)}): {'; '.join(shared[:_NAMED_MAX])}"
            f"{'; ...' if len(shared) > _NAMED_MAX else ''}",
            remedy="Keep each image in one split only, or figures will flatter the model",
        )


def check_unseen(info: BundleInfo, split: Split, *, to_judge: bool = False) -> None:
    """Compares a split with those that a bundle's model card says it was made from.

    Of a split that was thinned by `images_max` the whole is compared.

    Args:
        info: of the bundle.
        split: what it is to run on.
        to_judge: whether it is judged there, so that its scores must not come from there either.

    Raises:
        ConfigError: it is one of them, so that its figures there would flatter the model.
    """
    if not info.model_card.dataset_digests:
        return
    # Read anew: a few images of a split are no other split.
    digest = split_digest(read_split(split.directory))
    made_from = parts_from(info, digest)
    if "train" in made_from:
        raise ConfigError(
            f"{info.name} was trained on {split.directory} (digest {digest[:12]}), where it is "
            "better than anywhere else",
            remedy="Give a held-out split",
        )
    if to_judge and "scores" in made_from:
        raise ConfigError(
            f"{info.name} has its calibration and thresholds from {split.directory} (digest "
            f"{digest[:12]}), where they fit better than anywhere else",
            remedy="Give a held-out split",
        )


def parts_from(info: BundleInfo, digest: str) -> tuple[str, ...]:
    """What of a bundle was made from a split, by its model card: `train`, `scores`, or nothing.

    Splits that it was trained on are named `train`, and `train-2` and so on if there are several.
    """
    digests = info.model_card.dataset_digests
    parts = {name.partition("-")[0] for name, known in digests.items() if known == digest}
    return tuple(part for part in ("train", "scores") if part in parts)


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy="Restore it") from error


def _picture(
    image: dict[str, Any], directory: Path, found: list[tuple[list[float], int]]
) -> Picture:
    name = Path(image["file_name"])
    path = directory / "images" / name
    width, height = image["width"], image["height"]
    if name.is_absolute() or ".." in name.parts or min(width, height) <= 0:
        raise ConfigError(
            f"{directory / 'instances.json'} lists {name} of {width}x{height}, which is no image "
            "within the split",
            remedy=LAYOUT,
        )
    if not _is_file(path):
        raise ConfigError(
            f"{path} does not exist, but {directory / 'instances.json'} lists it",
            remedy="Restore the image, or remove its entry",
        )
    xywh = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    limits: npt.NDArray[np.float32] = np.array([width, height, width, height], np.float32)
    class_ids = np.array([class_id for _, class_id in found], np.int32)
    return Picture(image["id"], path, width, height, np.clip(xyxy, 0, limits), class_ids)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False
