from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.calibration.fitting import score_split
from model_workshop.datasets import read_split
from model_workshop.evaluation.coco import evaluate, matches_of, score_detections
from model_workshop.evaluation.measure import Options, measure_bundles
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split

pytest.importorskip("pycocotools", reason="pycocotools is in the extra 'workshop'")


def test_perfect_detections_score_one(tmp_path: Path) -> None:
    """The truth itself has mAP 1 and F1 1, whatever the category numbers are."""
    split = read_split(write_split(tmp_path / "val"))
    found = []
    for picture in split.pictures:
        scores = np.full(len(picture.boxes), 0.9, np.float32)
        found.append(Detections(picture.boxes, scores, picture.class_ids))
    figures = score_detections(split, found)
    assert figures.map50_95 == pytest.approx(1.0)
    assert figures.best.f1 == 1.0
    assert figures.class_map50 == pytest.approx({"blue": 1.0, "green": 1.0, "red": 1.0})


def test_no_detections_score_nothing(tmp_path: Path) -> None:
    """A model that sees nothing is no error, and has figures of zero."""
    split = read_split(write_split(tmp_path / "val"))
    figures = score_detections(split, [Detections.empty()] * len(split.pictures))
    assert (figures.map50_95, figures.map50, figures.best.f1) == (0.0, 0.0, 0.0)


def test_bundle_is_evaluated_through_the_services_detector(tmp_path: Path) -> None:
    """A real little model finds the squares of its three colours."""
    split = read_split(write_split(tmp_path / "val", width=64, height=64, side=16))
    figures = evaluate(make_bundle(), split)
    assert figures.images == 4
    assert figures.best.recall > 0.5


def test_other_labels_are_refused(tmp_path: Path) -> None:
    """Classes in another order would give a figure that means nothing."""
    directory = write_split(tmp_path / "val")
    path = directory / "instances.json"
    path.write_text(path.read_text(encoding="utf-8").replace("blue", "cyan"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cyan.*remedy|cyan"):
        evaluate(make_bundle(), read_split(directory))


def _with_crowds(directory: Path) -> Path:
    """The red squares are crowds, drawn larger than what is in them."""
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for annotation in document["annotations"]:
        if annotation["category_id"] == 3:
            x, y, width, height = annotation["bbox"]
            annotation.update(bbox=[x - 8, y - 8, width + 16, height + 16], iscrowd=1)
    path.write_text(json.dumps(document), encoding="utf-8")
    return directory


def test_detections_of_a_crowd_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    """Otherwise scores in crowds are fitted to be wrong, against the figures of an evaluation."""
    split = read_split(_with_crowds(write_split(tmp_path / "val", width=64, height=64, side=20)))
    bundle = make_bundle()
    scored = score_split(bundle, split)
    assert len(scored.matches.scores) == len(scored.images)
    figures = measure_bundles([bundle], split, options=Options(resamples=5)).bundles[0]
    sure = scored.matches.scores >= bundle.thresholds.default.report
    assert scored.matches.hits[sure].mean() == pytest.approx(figures.overall.precision.value)


def test_a_crowd_hides_neither_false_alarms_nor_objects(tmp_path: Path) -> None:
    """Another class is a false alarm there, and an object in a crowd is found like any other."""
    split = read_split(_with_crowds(write_split(tmp_path / "val", images=1, side=12)))
    picture = split.pictures[0]
    document = json.loads(split.annotation_path.read_text(encoding="utf-8"))
    x, y, width, height = document["annotations"][2]["bbox"]
    inside = [x + 4, y + 4, x + width - 4, y + height - 4]
    boxes = np.array([inside, inside, *picture.boxes], np.float32)
    class_ids = np.array([2, 0, *picture.class_ids], np.int32)
    found = Detections(boxes, np.full(4, 0.9, np.float32), class_ids)
    matches = matches_of(split, [found])
    assert matches.class_ids.tolist() == [0, 0, 1]
    assert matches.hits.tolist() == [False, True, True]


def test_ids_too_large_for_floats_are_told_apart(tmp_path: Path) -> None:
    """The matcher passes them through floats, in which neighbours become one."""
    directory = write_split(tmp_path / "val")
    path, large = directory / "instances.json", 2**60
    document = json.loads(path.read_text(encoding="utf-8"))
    for entry in (*document["images"], *document["categories"]):
        entry["id"] += large
    for annotation in document["annotations"]:
        annotation["image_id"] += large
        annotation["category_id"] += large
    path.write_text(json.dumps(document), encoding="utf-8")
    split = read_split(directory)
    found = [
        Detections(p.boxes, np.full(len(p.boxes), 0.9, np.float32), p.class_ids)
        for p in split.pictures
    ]
    assert score_detections(split, found).map50_95 == pytest.approx(1.0)
