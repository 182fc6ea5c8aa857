"""Bad datasets and bad places to write to, as a person meets them: one line, exit 78, no scraps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import EXIT_CONFIG, ConfigError
from model_workshop.__main__ import main
from model_workshop.outputs import check_apart, check_output
from tests.support.bundles import write_bundle
from tests.support.datasets import write_split

Document = dict[str, Any]


def listing(folder: Path) -> list[str]:
    """Everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def edit(directory: Path, change: Callable[[Document], object]) -> None:
    """Changes a split's annotation file."""
    path = directory / "instances.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def truncate(directory: Path) -> None:
    """Cuts the annotation file in half."""
    path = directory / "instances.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda d: (d / "images" / "002.png").unlink(), "002.png does not exist"),
        (lambda d: (d / "images" / "002.png").write_bytes(b"no picture"), "002.png cannot be read"),
        (lambda d: shutil.rmtree(d / "images"), "001.png does not exist"),
        (lambda d: (d / "instances.json").unlink(), "instances.json does not exist"),
        (truncate, "instances.json is not JSON, or not all of it"),
        (
            lambda d: edit(d, lambda c: c["annotations"][3].update(bbox=[999, 0, 5, 5])),
            "annotation 4 in ",
        ),
        (
            lambda d: edit(d, lambda c: c["annotations"][3].update(bbox=[5, 5, 9, 0])),
            "has the box [5, 5, 9, 0]",
        ),
        (
            lambda d: edit(d, lambda c: c["annotations"][3].update(category_id=99)),
            "has the unknown category 99",
        ),
        (
            lambda d: edit(d, lambda c: c["categories"][0].update(name="pink")),
            "Bundle squares knows 3 classes",
        ),
        (lambda d: edit(d, lambda c: c["images"][1].update(id=1)), "two images have the id 1"),
        (lambda d: edit(d, lambda c: c.update(images=[], annotations=[])), "lists no images"),
        (lambda d: edit(d, lambda c: c.update(annotations=[])), "shows no object"),
    ],
)
def test_a_bad_dataset_costs_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], object],
    message: str,
) -> None:
    """The message names the thing and the remedy; nothing is written."""
    bundle = write_bundle(tmp_path / "bundle")
    split = write_split(tmp_path / "val", width=64, height=64)
    harm(split)
    before = listing(tmp_path)
    out = str(tmp_path / "out")
    assert main(["calibrate", str(bundle), str(split), "--out", out]) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("model-workshop: ")
    assert error.count("\n") == 1
    assert listing(tmp_path) == before


# --- where to write -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["calibrate", "{absent}", "{absent}"],
        ["bundle", "{absent}", "{absent}"],
        ["quantize", "{absent}", "--images", "{absent}"],
        ["import", "{absent}", "--labels", "{absent}", "--family", "yolox"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_that_cannot_be_is_found_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Before even the input is looked at, which is not there."""
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "deep" / "bundle"
    arguments = [part.format(absent=tmp_path / "absent") for part in command]
    assert main([*arguments, "--out", str(out)]) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert f"{out} cannot be written: " in error
    assert "(--out)" in error


def test_checking_an_output_leaves_nothing(tmp_path: Path) -> None:
    """Not even the folders that it will need."""
    check_output(tmp_path / "deep" / "down" / "bundle")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="exists"):
        check_output(tmp_path)
    with pytest.raises(ConfigError, match="too long"):
        check_output(tmp_path / ("name" * 62))


def test_two_files_are_not_written_into_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second would be all that is left."""
    check_apart(tmp_path / "a", None, tmp_path / "b", None)
    one, same = str(tmp_path / "report"), str(tmp_path / "." / "deep" / ".." / "report")
    assert main(["evaluate", "b", "split", "--json", one, "--html", same]) == EXIT_CONFIG
    assert main(["bench", "b", "--json", one, "--tuning", same]) == EXIT_CONFIG
    assert capsys.readouterr().err.count("is given for two files") == 2


@pytest.fixture
def small_disk(repository: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the workshop with a little disk of its own to write to; see `run`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o "$0" tmpfs "$1"'
    try:
        probe = subprocess.run(
            [*namespace, mount, "size=16k", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed: no disk of its own for this test")
    if probe.returncode != 0:
        pytest.skip("this user may not mount a disk in a namespace of his own")

    def run(options: str, used: int, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs the workshop with so many bytes of the disk used; prints what is left there."""
        script = (
            f'{mount}; head -c "$2" /dev/zero > "$1/used"; folder="$1"; shift 2; '
            '"$@"; status=$?; ls -A "$folder"; exit $status'
        )
        return subprocess.run(
            [
                *(*namespace, script, options, str(folder), str(used)),
                *(sys.executable, "-m", "model_workshop", *command, "--out", f"{folder}/bundle"),
            ],
            cwd=repository,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("options", "used", "message"),
    [
        ("size=16k", 0, "Cannot write the bundle"),
        ("size=16k", 16_384, "cannot be written"),
        ("size=16k,ro", 0, "Read-only file system"),
    ],
    ids=["fills up", "full", "read-only"],
)
def test_a_disk_that_takes_no_bundle_gets_no_half_of_one(
    small_disk: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    options: str,
    used: int,
    message: str,
) -> None:
    """A disk of four pages, on which a bundle of six files ends half-way or does not begin."""
    source = write_bundle(tmp_path / "source")
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"], manifest["format"]
    info = tmp_path / "info.yaml"
    info.write_text(json.dumps(manifest), encoding="utf-8")
    done = small_disk(
        *(options, used, "bundle", str(source / "model.onnx"), str(info)),
        *("--smoke", str(source / "smoke" / "input.png")),
    )
    assert done.returncode == EXIT_CONFIG
    assert message in done.stderr
    assert "Read-only" in done.stderr or "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith((".", "bundle"))] == []
