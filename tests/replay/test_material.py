from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import ConfigError, IntegrityError
from model_workshop.datasets import read_picture
from replay.material import Reading, read_material
from tests.replay.pair import write_material
from tests.support.videos import moving_squares, write_video


def test_a_split_brings_its_labels_and_a_folder_brings_none(tmp_path: Path) -> None:
    """The same pictures either way, each its own group."""
    path = write_material(tmp_path / "val", images=4)
    split = read_material(path, tmp_path, Reading())
    folder = read_material(path / "images", tmp_path, Reading())
    assert split.split is not None
    assert folder.split is None
    assert split.frames == folder.frames
    assert split.digest == folder.digest
    assert len(split.groups) == 4
    assert split.frames[0].read().shape == (128, 160, 3)


def test_names_may_say_what_belongs_together(tmp_path: Path) -> None:
    """Pictures of one board are one group; a name without a board is an error."""
    for name in ("00001_00", "00001_01", "00002_00"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((32, 32, 3), np.uint8))
    reading = Reading(group=re.compile(r"^(\d+)_"))
    assert read_material(tmp_path, tmp_path, reading).groups == ("00001", "00002")
    cv2.imwrite(str(tmp_path / "other.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ConfigError, match="finds no group in the name 'other"):
        read_material(tmp_path, tmp_path, reading)


def test_some_of_the_images_are_spread_over_all(tmp_path: Path) -> None:
    """The first and the last are among them."""
    for number in range(10):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((32, 32, 3), np.uint8))
    names = [f.name for f in read_material(tmp_path, tmp_path, Reading(frames_max=4)).frames]
    assert names == ["0.png", "3.png", "6.png", "9.png"]


def test_a_video_is_thinned_and_its_time_is_cut_into_blocks(tmp_path: Path) -> None:
    """Frames are kept as they were decoded, and found again without decoding."""
    path = write_video(tmp_path / "line.mp4", moving_squares(60))
    reading = Reading(step=10, block_s=1.0)
    first = read_material(path, tmp_path / "work", reading)
    assert [frame.name for frame in first.frames] == [f"line.mp4#{n}" for n in range(0, 60, 10)]
    assert first.frames[0].moment_s == 0
    assert len(first.groups) > 1
    pixels = first.frames[3].read()
    assert pixels.shape[:2] == (first.frames[3].height, first.frames[3].width)
    assert read_material(path, tmp_path / "work", reading) == first


def test_a_video_that_ends_early_is_no_material(tmp_path: Path) -> None:
    """Figures of half a video would pass for those of all of it."""
    whole = write_video(tmp_path / "whole.avi", moving_squares(60))
    cut = tmp_path / "cut.avi"
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="cut out the part that is sound"):
        read_material(cut, tmp_path / "work", Reading(step=1))


def test_what_is_no_material_is_named(tmp_path: Path) -> None:
    """Nothing there, and nothing in it."""
    with pytest.raises(ConfigError, match="There is no material at"):
        read_material(tmp_path / "absent", tmp_path, Reading())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        read_material(tmp_path / "empty", tmp_path, Reading())


def test_pictures_of_another_size_than_the_labels_state_are_refused(tmp_path: Path) -> None:
    """Boxes and pixels would not belong together, and every figure would be wrong."""
    path = write_material(tmp_path / "val", images=2)
    for file in sorted((path / "images").iterdir()):
        cv2.imwrite(str(file), read_picture(file)[::2, ::2])
    with pytest.raises(ConfigError, match=r"is 80x64, but instances\.json says 160x128"):
        read_material(path, tmp_path, Reading())


def test_pictures_of_the_same_name_in_different_folders_are_different(tmp_path: Path) -> None:
    """A name has its folders, in which an expression may look for the group as well."""
    path = write_material(tmp_path / "val", images=4)
    document = json.loads((path / "instances.json").read_text(encoding="utf-8"))
    for number, image in enumerate(document["images"]):
        name = f"board{number // 2}/{'top' if number % 2 else 'bottom'}.png"
        (path / "images" / name).parent.mkdir(exist_ok=True)
        (path / "images" / image["file_name"]).rename(path / "images" / name)
        image["file_name"] = name
    (path / "instances.json").write_text(json.dumps(document), encoding="utf-8")
    alone = read_material(path, tmp_path, Reading())
    names = ("board0/bottom.png", "board0/top.png", "board1/bottom.png", "board1/top.png")
    assert tuple(frame.name for frame in alone.frames) == alone.groups == names
    for expression, groups in ((r"^(\w+)/", ("board0", "board1")), (r"/(\w+)", ("bottom", "top"))):
        reading = Reading(group=re.compile(expression))
        assert read_material(path, tmp_path, reading).groups == groups


def test_as_many_frames_of_a_video_are_kept_as_were_asked_for(tmp_path: Path) -> None:
    """Not half of them where one less than all is asked for."""
    path = write_video(tmp_path / "line.mp4", moving_squares(20))
    found = read_material(path, tmp_path / "work", Reading(step=1, frames_max=19))
    assert len(found.frames) == 19
    assert found.frames[0].name == "line.mp4#0"
    assert found.frames[-1].name == "line.mp4#19"
