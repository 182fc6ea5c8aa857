from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.frames import Detections
from model_workshop.datasets import Split, read_split
from model_workshop.evaluation.precision import average_precisions, draw_weights, estimate
from model_workshop.evaluation.rankings import AP_ROWS, AREAS, IOUS, MISS, Ranking, rank
from model_workshop.evaluation.truth import Truth, read_truth
from tests.support.datasets import write_split

coco = pytest.importorskip("pycocotools.coco", reason="it is in the extra 'workshop'")
cocoeval = pytest.importorskip("pycocotools.cocoeval", reason="it is in the extra 'workshop'")


def _varied_split(directory: Path) -> Split:
    """Squares of many sizes, one a crowd, one numbered 0, which pycocotools takes for no match."""
    write_split(directory, images=8, width=320, height=240, side=20)
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for number, annotation in enumerate(document["annotations"]):
        side = (8, 20, 40, 110)[number % 4]
        annotation["id"] = number
        annotation["bbox"][2:] = [side, side]
        annotation["area"] = 0.8 * side * side
        annotation["iscrowd"] = int(number == 5)
    path.write_text(json.dumps(document), encoding="utf-8")
    return read_split(directory)


def _shaken(split: Split, seed: int = 3) -> list[Detections]:
    """The truth moved about, some of it missing, with false alarms and equal scores."""
    random = np.random.default_rng(seed)
    found = []
    for picture in split.pictures:
        kept = random.random(len(picture.boxes)) < 0.8
        moved = picture.boxes[kept] + random.normal(0, 3, (int(kept.sum()), 4))
        corners = random.uniform(0, 200, (6, 2))
        wrong = np.concatenate([corners, corners + random.uniform(5, 90, (6, 2))], axis=1)
        boxes = np.concatenate([moved, wrong]).astype(np.float32)
        found.append(
            Detections(
                boxes,
                random.integers(1, 12, len(boxes)).astype(np.float32) / np.float32(12),
                np.concatenate([picture.class_ids[kept], random.integers(0, 3, 6, np.int32)]),
            )
        )
    return found


def test_figures_agree_with_pycocotools(tmp_path: Path) -> None:
    """All objects and each of COCO's areas, at every IoU, to a millionth."""
    split = _varied_split(tmp_path / "val")
    truth, found = read_truth(split), _shaken(split)
    rankings = rank(split, truth, found)
    reference = coco.COCO(str(split.annotation_path))
    for annotation in reference.dataset["annotations"]:
        annotation["id"] += 1
    reference.createIndex()
    rows = [
        {
            "image_id": picture.image_id,
            "category_id": int(class_id) + 1,
            "bbox": [*box[:2].tolist(), *(box[2:].astype(float) - box[:2]).tolist()],
            "score": float(score),
        }
        for picture, one in zip(split.pictures, found, strict=True)
        for box, score, class_id in zip(one.boxes, one.scores, one.class_ids, strict=True)
    ]
    evaluation = cocoeval.COCOeval(reference, reference.loadRes(rows), "bbox")
    evaluation.params.iouThrs = IOUS
    evaluation.evaluate()
    evaluation.accumulate()
    weights = np.ones((1, len(split.pictures)))
    for number, (name, (low, high)) in enumerate(AREAS.items()):
        inside = truth.objects & (truth.areas >= low) & (truth.areas <= high)
        for class_id, ranking in enumerate(rankings.by_area[name]):
            own = inside & (truth.class_ids == class_id)
            (result,) = average_precisions(ranking, truth, own, [own], weights)
            expected = evaluation.eval["precision"][:, :, class_id, number, -1].mean(axis=1)
            if result is None:
                assert np.all(expected == -1)
            else:
                assert result[0] == pytest.approx(expected, abs=1e-6)
    assert (rankings.mean_precision(AP_ROWS["ap33"]) or 0) > 0.1


def _table(
    hits: list[tuple[int, bool]], images: int, missed: int
) -> tuple[Ranking, Truth, np.ndarray]:
    """A ranking of (image, right) at every IoU alike, with some objects nobody found."""
    places = np.array([image for image, _ in hits], np.intp)
    right = np.array([one for _, one in hits], np.bool_)
    matched = np.where(right, np.cumsum(right) - 1, MISS)
    lost = np.arange(missed) % images
    truth = _truth(np.concatenate([places[right], lost]))
    ranking = Ranking(places, np.arange(len(hits)), np.tile(matched, (len(IOUS), 1)))
    return ranking, truth, np.ones(len(truth), np.bool_)


