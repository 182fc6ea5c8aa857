from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foundation.errors import IntegrityError
from model_workshop.importing.families import Family, import_model
from model_workshop.quantization.graph import Block
from model_workshop.quantization.pictures import IMAGES_MIN, read_calibration_pictures
from model_workshop.quantization.search import check_agreement
from model_workshop.quantization.workbench import Sensitivity, Workbench, destroyed


def _harms(*harms: float) -> list[Sensitivity]:
    return [Sensitivity(Block(str(harm), ()), harm) for harm in harms]


def test_destroyed_is_what_stands_out() -> None:
    """Small harm is rounding, the same harm everywhere is the model's nature, most is neither."""
    assert destroyed(_harms(0.09, 0.01, 0.0, 0.0)) == []
    assert [entry.harm for entry in destroyed(_harms(0.8, 0.3, 0.05, 0.04, 0.03))] == [0.8, 0.3]
    assert destroyed(_harms(0.4, 0.4, 0.4, 0.4)) == []
    assert len(destroyed(_harms(0.9, 0.9, 0.9, 0.1))) == 3


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
