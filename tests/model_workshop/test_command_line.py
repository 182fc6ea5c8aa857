from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import EXIT_CONFIG, EXIT_OK
from model_workshop.__main__ import main
from tests.support.bundles import grid_model, write_bundle
from tests.support.datasets import write_split


def test_inspect_prints_what_a_bundle_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Digest, input, labels and thresholds are there for a person to read."""
    path = write_bundle(tmp_path / "bundle.zip")
    assert main(["inspect", str(path)]) == EXIT_OK
    printed = capsys.readouterr().out
    for fact in ("squares 1 (Apache-2.0)", "3: blue, green, red", "uint8 NHWC BGR", "report 0.5"):
        assert fact in printed


def test_evaluate_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two bundles side by side: tables in the terminal, all figures in JSON, a page in HTML."""
    pytest.importorskip("pycocotools", reason="pycocotools is in the extra 'workshop'")
    bundles = [str(write_bundle(tmp_path / name, name=name)) for name in ("first", "second")]
    split = str(write_split(tmp_path / "val", width=64, height=64, side=16))
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    files = ["--json", str(figures), "--html", str(page)]
    assert main(["evaluate", *bundles, split, *files, "--cut", "size=10,20"]) == EXIT_OK
    printed = capsys.readouterr().out
    for words in ("AP50-95", "first", "second", "against the first", "10 to 20 px", "class blue"):
        assert words in printed
    assert "hardcase-evaluation/1" in figures.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("cut", ["size", "size=big", "weight=3", "size=8,5", "size="])
def test_cut_that_makes_no_sense_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    """The dimensions there are and an example are in the message."""
    assert main(["evaluate", "bundle", str(tmp_path), "--cut", cut]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert f"--cut {cut} is not understood" in message
    assert "--cut size=5,6.5,8" in message


def test_quantize_writes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result opens, and the reader is told that nothing calibrates its scores."""
    bundle = write_bundle(tmp_path / "bundle")
    images = write_split(tmp_path / "val", images=16, width=64, height=64) / "images"
    out = tmp_path / "int8"
    assert main(["quantize", str(bundle), "--images", str(images), "--out", str(out)]) == EXIT_OK
    assert "scores are not calibrated; give --fit SPLIT" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == EXIT_OK


def test_errors_go_to_standard_error_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the file and what to do, and the exit code says that an operator acts."""
    model = tmp_path / "model.onnx"
    model.write_bytes(grid_model()[:200])
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n", encoding="utf-8")
    arguments = ["import", str(model), "--family", "yolox", "--labels", str(labels)]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == EXIT_CONFIG
    message = capsys.readouterr().err
    assert message.startswith("model-workshop: ")
    assert "model.onnx" in message
    assert "Download or export it again" in message


def test_existing_output_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody trains for an hour to learn that the path is taken."""
    bundle = write_bundle(tmp_path / "bundle")
    arguments = ["quantize", str(bundle), "--images", str(tmp_path), "--out", str(bundle)]
    assert main(arguments) == EXIT_CONFIG
    assert "exists" in capsys.readouterr().err


def test_a_bundle_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path is in the message."""
    assert main(["inspect", str(tmp_path / "absent")]) == EXIT_CONFIG
    assert "absent" in capsys.readouterr().err
