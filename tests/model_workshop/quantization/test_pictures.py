from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.detector import Detector
from foundation.errors import ConfigError
from model_workshop.datasets import read_picture
from model_workshop.quantization.pictures import (
    IMAGES_MAX,
    IMAGES_MIN,
    ModelInputs,
    picture_files,
    read_calibration_pictures,
)
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures with squares."""
    directory = tmp_path_factory.mktemp("squares") / "val"
    return write_split(directory, images=20, width=64, height=64, side=16) / "images"


def _write_noise(directory: Path, count: int, *, high: int = 60) -> Path:
    """Pictures of noise below `high`; of one color where that is 1."""
    random = np.random.default_rng(0)
    directory.mkdir()
    for number in range(count):
        # Sizes that differ make files that differ.
        pixels = random.integers(0, high, (64, 64 + number, 3), np.uint8)
        cv2.imwrite(str(directory / f"{number}.png"), pixels)
    return directory


def test_a_quarter_is_held_out(images: Path) -> None:
    """Ranges come from some pictures, comparisons from others, probes from those that show."""
    pictures = read_calibration_pictures(make_bundle(), images)
    assert len(pictures.paths) == 20
    assert len(pictures.held_out) == 5
    assert not set(pictures.held_out) & set(pictures.calibrating)
    assert set(pictures.probes(6)) <= set(pictures.calibrating)
    assert all(pictures.seen)


def test_of_many_images_those_that_are_used_count(tmp_path: Path) -> None:
    """What a quantization does not look at is neither read nor compared with a split of floors."""
    for number in range(3 * IMAGES_MAX):
        (tmp_path / f"{number:03d}.png").touch()
    files = picture_files(tmp_path)
    assert len(files) == len(set(files)) == IMAGES_MAX
    assert (files[0].name, files[-1].name) == ("000.png", "383.png")


def test_inputs_are_those_of_inference(images: Path) -> None:
    """Calibration sees the very tensor that detection runs on."""
    detector = Detector.open(make_bundle())
    paths = sorted(images.glob("*.png"))[:2]
    inputs = ModelInputs(detector, paths)
    for tensor, path in zip(inputs, paths, strict=True):
        assert np.array_equal(tensor, detector.load([read_picture(path)]).input)
    assert len(list(inputs)) == len(list(inputs)) == 2


@pytest.mark.parametrize(("count", "said"), [(0, "no images"), (1, "1 image"), (15, "15 images")])
def test_too_few_images_are_refused(images: Path, tmp_path: Path, count: int, said: str) -> None:
    """One image has the ranges of one image; the minimum is in the message."""
    for path in sorted(images.glob("*.png"))[:count]:
        shutil.copy(path, tmp_path)
    with pytest.raises(ConfigError, match=rf"holds {said}, .*at least {IMAGES_MIN}"):
        read_calibration_pictures(make_bundle(), tmp_path)


def test_copies_of_one_image_are_one_image(images: Path, tmp_path: Path) -> None:
    """Forty copies tell no more than the first."""
    for number in range(40):
        shutil.copy(images / "001.png", tmp_path / f"{number}.png")
    with pytest.raises(ConfigError, match=r"holds 1 image, .*copies do not count"):
        read_calibration_pictures(make_bundle(), tmp_path)


def test_noise_is_refused(tmp_path: Path) -> None:
    """Where the float model finds nothing, no range that is met in service can be seen."""
    directory = _write_noise(tmp_path / "noise", 20)
    with pytest.raises(ConfigError, match=r"finds something in 0 of 20 images .*noise"):
        read_calibration_pictures(make_bundle(), directory)


def test_blank_images_are_refused_and_counted(tmp_path: Path) -> None:
    """Frames of one color are named as such."""
    directory = _write_noise(tmp_path / "blank", 20, high=1)
    with pytest.raises(ConfigError, match="and 20 are of one color"):
        read_calibration_pictures(make_bundle(), directory)


def test_images_without_objects_among_others_are_kept(images: Path, tmp_path: Path) -> None:
    """Background belongs to the domain, as long as there is something beside it."""
    directory = _write_noise(tmp_path / "mixed", 20)
    for path in sorted(images.glob("*.png"))[:4]:
        shutil.copy(path, directory / f"squares-{path.name}")
    pictures = read_calibration_pictures(make_bundle(), directory)
    assert sum(pictures.seen) == 4
    assert {pictures.paths[i].name[:8] for i in pictures.probes(6)} <= {"squares-"}


def test_unreadable_image_is_named(images: Path, tmp_path: Path) -> None:
    """A file that is no picture is not passed over in silence."""
    for path in images.glob("*.png"):
        shutil.copy(path, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=re.escape("broken.jpg cannot be read as an image")):
        read_calibration_pictures(make_bundle(), tmp_path)
