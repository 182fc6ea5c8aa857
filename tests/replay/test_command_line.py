from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from foundation.errors import EXIT_CONFIG, EXIT_OK
from foundation.gains import LevelCosts, variance_gains
from model_workshop.datasets import read_split, split_digest
from replay.__main__ import main
from tests.replay.pair import cloud_bundle, edge_bundle, other_labels, write_material
from tests.support.videos import moving_squares, write_video


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both bundles and a split."""
    folder = tmp_path_factory.mktemp("replay")
    edge_bundle().write(folder / "edge")
    cloud_bundle().write(folder / "cloud")
    write_material(folder / "val", images=4)
    return folder


def command(place: Path, *more: str, cloud: str = "cloud", material: str = "val") -> list[str]:
    """The command line of a small replay."""
    return [
        *(str(place / material), "--edge", str(place / "edge"), "--cloud", str(place / cloud)),
        *("--work", str(place / "work"), "--out", str(place / "out"), "--resamples", "20"),
        *("--levels", "webp40@0.5,webp80", "--budget-share", "0.1", "0.5", *more),
    ]


def test_a_replay_is_printed_and_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table, JSON and page; a second run says the same."""
    policy = variance_gains([LevelCosts(level="webp80")])
    (place / "policy.json").write_text(policy.model_dump_json(), encoding="utf-8")
    arguments = command(place, "--policy", str(place / "policy.json"))
    assert main(arguments) == EXIT_OK
    printed = capsys.readouterr()
    assert "planned, gains" in printed.out
    assert "oracle, any" in printed.out
    assert "policies: " in printed.err
    first = json.loads((place / "out" / "replay.json").read_text(encoding="utf-8"))
    assert first["format"] == "hardcase-replay/1"
    assert first["budgets"] == [0.1, 0.5]
    assert (place / "out" / "replay.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(arguments) == EXIT_OK
    assert json.loads((place / "out" / "replay.json").read_text(encoding="utf-8")) == first


def test_material_without_labels_is_judged_by_the_cloud_and_says_so(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The edge's crops are left out where frames alone are asked about."""
    assert main(command(place, "--frames-only", material="val/images")) == EXIT_OK
    printed = capsys.readouterr().out
    assert "Judged by the cloud itself" in printed
    assert "crops at random" not in printed


def test_a_video_is_resampled_by_blocks_of_time(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames that follow one another are not independent."""
    squares = ((16, "blue", 0.99), (56, "green", 0.99))
    frames = moving_squares(48, width=120, height=96, speed_px=1, squares=squares)
    write_video(place / "line.mp4", frames)
    more = ("--frames-only", "--step", "4", "--block-s", "0.4")
    assert main(command(place, *more, material="line.mp4")) == EXIT_OK
    assert "line.mp4: 12 frames in 4 groups" in capsys.readouterr().out


def test_observations_are_written_instead(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No study runs."""
    assert main(command(place, "--observe", str(place / "seen" / "all.npz"))) == EXIT_OK
    assert (place / "seen" / "all.npz").is_file()
    assert "proposals in" in capsys.readouterr().out


def test_what_an_operator_can_put_right_is_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 78 and a remedy, before any work."""
    other_labels().write(place / "other")
    cases = {
        "differ in number, name or order": command(place, cloud="other"),
        "There is no material at": command(place, material="absent"),
        "There is no bundle at": command(place, cloud="absent"),
        "is no level": command(place, "--levels", "gif3"),
        "cannot be read": command(place, "--policy", str(place / "absent.json")),
    }
    write_material(place / "one", images=1)
    cases["is all one group"] = command(place, material="one")
    cases["shows no object"] = command(place, material="dark")
    (place / "dark").mkdir()
    cv2.imwrite(str(place / "dark" / "a.png"), np.zeros((64, 64, 3), np.uint8))
    for said, arguments in cases.items():
        assert main(arguments) == EXIT_CONFIG
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(command(place, "--budget-share", "7"))
    assert "is no share" in capsys.readouterr().err


def test_a_file_to_observe_into_that_is_a_folder_is_named_before_the_models_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not after hours of work, which nothing would keep."""
    fresh = ("--work", str(place / "fresh"))
    assert main(command(place, "--observe", str(place / "val"), *fresh)) == EXIT_CONFIG
    assert "is a folder" in capsys.readouterr().err
    assert not (place / "fresh").exists()


def test_a_few_images_of_what_a_bundle_was_trained_on_are_refused_too(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever `--images-max` leaves of a split."""
    cloud = cloud_bundle()
    trained_on = {"train": split_digest(read_split(place / "val"))}
    card = cloud.info.model_card.model_copy(update={"dataset_digests": trained_on})
    info = cloud.info.model_copy(update={"model_card": card})
    dataclasses.replace(cloud, info=info).write(place / "knowing")
    for more in ((), ("--images-max", "2")):
        assert main(command(place, *more, cloud="knowing")) == EXIT_CONFIG
        assert "was trained on" in capsys.readouterr().err
