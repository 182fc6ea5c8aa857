from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError
from model_workshop.importing.families import Family, draw_street, import_model, read_labels
from tests.support.bundles import grid_model

LABELS_80 = tuple(f"class {i}" for i in range(80))


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    """An ONNX file that is fine but of no public family."""
    path = tmp_path / "grid.onnx"
    path.write_bytes(grid_model())
    return path


def _import(path: Path, labels: tuple[str, ...] = LABELS_80) -> None:
    import_model(path, Family.YOLOX, labels, name="m", license_name="unknown")


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The path is in the message, with what to do."""
    with pytest.raises(ConfigError, match=re.escape("absent.onnx cannot be read")):
        _import(tmp_path / "absent.onnx")


@pytest.mark.parametrize("keep", [0, 100, 400])
def test_truncated_file_is_refused(grid_file: Path, keep: int) -> None:
    """A download that stopped half-way is not a model, wherever it stopped."""
    grid_file.write_bytes(grid_file.read_bytes()[:keep])
    with pytest.raises(IntegrityError, match=r"grid\.onnx"):
        _import(grid_file)


def test_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    """A picture under the name of a model is no model."""
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"pixels" * 100)
    with pytest.raises(IntegrityError, match=re.escape("photo.onnx")):
        _import(path)


def test_foreign_input_is_described(grid_file: Path) -> None:
    """A model with another input contract is refused, printing what it takes."""
    with pytest.raises(ConfigError, match=re.escape("takes {'image':")):
        _import(grid_file)


def test_foreign_layout_prints_the_outputs(tmp_path: Path) -> None:
    """Nobody can choose a family without seeing what the model gives."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("GlobalAveragePool", ["images"], ["pooled"])],
            "classifier",
            [onnx.helper.make_tensor_value_info("images", 1, [1, 3, 64, 64])],
            [onnx.helper.make_tensor_value_info("pooled", 1, [1, 3, 1, 1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 13)],
    )
    model.ir_version = 8
    path = tmp_path / "classifier.onnx"
    onnx.save(model, path)
    with pytest.raises(ConfigError, match=r"outputs pooled \(1, 3, 1, 1\).*84, 5 \+ classes"):
        _import(path)


def test_labels_are_one_a_line_and_unique(tmp_path: Path) -> None:
    """Blank lines are nothing; a missing file, an empty one and a doubled name are errors."""
    path = tmp_path / "labels.txt"
    path.write_text("car\n\nbus \n", encoding="utf-8")
    assert read_labels(path) == ("car", "bus")
    path.write_text("car\ncar\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="names a class twice"):
        read_labels(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        read_labels(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labels(tmp_path / "absent.txt")


@pytest.mark.shared_data
def test_wrong_number_of_labels_is_refused(shared_data: Path) -> None:
    """79 names for 80 classes would shift every name after the missing one."""
    with pytest.raises(ConfigError, match="80 classes apart, but there are 79 labels"):
        _import(shared_data / "models" / "yolox_nano.onnx", LABELS_80[:79])


@pytest.mark.shared_data
def test_wrong_family_is_refused(shared_data: Path) -> None:
    """A YOLOv8 file declared as YOLOX is recognized by its shape."""
    with pytest.raises(ConfigError, match=r"output0 \(1, 84, 8400\)"):
        _import(shared_data / "models" / "yolov8s_640.onnx")


@pytest.mark.shared_data
def test_drawn_street_is_a_smoke_test_with_meaning(shared_data: Path) -> None:
    """An old public model is lifted to opset 13 and surely sees the stop sign and the clock."""
    models = shared_data / "models"
    bundle = import_model(
        models / "yolox_nano.onnx",
        Family.YOLOX,
        read_labels(models / "coco80_names.txt"),
        name="yolox-nano",
        license_name="Apache-2.0",
    )
    assert bundle.info.opset == 13
    sure = bundle.smoke.expected
    names = {bundle.labels[i] for i in sure.class_ids[sure.scores > 0.8]}
    assert names == {"stop sign", "clock"}
    assert draw_street().shape == (480, 640, 3)
    Detector.open(bundle).check_smoke()