def _truth(images: np.ndarray) -> Truth:
    count = len(images)
    return Truth(
        images.astype(np.intp),
        np.zeros(count, np.intp),
        np.ones((count, 4)),
        np.ones(count),
        np.zeros(count, np.bool_),
        np.ones(count),
    )


_HITS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=25)


@settings(max_examples=40)
@given(_HITS, st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(1, 4))
def test_weighing_an_image_is_showing_it_as_often(
    hits: list[tuple[int, bool]], counts: list[int], missed: int
) -> None:
    """A resample's figure is what the repeated images would give."""
    ranking, truth, everything = _table(hits, 4, missed)
    weights = np.array([[1.0] * 4, counts])
    if weights[1, truth.images].sum() == 0:
        return
    (weighted,) = average_precisions(ranking, truth, everything, [everything], weights)
    repeated = [(image, right) for image, right in hits for _ in range(counts[image])]
    lost = sum(counts[index % 4] for index in range(missed))
    again, truth_again, all_again = _table(repeated, 4, 0)
    truth_again = _truth(np.concatenate([truth_again.images, np.zeros(lost, np.intp)]))
    all_again = np.ones(len(truth_again), np.bool_)
    (expected,) = average_precisions(again, truth_again, all_again, [all_again], np.ones((2, 4)))
    assert weighted is not None
    assert expected is not None
    assert weighted[1] == pytest.approx(expected[1], abs=1e-9)


@settings(max_examples=40)
@given(_HITS, st.integers(0, 4))
def test_figures_are_shares_and_all_objects_need_no_weight(
    hits: list[tuple[int, bool]], missed: int
) -> None:
    """Between 0 and 1; choosing everything is choosing nothing in particular."""
    ranking, truth, everything = _table(hits, 4, missed)
    if not len(truth):
        return
    weights = draw_weights(4, 5, 1)
    half = everything & (np.arange(len(truth)) % 2 == 0)
    whole, part = average_precisions(ranking, truth, everything, [everything, half], weights)
    assert whole is not None
    assert part is not None
    assert np.all((whole >= 0) & (whole <= 1))
    assert np.all((part >= 0) & (part <= 1))


def test_rare_kind_meets_as_many_false_alarms_an_object() -> None:
    """Two kinds that are found alike have the figure of all, though one is a tenth of the other."""
    right = [(index % 4, True) for index in range(200)]
    wrong = [(index % 4, False) for index in range(200)]
    mixed = [one for pair in zip(right, wrong, strict=True) for one in pair]
    ranking, truth, everything = _table(mixed, 4, 0)
    rare = np.zeros(len(truth), np.bool_)
    rare[5::10] = True
    whole, part = average_precisions(
        ranking, truth, everything, [everything, rare], np.ones((1, 4))
    )
    assert whole is not None
    assert part is not None
    assert part[0] == pytest.approx(whole[0], abs=0.02)


def test_objects_outside_are_ignored() -> None:
    """A detection of another kind of object is neither a hit nor a false alarm."""
    ranking, truth, everything = _table([(0, True), (1, True), (2, True)], 4, 0)
    last = everything & (np.arange(3) == 2)
    (part,) = average_precisions(ranking, truth, everything, [last], np.ones((1, 4)))
    assert part is not None
    assert part[0] == pytest.approx(1.0)


def test_weights_keep_every_image_and_the_mean() -> None:
    """No image is ever lost, and the first row is the figure itself."""
    weights = draw_weights(7, 50, 1)
    assert np.all(weights[0] == 1)
    assert np.all(weights > 0)
    assert weights.mean(axis=1) == pytest.approx(np.ones(51))
    assert np.array_equal(weights, draw_weights(7, 50, 1))


def test_estimate_without_resamples_has_no_interval() -> None:
    """One value is a figure; nothing is no figure, not 0."""
    assert estimate(np.array([0.5])).low is None
    assert estimate(None).value is None
    found = estimate(np.array([0.5, 0.4, 0.6, 0.5]))
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
