from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.errors import ConfigError
from model_workshop.datasets import check_disjoint, content_digest, read_split, split_digest
from tests.support.datasets import LABELS, edit_annotations, write_split

Document = dict[str, Any]


def edit(directory: Path, change: Callable[[Document], object]) -> None:
    """Changes a split's annotation file."""
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def test_split_is_read_with_labels_in_category_order(tmp_path: Path) -> None:
    """Boxes come out as corners and categories as class indices."""
    directory = write_split(tmp_path / "train")
    edit(directory, lambda document: document["categories"].reverse())
    split = read_split(directory)
    assert split.labels == LABELS
    assert split.category_ids == (1, 2, 3)
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


def test_a_box_over_the_edge_is_cut_there(tmp_path: Path) -> None:
    """Annotators draw a little too far; what is in the picture is kept."""
    directory = write_split(tmp_path / "train")
    edit_annotations(directory, bbox=[-3, -4, 10, 10])
    assert read_split(directory).pictures[0].boxes[0].tolist() == [0, 0, 7, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 99}, "belongs to image 99, which is not listed"),
        ({"category_id": 7}, "unknown category 7"),
        ({"bbox": [5, 5, 0, 4]}, "has the box [5, 5, 0, 4]"),
        ({"bbox": [5, 5, float("nan"), 4]}, "has the box [5, 5, nan, 4]"),
        ({"bbox": [5, 5, "4", 4]}, "has the box [5, 5, '4', 4]"),
        ({"bbox": [5, 5, 4]}, "has the box [5, 5, 4]"),
        ({"bbox": None}, "annotations[0] has no 'bbox' that is a list"),
        ({"bbox": [900, 5, 4, 4]}, "annotation 1 in"),
        ({"bbox": [900, 5, 4, 4]}, "has a box outside 001.png: [900, 5, 4, 4] of 160x128"),
        ({"bbox": [-9, 5, 9, 4]}, "has a box outside 001.png"),
        ({"bbox": [5, 5, 1e308, 4]}, "has the box [5, 5, 1e+308, 4]"),
        ({"bbox": [5, 10**400, 4, 4]}, "has the box [5, 1000"),
        ({"iscrowd": "0"}, "annotation 1 in"),
        ({"iscrowd": "false"}, "has iscrowd 'false'"),
        ({"iscrowd": 2}, "has iscrowd 2"),
        ({"area": "144"}, "has the area '144'"),
        ({"area": None}, "has the area None"),
        ({"area": float("nan")}, "has the area nan"),
        ({"size_px": [12]}, "has the size_px [12]"),
        ({"size_px": -1}, "has the size_px -1"),
    ],
)
def test_wrong_annotation_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Annotations that contradict the rest are refused, saying which and why."""
    directory = write_split(tmp_path / "train")
    edit_annotations(directory, **changes)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_split(directory)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(images=[], annotations=[]), "lists no images"),
        (lambda d: d.update(annotations=[]), "shows no object in any image"),
        (lambda d: d.update(categories=[], annotations=[]), "lists no categories"),
        (lambda d: d["images"][1].update(id=1), "two images have the id 1"),
        (lambda d: d["images"][1].update(file_name="001.png"), "the file_name '001.png'"),
        (lambda d: d["images"][1].update(file_name="./001.png"), "the file_name '001.png'"),
        (lambda d: d["images"][1].update(file_name="long" * 99), "does not exist, but"),
        (lambda d: d["categories"][1].update(id=1), "two categories have the id 1"),
        (lambda d: d["categories"][1].update(name="blue"), "the name 'blue'"),
        (lambda d: d["images"][1].pop("height"), "images[1] has no 'height'"),
        (lambda d: d["images"][1].update(width="160"), "images[1] has no 'width'"),
        (lambda d: d["images"][1].update(file_name="../../001.png"), "no image within the split"),
        (lambda d: d["images"][1].update(width=0), "of 0x128"),
        (lambda d: d["images"].append(3), "images[4] has no 'id' that is a whole number"),
        (lambda d: d.update(annotations={}), "no list 'annotations'"),
        (lambda d: d.pop("categories"), "no list 'categories'"),
    ],
)
def test_wrong_split_is_named(
    tmp_path: Path, change: Callable[[Document], object], message: str
) -> None:
    """Nothing is merged, guessed or skipped in silence."""
    directory = write_split(tmp_path / "train")
    edit(directory, change)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        read_split(directory)
    assert str(directory) in caught.value.message
    assert caught.value.remedy


def test_missing_image_is_named(tmp_path: Path) -> None:
    """An image that is listed but absent is refused before training starts."""
    directory = write_split(tmp_path / "train")
    (directory / "images" / "002.png").unlink()
    with pytest.raises(ConfigError, match=re.escape("002.png does not exist")):
        read_split(directory)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, None])
def test_broken_annotation_file_is_named(tmp_path: Path, data: bytes | None) -> None:
    """Empty, cut off, binary, deep, or a true file of which half is missing."""
    path = write_split(tmp_path / "train") / "instances.json"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if data is None else data)
    with pytest.raises(ConfigError, match=r"instances\.json is not JSON, or not all of it"):
        read_split(path.parent)


def test_absent_and_foreign_annotation_files_are_named(tmp_path: Path) -> None:
    """No file, no mapping and no file at all give different messages with the layout as remedy."""
    path = tmp_path / "instances.json"
    with pytest.raises(ConfigError, match="does not exist") as caught:
        read_split(tmp_path)
    assert "images/ and instances.json" in caught.value.remedy
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a COCO file"):
        read_split(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_split(tmp_path)


def test_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """Boxes belong to the stated size, so other pixels must not pass silently."""
    directory = write_split(tmp_path / "a")
    other = write_split(tmp_path / "b", width=320)
    source = other / "images" / "001.png"
    (directory / "images" / "001.png").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="is 320x128"):
        read_split(directory).pictures[0].read()


# --- digests --------------------------------------------------------------------------------------


def test_digest_is_what_sha256sum_says(tmp_path: Path) -> None:
    """Anyone can compute it without this program, and a moved folder keeps it."""
    directory = write_split(tmp_path / "train")
    said = subprocess.run(
        "sha256sum images/* instances.json | sha256sum",
        shell=True,
        cwd=directory,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[0]
    assert split_digest(read_split(directory)) == said
    assert split_digest(read_split(directory.rename(tmp_path / "moved"))) == said


def test_digest_tells_every_change(tmp_path: Path) -> None:
    """An annotation, a pixel or fewer images: another dataset."""
    directory = write_split(tmp_path / "train")
    digests = [
        split_digest(read_split(directory)),
        split_digest(read_split(directory, images_max=2)),
    ]
    edit_annotations(directory, bbox=[1, 2, 12, 12])
    digests.append(split_digest(read_split(directory)))
    other = write_split(tmp_path / "other", seed=5) / "images" / "001.png"
    shutil.copy(other, directory / "images" / "001.png")
    digests.append(split_digest(read_split(directory)))
    assert len(set(digests)) == 4


def test_digest_of_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A file that vanished meanwhile is named."""
    with pytest.raises(ConfigError, match=r"gone\.png cannot be read"):
        content_digest([tmp_path / "gone.png"], tmp_path)


def test_image_in_two_splits_is_refused_with_both_names(tmp_path: Path) -> None:
    """By its bytes: a new name makes no new image."""
    train, test = (write_split(tmp_path / name, seed=i) for i, name in enumerate(("train", "test")))
    check_disjoint(read_split(train), read_split(test))
    shutil.copy(train / "images" / "003.png", test / "images" / "001.png")
    with pytest.raises(ConfigError, match=r"share images \(1\): .*train.*003.*test.*001"):
        check_disjoint(read_split(train), read_split(test))


def test_image_twice_in_one_split_is_no_leak(tmp_path: Path) -> None:
    """Only what is judged by what it was fitted on matters."""
    train = write_split(tmp_path / "train")
    shutil.copy(train / "images" / "001.png", train / "images" / "002.png")
    check_disjoint(read_split(train), read_split(write_split(tmp_path / "test", seed=1)))
