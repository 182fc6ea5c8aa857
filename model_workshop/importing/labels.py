"""Class names: from a text file, or from what the exporter wrote into the model."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import onnx

from foundation.errors import ConfigError

NOTHING = frozenset({"background", "__background__"})
"""Names of the class by which a classifier says that nothing it knows is there."""


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names, one a line, in the order of the model's classes; blank lines are nothing.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    try:
        # Some editors begin a file with a mark that would become part of the first name.
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a list of labels: {error}",
            remedy="Give a text file with one class name a line",
        ) from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise ConfigError(f"{path} is empty", remedy="Give a text file with one class name a line")
    return distinct(labels)


def labels_inside(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """Class names from the metadata `names`, a dict or list literal as Ultralytics writes it."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "names"), None)
    if text is None:
        return None
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        return None
    return distinct(tuple(names))


def distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The names with their class id behind those that came before.

    ImageNet has two cranes, and lists of 91 COCO classes have many holes of one name.
    """
    seen: Counter[str] = Counter()
    named = []
    for class_id, label in enumerate(labels):
        named.append(f"{label} ({class_id})" if seen[label] else label)
        seen[label] += 1
    return tuple(named)
