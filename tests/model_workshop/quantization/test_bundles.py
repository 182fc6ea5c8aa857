from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.geometry import iou_matrix
from model_workshop.onnx_files import at_least_opset, load
from model_workshop.quantization.bundles import quantize_bundle, tail_after_convolutions
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split
from tests.support.graphs import family_bundle


def test_quantized_bundle_detects_the_same(tmp_path: Path) -> None:
    """INT8 moves boxes and scores a little, and loses nothing that was sure."""
    images = write_split(tmp_path / "val", images=8, width=64, height=64) / "images"
    bundle = make_bundle()
    quantized = quantize_bundle(bundle, images)
    kinds = {node.op_type for node in onnx.load_from_string(quantized.model).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    expected = bundle.smoke.expected
    found = Detector.open(quantized).detect(bundle.smoke.pixels)
    assert iou_matrix(expected.boxes, found.boxes).max(axis=1).min() > 0.8
    assert quantized.info.model_card.parents == (bundle.digest,)


def test_calibration_is_reset_and_can_be_fitted_anew(tmp_path: Path) -> None:
    """What was fitted on float outputs does not pass for fitted on INT8 ones."""
    split = write_split(tmp_path / "val", images=30, width=64, height=64, side=16)
    bundle = quantize_bundle(make_bundle(), split / "images", fit=split)
    assert set(bundle.calibration.knots) <= set(bundle.labels)
    thresholds = bundle.thresholds.default
    assert thresholds.escalate_low <= thresholds.report <= thresholds.escalate_high
    assert quantize_bundle(make_bundle(), split / "images").calibration.knots == {}


def test_directory_without_images_is_refused(tmp_path: Path) -> None:
    """Calibrating on nothing would give a model that is wrong everywhere."""
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path} holds no images")):
        quantize_bundle(make_bundle(), tmp_path)


def test_tail_after_the_last_convolutions_stays_float() -> None:
    """Where boxes in pixels meet scores in 0..1, nothing is quantized."""
    model = onnx.load_from_string(family_bundle("yolov8").model)
    tail = set(tail_after_convolutions(model))
    kinds = {node.op_type for node in model.graph.node if node.name in tail}
    assert "Concat" in kinds
    assert "Conv" not in kinds


@pytest.mark.shared_data
def test_old_public_model_is_lifted_and_quantized(shared_data: Path) -> None:
    """Public YOLOX-Nano is opset 11, in which per-channel weights do not load."""
    model = at_least_opset(load(shared_data / "models" / "yolox_nano.onnx"))
    assert model.opset_import[0].version == 13
    kinds = {n.op_type for n in model.graph.node if n.name in set(tail_after_convolutions(model))}
    assert "Sigmoid" in kinds
    assert "Conv" not in kinds
