from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.frames import Detections
from model_workshop.datasets import Split, read_split
from model_workshop.evaluation.precision import draw_weights
from model_workshop.evaluation.rankings import AP_ROWS, rank
from model_workshop.evaluation.samples import OVERALL, sample_precisions
from model_workshop.evaluation.truth import Truth, read_truth
from replay.utility import Judge
from tests.support.datasets import write_split

pytest.importorskip("pycocotools", reason="it is in the extra 'workshop'")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Squares of many sizes, some of them crowds, two classes only."""
    directory = write_split(
        tmp_path_factory.mktemp("data") / "val", images=9, width=320, height=240, side=20
    )
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for number, annotation in enumerate(document["annotations"]):
        side = (8, 20, 40, 110)[number % 4]
        annotation["bbox"][2:] = [side, side]
        annotation["area"] = side * side
        annotation["iscrowd"] = int(number % 7 == 5)
        if number > 12:
            annotation["category_id"] = min(2, annotation["category_id"])
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_split(directory)


def shaken(split: Split, seed: int, *, wrong: int = 8) -> list[Detections]:
    """The truth moved about and doubled, with false alarms and equal scores."""
    random = np.random.default_rng(seed)
    found = []
    for picture in split.pictures:
        near = np.concatenate([picture.boxes] * 2)
        near = near[random.random(len(near)) < 0.7]
        near = near + random.normal(0, 3, near.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        corners = random.uniform(0, 200, (wrong, 2))
        far = np.concatenate([corners, corners + random.uniform(5, 90, (wrong, 2))], axis=1)
        boxes = np.concatenate([near, far]).astype(np.float32)
        scores = random.integers(1, 12, len(boxes)).astype(np.float32) / np.float32(12)
        found.append(Detections(boxes, scores, random.integers(0, 3, len(boxes), np.int32)))
    return found


def judge_of(split: Split, groups: list[int] | None = None) -> Judge:
    """A judge of a split; every frame its own group unless told."""
    count = len(split.pictures)
    report = np.full(len(split.labels), 0.5, np.float32)
    return Judge(read_truth(split), groups or list(range(count)), len(split.labels), report)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), wrong=st.integers(0, 30))
def test_map_is_that_of_pycocotools(split: Split, seed: int, wrong: int) -> None:
    """Crowds, ties and false alarms included."""
    found = shaken(split, seed, wrong=wrong)
    judge = judge_of(split)
    figures = judge.figures([judge.match(i, one) for i, one in enumerate(found)])
    rankings = rank(split, read_truth(split), found)
    assert figures.map50_95 == pytest.approx(rankings.mean_precision(AP_ROWS["ap50_95"]), abs=1e-6)
    assert figures.map50 == pytest.approx(rankings.mean_precision(AP_ROWS["ap50"]), abs=1e-6)


@settings(max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_resamples_are_those_of_the_workshop(split: Split, seed: int) -> None:
    """Bootstrap weights mean here what they mean in an evaluation."""
    found, truth = shaken(split, seed), read_truth(split)
    judge = judge_of(split)
    weights = draw_weights(len(split.pictures), 30, seed)
    own = judge.samples([judge.match(i, one) for i, one in enumerate(found)], weights)
    theirs = sample_precisions(rank(split, truth, found), truth, (), weights)[OVERALL]
    np.testing.assert_allclose(own, theirs[:, AP_ROWS["ap50_95"]].mean(axis=1), atol=1e-6)


def test_a_group_is_weighed_as_one(split: Split) -> None:
    """Frames of one camera are drawn together."""
    found = shaken(split, 1)
    grouped, single = judge_of(split, [0, 0, 0, 1, 1, 1, 2, 2, 2]), judge_of(split)
    matched = [single.match(i, one) for i, one in enumerate(found)]
    weights = draw_weights(3, 10, 0)
    np.testing.assert_allclose(
        grouped.samples(matched, weights), single.samples(matched, weights.repeat(3, axis=1))
    )


def test_nothing_found_is_worth_nothing_and_the_truth_everything(split: Split) -> None:
    """Both ends of the scale."""
    judge = judge_of(split)
    empty = [judge.match(i, Detections.empty()) for i in range(len(split.pictures))]
    assert judge.figures(empty).map50_95 == judge.figures(empty).f1 == 0
    assert judge.samples(empty, draw_weights(9, 3, 0)).tolist() == [0] * 4
    assert judge.samples(empty, np.zeros((2, 9))).tolist() == [0, 0]
    truth = read_truth(split)
    perfect = []
    for i in range(len(split.pictures)):
        own = (truth.images == i) & truth.objects
        boxes = truth.boxes[own].astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        ones = np.ones(len(boxes), np.float32)
        ids = truth.class_ids[own].astype(np.int32)
        perfect.append(judge.match(i, Detections(boxes, ones, ids)))
    figures = judge.figures(perfect)
    assert (figures.map50_95, figures.map50, figures.f1) == pytest.approx((1, 1, 1), abs=1e-9)


def test_the_figure_among_the_samples_is_that_of_the_table() -> None:
    """No recall is reached by the rounding that resamples are granted."""
    count = 10
    boxes = np.tile([0.0, 0.0, 10.0, 10.0], (count, 1))
    truth = Truth(
        np.arange(count),
        np.zeros(count, np.intp),
        boxes,
        np.full(count, 100.0),
        np.zeros(count, np.bool_),
        np.full(count, 10.0),
    )
    judge = Judge(truth, range(count), 1, np.array([0.5], np.float32))
    one = Detections(
        np.array([[0, 0, 10, 10]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32)
    )
    weights = draw_weights(count, 5, 0)
    for found in range(1, count + 1):
        matched = [judge.match(i, one if i < found else Detections.empty()) for i in range(count)]
        figure = judge.figures(matched).map50_95
        assert judge.samples(matched, weights)[0] == pytest.approx(figure, abs=1e-9)
