"""`model-workshop bundle` and `inspect` as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml

from foundation.bundle import Bundle
from foundation.errors import EXIT_CONFIG, EXIT_OK
from model_workshop.__main__ import main
from model_workshop.arithmetic import count_arithmetic
from tests.support.bundles import LABELS, grid_model, make_bundle, write_bundle

INTERRUPTED = 130


class Parts:
    """The files that `bundle` takes, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.onnx"
        self.info = folder / "info.yaml"
        self.smoke = folder / "smoke.png"
        self.calibration = folder / "calibration.json"
        self.thresholds = folder / "thresholds.yaml"
        self.model.write_bytes(grid_model())
        bundle = make_bundle()
        self.document: dict[str, Any] = bundle.info.model_dump(mode="json")
        for key in ("opset", "runtime_min", "model_card"):
            del self.document[key]  # the graph and the program know them
        self.write()
        cv2.imwrite(str(self.smoke), bundle.smoke.pixels)
        knots = {"red": [[0, 0], [0.5, 0.2], [1, 0.9]]}
        self.calibration.write_text(json.dumps({"knots": knots}), encoding="utf-8")
        band = {"report": 0.6, "escalate_low": 0.1, "escalate_high": 0.9}
        self.thresholds.write_text(
            yaml.safe_dump({"default": band, "classes": {"red": {**band, "report": 0.7}}}),
            encoding="utf-8",
        )

    def write(self, **changes: Any) -> None:
        """Writes the manifest's fields with some changed."""
        text = yaml.safe_dump({**self.document, **changes})
        self.info.write_text(text, encoding="utf-8")

    def command(self, out: Path, *more: str) -> list[str]:
        """The command line."""
        smoke = ["--smoke", str(self.smoke)]
        return ["bundle", str(self.model), str(self.info), "--out", str(out), *smoke, *more]

    @property
    def decisions(self) -> list[str]:
        """The optional parts."""
        return [
            *("--calibration", str(self.calibration)),
            *("--thresholds", str(self.thresholds)),
        ]


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """All parts of a sound bundle."""
    folder = tmp_path / "parts"
    folder.mkdir()
    return Parts(folder)


def test_parts_become_a_bundle(parts: Parts, tmp_path: Path) -> None:
    """What was given is in it; what the graph knows was read from it."""
    assert main(parts.command(tmp_path / "out", *parts.decisions)) == EXIT_OK
    bundle = Bundle.open(tmp_path / "out")
    assert bundle.info.opset == 17
    assert bundle.labels == LABELS
    assert bundle.thresholds.of("red").report == 0.7
    assert set(bundle.calibration.knots) == {"red"}
    assert bundle.info.model_card.script == "model-workshop bundle"
    assert len(bundle.smoke.expected) > 0


