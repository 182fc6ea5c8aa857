from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import pkgutil
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import helper

from foundation.bundle import Bundle
from foundation.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, ConfigError
from model_workshop import commands
from model_workshop.__main__ import main
from model_workshop.datasets import read_split, split_digest
from model_workshop.gating.errors import BelowFloorError
from model_workshop.gating.gate import read_gate, write_admitted
from tests.support.bundles import grid_model, make_bundle
from tests.support.datasets import write_split
from tests.support.graphs import family_model, replace_model

pytest.importorskip("pycocotools", reason="pycocotools is in the extra 'workshop'")


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A folder with a bundle, a worse one, a split to measure both on, and another."""

    folder: Path
    good: Path
    worse: Path
    split: Path
    other: Path

    def floors(self, name: str = "floors", **changes: Any) -> Path:
        """Writes a floors file that the good bundle holds, changed as asked."""
        document = {
            "objects_min": 10,
            "too_few_objects": "skip",
            "floors_points": {"judged_by": "point", "overall": {"ap50": 50}},
            **changes,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The worse bundle draws boxes of half the size and so finds no outline."""
    folder = tmp_path_factory.mktemp("gate")
    sound = make_bundle()
    sound.write(folder / "good")
    replace_model(sound, family_model(box_side=12.0)).write(folder / "worse")
    split = write_split(folder / "test", images=12, width=64, height=64, side=20)
    other = write_split(folder / "val", images=12, width=64, height=64, side=20, seed=1)
    return Workplace(folder, folder / "good", folder / "worse", split, other)


