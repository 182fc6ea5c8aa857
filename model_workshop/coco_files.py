"""Reads COCO annotation files and names what is wrong in them.

Nothing is merged, guessed or skipped in silence: a dataset that contradicts itself gives figures
that nobody can trust.
"""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from foundation.errors import ConfigError

LAYOUT = "A split is a directory with images/ and instances.json (COCO detection format)"
_FIELDS: dict[str, dict[str, type]] = {
    "categories": {"id": int, "name": str},
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
}
"""What is read from each kind of entry."""
_COORDINATE_MAX = 1e6
"""No picture is that wide; beyond it sums and areas cease to be numbers."""
_KINDS = {int: "a whole number", str: "text", list: "a list"}


def read_document(path: Path) -> dict[str, Any]:
    """A COCO file whose every entry has the fields that are read from it, and an id of its own.

    Raises:
        ConfigError: it is absent, cut off, no COCO file, or lists something twice.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist", remedy=LAYOUT) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}", remedy=LAYOUT) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not JSON, or not all of it ({error})", remedy="Export the dataset anew"
        ) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is not a COCO file", remedy=LAYOUT)
    for key, fields in _FIELDS.items():
        entries = document.get(key)
        if not isinstance(entries, list):
            raise ConfigError(f"{path} has no list '{key}'", remedy=LAYOUT)
        for position, entry in enumerate(entries):
            _check_fields(entry, f"{path}: {key}[{position}]", fields)
    for key, name in (("images", "file_name"), ("categories", "name")):
        if not document[key]:
            raise ConfigError(f"{path} lists no {key}", remedy=LAYOUT)
        for field in ("id", name):
            _check_unique([entry[field] for entry in document[key]], f"{path}: two {key}", field)
    # Of two spellings of one path neither stands twice.
    files = [str(Path(image["file_name"])) for image in document["images"]]
    _check_unique(files, f"{path}: two images", "file_name")
    return document


def _check_fields(entry: Any, place: str, fields: dict[str, type]) -> None:
    for field, kind in fields.items():
        value = entry.get(field) if isinstance(entry, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(
                f"{place} has no {field!r} that is {_KINDS[kind]}", remedy="Export the dataset anew"
            )


def _check_unique(values: list[Any], place: str, field: str) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ConfigError(
                f"{place} have the {field} {value!r}", remedy="List each once, with its own id"
            )
        seen.add(value)


def check_annotation(
    annotation: dict[str, Any],
    path: Path,
    images: dict[int, dict[str, Any]],
    categories: Container[int],
) -> None:
    """Checks one annotation against what the file lists.

    Args:
        annotation: has the fields of `read_document`.
        path: of the file, for messages.
        images: entries by id.
        categories: anything by id.

    Raises:
        ConfigError: it belongs to nothing that is listed, or its box is none within its image.
    """
    name = f"annotation {annotation.get('id', '?')} in {path}"
    image = images.get(annotation["image_id"])
    if image is None:
        raise ConfigError(
            f"{name} belongs to image {annotation['image_id']}, which is not listed",
            remedy="List the image, or remove the annotation",
        )
    if annotation["category_id"] not in categories:
        raise ConfigError(
            f"{name} has the unknown category {annotation['category_id']}",
            remedy="List the category, or remove the annotation",
        )
    _check_extras(annotation, name)
    box = annotation["bbox"]
    numbers = all(isinstance(v, int | float) and abs(v) <= _COORDINATE_MAX for v in box)
    if len(box) != 4 or not numbers or min(box[2:]) <= 0:
        raise ConfigError(
            f"{name} has the box {box}", remedy="A box is [x, y, width, height] with positive sides"
        )
    x, y, width, height = box
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        raise ConfigError(
            f"{name} has a box outside {image['file_name']}: {box} of "
            f"{image['width']}x{image['height']}",
            remedy="Remove the annotation, or correct it",
        )


def _check_extras(annotation: dict[str, Any], name: str) -> None:
    """What need not be there, and must not be misread where it is: "0" is not false."""
    crowd = annotation.get("iscrowd", 0)
    if not isinstance(crowd, int) or crowd not in {0, 1}:
        raise ConfigError(
            f"{name} has iscrowd {crowd!r}", remedy="Write 0 or 1, or leave the field out"
        )
    for field in ("area", "size_px"):
        value = annotation.get(field, 0)
        if not isinstance(value, int | float) or not 0 <= value <= _COORDINATE_MAX**2:
            raise ConfigError(
                f"{name} has the {field} {value!r}",
                remedy="Write a number of 0 or more, or leave the field out",
            )
