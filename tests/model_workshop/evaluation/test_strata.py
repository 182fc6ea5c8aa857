from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from model_workshop.datasets import Split, read_split
from model_workshop.evaluation.strata import contrasts, separations, strata_of
from model_workshop.evaluation.truth import read_truth
from tests.support.datasets import write_split


def _split(directory: Path, boxes: list[list[float]], **more: list[float]) -> Split:
    """One picture with these boxes of the first class, and more keys for each annotation."""
    write_split(directory, images=1)
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["annotations"] = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "bbox": box,
            **{key: values[number] for key, values in more.items()},
        }
        for number, box in enumerate(boxes)
    ]
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_split(directory)


def test_every_dimension_parts_the_objects(tmp_path: Path) -> None:
    """Each object is of exactly one kind in every dimension, whatever is equal or empty."""
    split = read_split(write_split(tmp_path / "val", images=6))
    truth = read_truth(split)
    strata = strata_of(split, truth)
    for dimension in {one.dimension for one in strata}:
        members = sum(one.members.astype(int) for one in strata if one.dimension == dimension)
        assert np.all(members == truth.objects), dimension
    assert {one.dimension for one in strata} == {"class", "rarity", "size", "contrast", "crowding"}


def test_size_is_what_the_annotation_says_of_the_object(tmp_path: Path) -> None:
    """A padded box says nothing of a defect; edges are the caller's."""
    boxes = [[10.0 * i, 10.0, 9.0, 9.0] for i in range(4)]
    split = _split(tmp_path / "val", boxes, size_px=[4.0, 5.0, 6.4, 12.0])
    truth = read_truth(split)
    strata = strata_of(split, truth, {"size": (5, 6.5, 8)})
    found = {one.name: int(one.members.sum()) for one in strata if one.dimension == "size"}
    assert found == {"under 5 px": 1, "5 to 6.5 px": 2, "8 px or more": 1}


def test_size_without_a_statement_is_that_of_the_box(tmp_path: Path) -> None:
    """The square root of its area."""
    truth = read_truth(_split(tmp_path / "val", [[0, 0, 4, 9], [20, 20, 16, 16]]))
    assert truth.sizes_px.tolist() == [6, 16]
    assert truth.areas.tolist() == [36, 256]


def test_quartiles_hold_as_many_objects_each(tmp_path: Path) -> None:
    """Sixteen sizes make four kinds of four."""
    boxes = [[7.0 * i, 10.0, 4.0, 3.0 + i] for i in range(16)]
    split = _split(tmp_path / "val", boxes)
    strata = [one for one in strata_of(split, read_truth(split)) if one.dimension == "size"]
    assert [one.name for one in strata] == ["smallest", "small", "large", "largest"]
    assert [int(one.members.sum()) for one in strata] == [4, 4, 4, 4]


def test_separation_is_overlap_below_zero_and_gaps_above(tmp_path: Path) -> None:
    """Minus the IoU of who overlaps, else the gap in sides; crowds are nobody's neighbours."""
    boxes = [[0.0, 0, 10, 10], [5.0, 0, 10, 10], [35.0, 0, 20, 20], [36.0, 1, 18, 18]]
    split = _split(tmp_path / "val", boxes, iscrowd=[0, 0, 0, 1])
    found = separations(read_truth(split))
    assert found[0] == pytest.approx(-50 / 150)
    assert found[2] == pytest.approx(20 / 20)
    assert np.isinf(found[3])


def test_contrast_is_the_difference_to_the_surroundings(tmp_path: Path) -> None:
    """A square 40 grey levels brighter has contrast 40; stripes count though the mean is equal."""
    split = _split(tmp_path / "val", [[10, 10, 12, 12], [60, 60, 12, 12], [100, 20, 12, 12]])
    pixels = np.full((128, 160, 3), 100, np.uint8)
    pixels[10:22, 10:22] = 140
    pixels[60:72:2, 60:72] = 70
    pixels[61:72:2, 60:72] = 130
    cv2.imwrite(str(split.pictures[0].path), pixels)
    assert contrasts(split, read_truth(split)).tolist() == pytest.approx([40, 30, 0])


def test_rare_classes_are_those_with_fewest_objects(tmp_path: Path) -> None:
    """Thirds of the classes, by number of objects."""
    directory = write_split(tmp_path / "val", images=4)
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    kept = {1: 4, 2: 1, 3: 2}
    rows = []
    for annotation in document["annotations"]:
        kept[annotation["category_id"]] -= 1
        rows += [annotation] if kept[annotation["category_id"]] >= 0 else []
    document["annotations"] = rows
    path.write_text(json.dumps(document), encoding="utf-8")
    split = read_split(directory)
    truth = read_truth(split)
    found = {
        one.name: set(truth.class_ids[one.members].tolist())
        for one in strata_of(split, truth)
        if one.dimension == "rarity"
    }
    assert found == {"rare": {1}, "common": {2}, "frequent": {0}}
