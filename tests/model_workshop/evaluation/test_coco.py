from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.frames import Detections
from model_workshop.datasets import read_split
from model_workshop.evaluation.coco import evaluate, score_detections
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
