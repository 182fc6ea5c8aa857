from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError
from foundation.geometry import iou_matrix
from model_workshop.assemble import MODERATE_THRESHOLDS
from model_workshop.datasets import read_split
from model_workshop.gating.errors import BelowFloorError
from model_workshop.quantization.bundles import Mode, QuantizedBundle, Request, quantize_bundle
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split
from tests.support.graphs import Family, family_bundle
from tests.support.quantizable import layered_bundle


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with squares that the model of squares finds."""
    directory = tmp_path_factory.mktemp("squares") / "val"
    return write_split(directory, images=20, width=64, height=64, side=16)


@pytest.fixture(scope="module")
def quantized(split: Path) -> QuantizedBundle:
    """A model of several layers, of which INT8 destroys the first two."""
    request = Request(split / "images", evaluate=read_split(split), fit=read_split(split))
    return quantize_bundle(layered_bundle(loud=1_000.0), request)


@pytest.mark.parametrize("family", ["grid", "yolox", "yolov8"])
def test_quantized_bundle_detects_the_same(split: Path, family: Family) -> None:
    """INT8 moves boxes and scores a little, and loses nothing that was sure, in every family."""
    bundle = family_bundle(family)
    result = quantize_bundle(bundle, Request(split / "images"))
    kinds = {node.op_type for node in onnx.load_from_string(result.bundle.model).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    expected = bundle.smoke.expected
    found = Detector.open(result.bundle).detect(bundle.smoke.pixels)
    assert iou_matrix(expected.boxes, found.boxes).max(axis=1).min() > 0.8


def test_what_int8_destroys_stays_float(quantized: QuantizedBundle) -> None:
    """Layers that lose everything alone are found by measuring, and the report says why."""
    report = quantized.report
    assert [row.place for row in report.kept_float] == ["layer_0", "layer_1"]
    assert all("of the agreement" in row.why for row in report.kept_float)
    assert report.agreement > 0.95
    graph = onnx.load_from_string(quantized.bundle.model).graph
    weights = {tensor.name for tensor in graph.initializer}
    assert {"kernel_0", "kernel_1"} <= weights
    assert "kernel_2" not in weights


def test_every_calibrator_is_tried_and_one_is_chosen(quantized: QuantizedBundle) -> None:
    """The table has agreement and mAP of each, and marks the one that ships."""
    report = quantized.report
    assert len({row.calibrator for row in report.trials}) == 6
    assert all(row.map50_95 is not None for row in report.trials)
    assert sum("chosen" in line for line in report.lines()) == 1


def test_card_says_what_it_was_made_from(quantized: QuantizedBundle) -> None:
    """Parent, images and figures travel inside, and scores are fitted on what ships."""
    card = quantized.bundle.info.model_card
    assert card.parents == (layered_bundle(loud=1_000.0).digest,)
    assert set(card.dataset_digests) == {"calibration", "scores"}
    assert card.figures["quantization"]["mode"] == "static"
    assert quantized.bundle.calibration.knots


def test_the_same_inputs_give_the_same_bytes(split: Path) -> None:
    """Nothing that the clock says gets into a bundle."""
    digests = {
        quantize_bundle(make_bundle(), Request(split / "images")).bundle.digest for _ in range(2)
    }
    assert len(digests) == 1


def test_calibration_of_the_float_model_is_not_taken_over(split: Path) -> None:
    """What was fitted on float outputs does not pass for fitted on INT8 ones."""
    floating = make_bundle()
    knots = {"blue": ((0.0, 0.0), (1.0, 0.9))}
    calibration = floating.calibration.model_copy(update={"knots": knots})
    card = floating.info.model_card.model_copy(update={"dataset_digests": {"scores": "0" * 64}})
    postprocess = floating.info.postprocess.model_copy(update={"score_floor": 0.4})
    info = floating.info.model_copy(update={"model_card": card, "postprocess": postprocess})
    bundle = dataclasses.replace(floating, calibration=calibration, info=info)
    made = quantize_bundle(bundle, Request(split / "images")).bundle
    assert made.calibration.knots == {}
    assert set(made.info.model_card.dataset_digests) == {"calibration"}
    # Thresholds on calibrated scores, and the floor that followed from them, mean nothing on raw.
    assert made.thresholds == MODERATE_THRESHOLDS != floating.thresholds
    assert made.info.postprocess.score_floor == 0.05


def test_thresholds_that_stay_say_where_they_are_from(split: Path) -> None:
    """Too few hits for a calibration may be enough for thresholds, which a gate must know of."""
    floating = make_bundle()
    digests = {"scores": "0" * 64}
    card = floating.info.model_card.model_copy(update={"dataset_digests": digests})
    info = floating.info.model_copy(update={"model_card": card})
    bundle = dataclasses.replace(floating, info=info)
    made = quantize_bundle(bundle, Request(split / "images")).bundle
    assert made.thresholds == floating.thresholds
    assert made.info.model_card.dataset_digests["scores"] == digests["scores"]


def test_a_loss_above_the_limit_is_refused(split: Path) -> None:
    """A demand that no version can meet ends with figures, not with a bundle."""
    request = Request(split / "images", evaluate=read_split(split), loss_max=-1.0)
    with pytest.raises(BelowFloorError, match=r"points of mAP50-95 are lost even with"):
        quantize_bundle(layered_bundle(), request)


def test_an_int8_model_is_refused(split: Path, quantized: QuantizedBundle) -> None:
    """Quantizing twice loses twice; the message names the node that gave it away."""
    with pytest.raises(IntegrityError, match="is INT8 already: it has the node"):
        quantize_bundle(quantized.bundle, Request(split / "images"))


def test_dynamic_makes_matrix_products_integer(split: Path) -> None:
    """Weights of products shrink; the report says that convolutions stay as they are."""
    request = Request(split / "images", Mode.DYNAMIC, evaluate=read_split(split))
    result = quantize_bundle(layered_bundle(product=True), request)
    kinds = [node.op_type for node in onnx.load_from_string(result.bundle.model).graph.node]
    assert "MatMulInteger" in kinds
    assert "ConvInteger" not in kinds
    assert "76 of 85 weights are theirs" in "\n".join(result.report.lines())


def test_dynamic_needs_matrix_products(split: Path) -> None:
    """A model of convolutions would stay as it is."""
    with pytest.raises(ConfigError, match="no matrix products"):
        quantize_bundle(make_bundle(), Request(split / "images", Mode.DYNAMIC))


def test_labels_are_compared_before_any_work(split: Path, tmp_path: Path) -> None:
    """A split of another dataset is refused at once."""
    other = read_split(split)
    foreign = dataclasses.replace(other, labels=("a", "b", "c"))
    with pytest.raises(ConfigError, match="knows 3 classes"):
        quantize_bundle(make_bundle(), Request(tmp_path, evaluate=foreign))


def test_model_that_fails_in_float_is_refused(split: Path) -> None:
    """Infinite numbers inside become NaN outputs; the picture is named."""
    bundle = layered_bundle(loud=float(np.finfo(np.float32).max))
    with pytest.raises(IntegrityError, match=r"fails on .*001\.png: .*not finite numbers"):
        quantize_bundle(bundle, Request(split / "images"))
