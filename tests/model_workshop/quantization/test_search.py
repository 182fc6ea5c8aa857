from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from foundation.errors import IntegrityError
from model_workshop.importing.families import Family, import_model
from model_workshop.quantization.graph import Block
from model_workshop.quantization.pictures import IMAGES_MIN, read_calibration_pictures
from model_workshop.quantization.ranges import Calibrator
from model_workshop.quantization.search import best_trial, check_agreement
from model_workshop.quantization.workbench import Sensitivity, Trial, Workbench, split_destroyed
from tests.support.bundles import make_bundle


def _destroyed(*harms: float, tail: float = 0.0) -> list[float]:
    """Which harms are those of destroyed blocks."""
    blocks = [Sensitivity(Block(str(harm), (("node", "Conv"),)), harm) for harm in harms]
    ends = Sensitivity(Block("tail", (("node", "Concat"),)), tail)
    return [entry.harm for entry in split_destroyed([ends, *blocks])[0]]


def test_destroyed_is_what_stands_out() -> None:
    """Small harm is rounding, the same harm everywhere is the model's nature, most is neither."""
    assert _destroyed(0.01, 0.09, 0.0, 0.0) == []
    assert _destroyed(0.05, 0.3, 0.8, 0.04, 0.03, 0.03) == [0.8, 0.3]
    assert _destroyed(0.4, 0.4, 0.4, 0.4) == []
    assert len(_destroyed(0.9, 0.9, 0.9, 0.1)) == 3


def test_tail_has_nothing_to_gain_from_integers() -> None:
    """What multiplies nothing stays float for a harm that a convolution may do."""
    assert _destroyed(0.05, 0.05, 0.05, tail=0.02) == [0.02]
    assert _destroyed(0.05, 0.05, 0.05, tail=0.001) == []


def test_agreement_chooses_and_map_decides_between_near_ones() -> None:
    """A split that helps to choose may not overrule what many detections say."""
    bundle = make_bundle()
    trials = [
        Trial(calibrator, (), bundle, agreed, score)
        for calibrator, agreed, score in (
            (Calibrator.MINMAX, 0.70, 0.333),
            (Calibrator.MEAN_MINMAX, 0.69, 0.338),
            (Calibrator.ENTROPY, 0.50, 0.345),
        )
    ]
    assert best_trial(trials).calibrator is Calibrator.MEAN_MINMAX
    unscored = [dataclasses.replace(trial, map50_95=None) for trial in trials]
    assert best_trial(unscored).calibrator is Calibrator.MINMAX


def test_a_version_that_detects_nothing_is_refused() -> None:
    """It loads and runs, which is not enough; the message says what is wrong with it."""
    with pytest.raises(IntegrityError, match=r"agrees with the float model by 0\.01 only"):
        check_agreement("model", 0.01)
    check_agreement("model", 0.6)


@pytest.mark.shared_data
def test_weak_places_of_a_public_model_are_found(shared_data: Path, tmp_path: Path) -> None:
    """YOLOX-Nano loses nearly all of its mAP in its first two convolutions and in its tail."""
    models = shared_data / "models"
    labels = tuple((models / "coco80_names.txt").read_text(encoding="utf-8").splitlines())
    bundle = import_model(
        models / "yolox_nano.onnx", Family.YOLOX, labels, name="nano", license_name="Apache-2.0"
    )
    images = sorted((shared_data / "coco_calibration" / "images").iterdir())
    for path in images[::8][:IMAGES_MIN]:
        shutil.copy(path, tmp_path)
    bench = Workbench(bundle, read_calibration_pictures(bundle, tmp_path))
    assert "Concat" in {kind for block in bench.blocks[-1:] for _, kind in block.members}
    assert {name for name, _ in bench.blocks[-1].members} >= set(bench.torn) != set()
    harms = [bench.sensitivity(block).harm for block in (*bench.blocks[:2], *bench.blocks[50:52])]
    assert min(harms[:2]) > 3 * max(harms[2:])
