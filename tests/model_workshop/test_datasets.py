from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import ConfigError
from model_workshop.datasets import read_split
from tests.support.datasets import LABELS, edit_annotations, write_split


def test_split_is_read_with_labels_in_category_order(tmp_path: Path) -> None:
    """Boxes come out as corners and categories as class indices."""
    split = read_split(write_split(tmp_path / "train"))
    assert split.labels == LABELS
    assert len(split.pictures) == 4
    picture = split.pictures[0]
    assert picture.class_ids.tolist() == [0, 1, 2]
    x1, y1, x2, y2 = picture.boxes[0].astype(int)
    assert (x2 - x1, y2 - y1) == (12, 12)
    assert np.all(picture.read()[y1:y2, x1:x2, 0] == 255)


def test_fewer_images_are_spread_over_the_split(tmp_path: Path) -> None:
    """A limit keeps the first, the last and what lies evenly between."""
    split = read_split(write_split(tmp_path / "train", images=5), images_max=3)
    assert [picture.image_id for picture in split.pictures] == [1, 3, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 99}, "belongs to image 99"),
        ({"category_id": 7}, "unknown category 7"),
        ({"bbox": [5, 5, 0, 4]}, "has the box [5, 5, 0, 4]"),
        ({"bbox": [900, 5, 4, 4]}, "a box outside 001.png"),
    ],
)
def test_wrong_annotation_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Annotations that contradict the rest are refused, saying which and why."""
    directory = write_split(tmp_path / "train")
    edit_annotations(directory, **changes)
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_split(directory)


def test_missing_image_is_named(tmp_path: Path) -> None:
    """An image that is listed but absent is refused before training starts."""
    directory = write_split(tmp_path / "train")
    (directory / "images" / "002.png").unlink()
    with pytest.raises(ConfigError, match=re.escape("002.png does not exist")):
        read_split(directory)


def test_missing_and_broken_annotation_files_are_named(tmp_path: Path) -> None:
    """No file, no JSON and no COCO give three different messages with the layout as remedy."""
    with pytest.raises(ConfigError, match=re.escape("instances.json does not exist")):
        read_split(tmp_path)
    (tmp_path / "instances.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not JSON"):
        read_split(tmp_path)
    (tmp_path / "instances.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="no list 'images'"):
        read_split(tmp_path)


def test_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """Boxes belong to the stated size, so other pixels must not pass silently."""
    directory = write_split(tmp_path / "a")
    other = write_split(tmp_path / "b", width=320)
    source = other / "images" / "001.png"
    (directory / "images" / "001.png").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="is 320x128"):
        read_split(directory).pictures[0].read()
