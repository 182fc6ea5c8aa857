"""Bundles whose writer is stopped, or whose machine loses power: whole or not at all."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.manifest import Calibration
from tests.support.bundles import make_bundle


@pytest.mark.parametrize("name", ["bundle", "bundle.zip"])
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGINT"])
def test_a_writer_that_is_stopped_at_any_step_leaves_a_whole_bundle_or_none(
    repository: Path, tmp_path: Path, name: str, signal_name: str
) -> None:
    """What is left beside it is hidden, no bundle, and in nobody's way."""
    command = [sys.executable, "-m", "tests.support.stopped_writer", str(tmp_path), name]
    done = subprocess.run(
        [*command, signal_name], cwd=repository, capture_output=True, text=True, check=True
    )
    steps = int(done.stdout)
    bundle = make_bundle()
    written, scraps = [], []
    for step in range(steps):
        folder = tmp_path / f"{step:03d}"
        written.append((folder / name).exists())
        if written[-1]:
            assert Bundle.open(folder / name).digest == bundle.digest
        for scrap in folder.iterdir():
            if scrap != folder / name:
                assert scrap.name.startswith(f".{name}.")
                with pytest.raises(IntegrityError, match="missing"):
                    Bundle.open(scrap)
                scraps.append((step, list(scrap.iterdir())))
    # There from the rename on, and not before.
    renamed = written.index(True)
    assert written == [False] * renamed + [True] * (steps - renamed)
    assert renamed > 5
    if signal_name == "SIGINT":
        # It cleans up, but for the empty folder that it was about to be told of.
        assert [paths for step, paths in scraps if step < renamed] in ([], [[]])
    bundle.write(tmp_path / f"{renamed - 1:03d}" / name)


@pytest.mark.parametrize(("name", "files", "folders"), [("bundle", 6, 2), ("bundle.zip", 1, 0)])
def test_everything_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, name: str, files: int, folders: int
) -> None:
    """Every file and folder is synced before the rename, and the rename itself after it."""
    bundle, calls = make_bundle(), []

    def watch(_frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__module__", None) == "posix":
            calls.append(function.__name__)

    sys.setprofile(watch)
    try:
        bundle.write(tmp_path / name)
    finally:
        sys.setprofile(None)
    told = [call for call in calls if call in {"fsync", "replace", "rename"}]
    assert told == [*["fsync"] * (files + folders), "replace", "fsync"]


def test_what_could_never_be_opened_is_not_written(tmp_path: Path) -> None:
    """A calibration of a class that the model does not know."""
    contradictory = dataclasses.replace(
        make_bundle(), calibration=Calibration(knots={"rust": ((0.0, 0.0), (1.0, 1.0))})
    )
    with pytest.raises(IntegrityError, match="rust"):
        contradictory.write(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    """Something is there, though it leads nowhere."""
    (tmp_path / "bundle.zip").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists"):
        make_bundle().write(tmp_path / "bundle.zip")