def test_the_same_parts_give_the_same_bytes_in_another_process(
    repository: Path, parts: Parts, tmp_path: Path
) -> None:
    """Another process, another hash seed, another time: not a byte differs."""
    program = """
import sys
from model_workshop.__main__ import main

*command, folder = sys.argv[1:]
sys.exit(any(main([*command, "--out", f"{folder}/{name}"]) for name in ("bundle", "bundle.zip")))
"""
    found: list[dict[str, bytes]] = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", program, *parts.command(folder), *parts.decisions, str(folder)],
            cwd=repository,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        files = (path for path in folder.rglob("*") if path.is_file())
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert found[0] == found[1]
    assert len(found[0]) == 7
    digests = {Bundle.open(tmp_path / "1" / name).digest for name in ("bundle", "bundle.zip")}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 13}, "says opset 13, but"),
        ({"lables": ["a"]}, "unknown key 'lables', did you mean 'labels'?"),
        ({"labels": ["red"]}, "tells 3 classes apart"),
        ({"labels": ["blue", "green", "rust"]}, "['red']"),
        ({"outputs": {"family": "yolov8", "name": "x"}}, "has no output 'x'"),
    ],
)
def test_wrong_parts_are_named_and_nothing_is_written(
    parts: Parts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    """Whatever contradicts the rest, the message says which."""
    parts.write(**changes)
    assert main(parts.command(tmp_path / "out", *parts.decisions)) == EXIT_CONFIG
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts"]


def test_a_smoke_picture_that_shows_nothing_is_refused(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A smoke test that expects nothing proves nothing."""
    cv2.imwrite(str(parts.smoke), np.zeros((64, 64, 3), np.uint8))
    assert main(parts.command(tmp_path / "out")) == EXIT_CONFIG
    assert "detects nothing in the smoke input" in capsys.readouterr().err


def test_ctrl_c_in_the_middle_of_writing_leaves_nothing(
    repository: Path, parts: Parts, tmp_path: Path
) -> None:
    """A real SIGINT while the second member is on its way to the disk; no traceback."""
    program = """
import os, signal, sys
from model_workshop.__main__ import main

syncs = 0
def interrupt(frame, event, function):
    global syncs
    if event == "c_call" and function.__name__ == "fsync":
        syncs += 1
        if syncs == 2:
            os.kill(os.getpid(), signal.SIGINT)

sys.setprofile(interrupt)
sys.exit(main(sys.argv[1:]))
"""
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, *parts.command(out / "bundle")],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == INTERRUPTED
    assert done.stderr == "model-workshop: interrupted\n"
    assert list(out.iterdir()) == []


# --- inspect --------------------------------------------------------------------------------------


def test_inspect_prints_thresholds_digests_and_arithmetic(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an operator asks before trusting a bundle."""
    card = {
        "parents": ["a" * 64],
        "dataset_digests": {"train": "b" * 64},
        "seed": 7,
        "figures": {"map50": 0.5},
    }
    parts.write(model_card=card)
    assert main(parts.command(tmp_path / "out", *parts.decisions)) == EXIT_OK
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "out")]) == EXIT_OK
    printed = capsys.readouterr().out
    for fact in (
        "a" * 64,
        f"  train: {'b' * 64}",
        "seed 7",
        "  map50: 0.5",
        "  red: report 0.7, escalate 0.1 to 0.9",
        "0 of 2 convolutions and matrix products are integer",
        "weights      bytes: float32 ",
        "bytes, of which",
        "isotonic for red",
    ):
        assert fact in printed


def test_inspect_speaks_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs, with the thresholds that hold for every class."""
    bundle = Bundle.open(write_bundle(tmp_path / "bundle"))
    assert main(["inspect", str(tmp_path / "bundle"), "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    assert document["digest"] == bundle.digest
    assert document["arithmetic"]["products"] == 2
    assert set(document["thresholds"]) == set(LABELS)
    assert document["bytes"]["model.onnx"] == len(bundle.model)
    assert document["model_card"]["dataset_digests"] == {}


def test_inspect_refuses_a_model_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its digest is right, and still nothing can run it."""
    sound = make_bundle()
    Bundle(sound.info, b"no model", sound.calibration, sound.thresholds, sound.smoke).write(
        tmp_path / "bundle"
    )
    assert main(["inspect", str(tmp_path / "bundle")]) == EXIT_CONFIG
    assert "is not an ONNX model" in capsys.readouterr().err


def test_a_machine_without_the_extra_inspects_as_well(repository: Path, tmp_path: Path) -> None:
    """Where only services run there is no onnx; what needs it is said to be missing."""
    bundle = write_bundle(tmp_path / "bundle")
    program = """
import sys
sys.modules["onnx"] = None
from model_workshop.__main__ import main
sys.exit(main(["inspect", sys.argv[1]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not counted: onnx is in the extra 'workshop'" in done.stdout


def test_the_shipped_edge_is_integer(repository: Path) -> None:
    """Every convolution of it, which is why it is fast."""
    edge = Bundle.open(repository / "reference_line" / "bundles" / "edge-reference")
    found = count_arithmetic(onnx.load_from_string(edge.model))
    assert found.integer_products == found.products > 0
    assert found.weight_bytes["int8"] > 10 * found.weight_bytes["float32"]
