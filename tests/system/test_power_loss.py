from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.power_loss import cut_everywhere
from benchmarks.rig.disk import Call, Disk, record

STRACE = shutil.which("strace")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """What the spool did to its files, promise by promise."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    base = tmp_path_factory.mktemp("power")
    folder, promises = base / "spool", base / "promises"
    folder.mkdir()
    if subprocess.run([STRACE, "-o", os.devnull, "true"], check=False).returncode:
        pytest.skip("strace may not trace processes here")
    command = [sys.executable, "-m", "benchmarks.power_loss", "--child"]
    return record([*command, str(folder), str(promises)], folder, promises, base / "trace")


@pytest.mark.slow
def test_spool_keeps_its_promises_wherever_power_is_cut(calls: list[Call], tmp_path: Path) -> None:
    """Each seventh call, and every way of losing what was pending; `make bench` cuts everywhere."""
    cuts, violations = cut_everywhere(calls, tmp_path / "after", 1, seed=3, every=7)
    assert sum(cuts.values()) > 150
    assert sum(call.name == "promise" for call in calls) == 22
    assert violations == []


def test_promise_without_synchronization_would_be_found(calls: list[Call], tmp_path: Path) -> None:
    """The same calls on a disk that ignores all synchronization: the test can fail."""
    careless = [call for call in calls if not call.name.startswith("sync")]
    _, violations = cut_everywhere(careless, tmp_path / "after", 0, seed=3, every=len(careless))
    assert violations


def test_disk_loses_what_was_not_synchronized() -> None:
    """The model itself: written, synchronized, removed."""
    disk = Disk()
    for call in (Call("write", "a", 0, b"one"), Call("sync", "a"), Call("write", "a", 3, b"two")):
        disk.apply(call)
    assert disk.after_crash() == {"a": b"onetwo"}
    assert disk.after_power_loss(None) == {"a": b"one"}
    disk.apply(Call("unlink", "a"))
    assert disk.after_power_loss(None) == {"a": b"one"}
    disk.apply(Call("sync folder", ""))
    assert disk.after_power_loss(None) == {}
