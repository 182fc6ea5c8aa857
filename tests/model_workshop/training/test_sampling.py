from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.geometry import Letterbox, LetterboxSpec
from model_workshop.datasets import read_split
from model_workshop.training.sampling import (
    CropSampler,
    FrameSampler,
    Sample,
    Sampler,
    cut,
    mirror,
    relight,
    turn,
)
from tests.support.datasets import write_split


def _assert_boxes_sit_on_squares(sample: Sample) -> None:
    """The channel of an object's class is bright inside its box, and dark around it."""
    for box, class_id in zip(sample.boxes, sample.class_ids, strict=True):
        x1, y1, x2, y2 = box.round().astype(int)
        assert sample.pixels[y1:y2, x1:x2, class_id].mean() > 140


@pytest.fixture(params=["frame", "crop"])
def sampler(request: pytest.FixtureRequest, tmp_path: Path) -> Sampler:
    """Both samplers over the same pictures."""
    split = read_split(write_split(tmp_path / "train"))
    if request.param == "frame":
        letterbox = Letterbox(LetterboxSpec(), 80, 80)
        return FrameSampler(split.pictures, letterbox, (80, 80), (64, 48))
    return CropSampler(split.pictures, 64, np.random.default_rng(0))


def test_samples_keep_boxes_on_their_objects(sampler: Sampler) -> None:
    """Cutting, mirroring, turning and re-lighting move pixels and boxes together."""
    random = np.random.default_rng(1)
    seen = 0
    for _ in range(60):
        sample = sampler.draw(random)
        _assert_boxes_sit_on_squares(sample)
        seen += len(sample.boxes)
    assert seen > 40


def test_same_seed_draws_the_same_samples(sampler: Sampler) -> None:
    """Everything random comes from the generator that is handed in."""
    first = [sampler.draw(np.random.default_rng(5)) for _ in range(3)]
    second = [sampler.draw(np.random.default_rng(5)) for _ in range(3)]
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert np.array_equal(a.boxes, b.boxes)


def _one_square() -> Sample:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[4:8, 2:12, 1] = 200
    return Sample(pixels, np.array([[2, 4, 12, 8]], np.float32), np.array([1], np.int32))


def test_turning_and_mirroring_are_exact() -> None:
    """Whatever is drawn, the box bounds exactly the bright pixels."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        sample = mirror(turn(_one_square(), random), random)
        rows, columns = np.nonzero(sample.pixels[:, :, 1])
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert sample.boxes[0].tolist() == found


def test_objects_are_kept_by_their_centre_and_clipped() -> None:
    """A cut through an object keeps it where its centre is, and nowhere else."""
    inside = cut(_one_square(), 5, 0, 10, 20)
    assert inside.boxes.tolist() == [[0, 4, 7, 8]]
    assert len(cut(_one_square(), 8, 0, 10, 20).boxes) == 0


def test_relighting_changes_brightness_only() -> None:
    """Boxes stay, and the shape of the picture does."""
    sample = relight(_one_square(), np.random.default_rng(2))
    assert sample.pixels.shape == (20, 20, 3)
    assert sample.boxes.tolist() == [[2, 4, 12, 8]]
    assert not np.array_equal(sample.pixels, _one_square().pixels)