def test_a_good_bundle_passes(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0, every limit in a line."""
    floors = place.floors()
    assert main(["gate", str(place.good), str(place.split), "--floors", str(floors)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert printed.splitlines()[1].startswith("overall")
    assert "holds every floor" in printed


def test_a_worse_bundle_is_refused_with_the_stratum(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1: not a mistake of the operator, who would see 78."""
    limits = {"judged_by": "point", "strata": {"class/green": {"ap50": 50}}}
    floors = place.floors(floors_points=limits)
    status = main(["gate", str(place.worse), str(place.split), "--floors", str(floors)])
    assert status == EXIT_FAILURE
    captured = capsys.readouterr()
    assert "MISSED" in captured.out
    assert "squares is refused by" in captured.err
    assert "class/green: ap50 " in captured.err
    assert "is below 50 points" in captured.err


def test_losses_are_measured_against_the_reference(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model itself loses nothing against itself; the worse one does, in every stratum."""
    limits = {"judged_by": "bound", "every_stratum": {"ap50_95": 1.0}}
    floors = place.floors(losses_points_max=limits)
    rest = [str(place.split), "--floors", str(floors), "--reference", str(place.good)]
    assert main(["gate", str(place.good), *rest]) == EXIT_OK
    assert main(["gate", str(place.worse), *rest]) == EXIT_FAILURE
    message = capsys.readouterr().err
    for label in ("blue", "green", "red"):
        assert f"class/{label}: ap50_95 loss" in message


def test_losses_without_a_reference_are_a_mistake(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is measured."""
    limits = {"judged_by": "point", "overall": {"ap50_95": 1.0}}
    floors = place.floors(losses_points_max=limits)
    status = main(["gate", str(place.good), str(place.split), "--floors", str(floors)])
    assert status == EXIT_CONFIG
    assert "nothing to lose against. Give the reference" in capsys.readouterr().err


def test_a_misspelt_class_is_found_before_measuring(place: Workplace) -> None:
    """Hours of training must not end in a spelling mistake."""
    limits = {"judged_by": "point", "strata": {"class/gren": {"ap50": 50}}}
    with pytest.raises(ConfigError, match="did you mean 'class/green'"):
        read_gate(place.floors(floors_points=limits), place.split)


@pytest.mark.parametrize("part", ["train", "train-2"])
def test_the_training_split_is_refused(place: Workplace, part: str) -> None:
    """A model is at its best where it learned."""
    digest = split_digest(read_split(place.split))
    bundle = Bundle.open(place.good)
    card = bundle.info.model_card.model_copy(update={"dataset_digests": {part: digest}})
    info = bundle.info.model_copy(update={"model_card": card})
    gate = read_gate(place.floors(), place.split)
    with pytest.raises(ConfigError, match=r"squares was trained on .*test"):
        gate.judge(dataclasses.replace(bundle, info=info))


def test_outputs_that_are_no_numbers_are_refused(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """NaN looks like an empty scene to every comparison."""
    nan = replace_model(Bundle.open(place.good), family_model(score_bias=float("nan")))
    nan.write(tmp_path / "nan")
    floors = place.floors(floors_points={"judged_by": "point", "overall": {"ap50": 0}})
    status = main(["gate", str(tmp_path / "nan"), str(place.split), "--floors", str(floors)])
    assert status == EXIT_CONFIG
    assert "not finite numbers" in capsys.readouterr().err


def test_a_model_that_fails_on_one_image_is_refused(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its other figures may be fine: what it does on the next such image nobody knows."""
    model = onnx.load_from_string(grid_model())
    for node in model.graph.node:
        node.output[:] = ["raw" if name == "heatmap" else name for name in node.output]
    # 0 / 0 where the image is black.
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["planes"], ["brightest"], axes=[1, 2, 3]),
            helper.make_node("Div", ["brightest", "brightest"], ["one"]),
            helper.make_node("Mul", ["raw", "one"], ["heatmap"]),
        ]
    )
    replace_model(make_bundle(), model.SerializeToString()).write(tmp_path / "bundle")
    split = tmp_path / "test"
    shutil.copytree(place.split, split)
    cv2.imwrite(str(split / "images" / "003.png"), np.zeros((64, 64, 3), np.uint8))
    floors = place.floors(floors_points={"judged_by": "point", "overall": {"ap50": 10}})
    status = main(["gate", str(tmp_path / "bundle"), str(split), "--floors", str(floors)])
    assert status == EXIT_FAILURE
    captured = capsys.readouterr()
    assert "MISSED" not in captured.out
    assert "the model fails on 1 of 12 images (id 3)" in captured.err


# --- what makes a bundle goes through it ----------------------------------------------------------


def test_nothing_below_a_floor_is_written(place: Workplace, tmp_path: Path) -> None:
    """Neither the bundle nor a scrap of it."""
    gate = read_gate(place.floors(), place.split)
    with pytest.raises(BelowFloorError, match="overall: ap50"):
        write_admitted(Bundle.open(place.worse), tmp_path / "bundle", gate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["calibrate", "bundle"])
def test_a_refused_model_leaves_nothing(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """From the command line, whatever made it."""
    out = tmp_path / "out" / "bundle"
    info = tmp_path / "info.yaml"
    manifest = make_bundle().info.model_dump(mode="json", exclude={"model_card"})
    info.write_text(json.dumps(manifest), encoding="utf-8")
    inputs = {
        "calibrate": [str(place.worse), str(place.other)],
        "bundle": [
            *(str(place.worse / "model.onnx"), str(info)),
            *("--smoke", str(place.worse / "smoke" / "input.png")),
        ],
    }
    floors = ["--floors", str(place.floors()), "--floors-split", str(place.split)]
    assert main([command, *inputs[command], "--out", str(out), *floors]) == EXIT_FAILURE
    assert "overall: ap50" in capsys.readouterr().err
    assert not out.parent.exists()


def test_every_command_that_writes_a_bundle_has_a_gate() -> None:
    """A way around the floors would be taken."""
    writing, gated = set(), set()
    for found in pkgutil.iter_modules(commands.__path__):
        command = importlib.import_module(f"{commands.__name__}.{found.name}")
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        described = parser.format_help()
        if "bundle to write" in described:
            writing.add(found.name)
        if "--floors-split" in described:
            gated.add(found.name)
    assert {"quantize", "calibrate", "bundle", "train"} <= writing
    assert writing <= gated


def test_what_passes_carries_its_judgement(place: Workplace, tmp_path: Path) -> None:
    """The model card says which floors were held, on what, and what was measured."""
    gate = read_gate(place.floors(), place.split, reference=Bundle.open(place.good))
    write_admitted(Bundle.open(place.good), tmp_path / "bundle", gate)
    record = Bundle.open(tmp_path / "bundle").info.model_card.figures["gate"]
    assert record["split"] == split_digest(read_split(place.split))
    assert record["verdicts"] == {"held": 1}
    assert record["overall"]["ap50"]["value"] > 0.5
    assert "reference" not in record


def test_without_floors_the_reader_is_told(
    place: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody takes an unjudged model for a judged one."""
    write_admitted(Bundle.open(place.good), tmp_path / "bundle", None)
    assert "No accuracy floor was given" in capsys.readouterr().out
    assert "gate" not in Bundle.open(tmp_path / "bundle").info.model_card.figures


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--floors-split", "{split}"], "--floors-split is given without floors"),
        (["--reference", "{good}"], "--reference is given without floors"),
        (["--floors", "{floors}"], "Floors need images to measure on"),
        (["--floors", "{good}/absent.yaml", "--floors-split", "{split}"], "absent.yaml"),
    ],
)
def test_half_a_gate_is_refused(
    place: Workplace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    message: str,
) -> None:
    """Before any work, whatever the command."""
    paths = {"split": place.split, "good": place.good, "floors": place.floors()}
    arguments = [argument.format(**paths) for argument in given]
    out = ["--out", str(tmp_path / "out")]
    assert main(["calibrate", str(place.good), str(place.split), *out, *arguments]) == EXIT_CONFIG
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.shared_data
def test_a_model_quantized_to_uselessness_is_refused(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads, runs fast and detects almost nothing; its float parent reaches 32.4 here."""
    models = shared_data / "models"
    bundle = tmp_path / "bundle"
    imported = main(
        [
            *("import", str(models / "layouts" / "deimv2_atto_dynint8_BROKEN_ACCURACY.onnx")),
            *("--labels", str(models / "coco80_names.txt"), "--out", str(bundle)),
        ]
    )
    assert imported == EXIT_OK
    floors = tmp_path / "floors.yaml"
    document = {
        "objects_min": 30,
        "too_few_objects": "skip",
        "floors_points": {
            "judged_by": "point",
            "overall": {"ap50_95": 31.4},
            "strata": {"class/person": {"ap50": 30}},
        },
    }
    floors.write_text(json.dumps(document), encoding="utf-8")
    split = str(shared_data / "coco_val")
    assert main(["gate", str(bundle), split, "--floors", str(floors)]) == EXIT_FAILURE
    message = capsys.readouterr().err
    assert "overall: ap50_95" in message
    assert "is below 31.4 points" in message
    assert "class/person: ap50" in message


@pytest.mark.parametrize(
    ("part", "message"),
    [("train-2", "was trained on"), ("scores", "has its calibration and thresholds from")],
)
def test_a_split_that_a_bundle_was_made_from_does_not_judge_it(
    place: Workplace, part: str, message: str
) -> None:
    """There it is better than anywhere else, in its thresholds as in its weights."""
    bundle = Bundle.open(place.good)
    digests = {"test": "0" * 64, part: split_digest(read_split(place.split))}
    card = bundle.info.model_card.model_copy(update={"dataset_digests": digests})
    info = bundle.info.model_copy(update={"model_card": card})
    made = dataclasses.replace(bundle, info=info)
    with pytest.raises(ConfigError, match=message):
        read_gate(place.floors(), place.split).judge(made)
    assert read_gate(place.floors(), place.other).judge(made).passed
