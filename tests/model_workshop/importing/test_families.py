"""Import: small models in every layout become bundles that detect the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError
from model_workshop.importing.families import read_labels
from model_workshop.importing.layouts import Family
from model_workshop.importing.preparations import Preparation
from tests.support.bundles import LABELS
from tests.support.foreign import (
    EXPECTED,
    SIDE,
    foreign_contract,
    foreign_model,
    import_proto,
    painted,
)
from tests.support.graphs import RAW


def assert_sees_the_squares(bundle: Bundle) -> None:
    """Through the services' own detector, each once, where and how surely it is there."""
    found = Detector.open(bundle).detect(painted())
    assert [bundle.labels[i] for i in found.class_ids] == ["red", "blue"]
    for index, label in enumerate(("red", "blue")):
        score, box = EXPECTED[label]
        assert found.scores[index] == pytest.approx(score, abs=0.02)
        np.testing.assert_allclose(found.boxes[index], box, atol=0.1)
    Detector.open(bundle).check_smoke()


@pytest.mark.parametrize("family", [one for one in Family if one is not Family.CLASSIFIER])
def test_every_layout_is_recognized_and_detects(family: Family, tmp_path: Path) -> None:
    """Without being told the family; bytes in, and said in the card."""
    bundle = import_proto(foreign_model(family), tmp_path, preparation=Preparation.ULTRALYTICS)
    assert_sees_the_squares(bundle)
    contract = bundle.info.input
    assert (contract.dtype, contract.layout, contract.color) == ("uint8", "NHWC", "BGR")
    assert f"as {family}; the graph prepares its pixels" in bundle.info.model_card.description
    assert bundle.info.opset == 17


def test_equal_files_give_equal_bundles(tmp_path: Path) -> None:
    """Byte for byte."""
    first, second = (import_proto(foreign_model(Family.DETR), tmp_path) for _ in range(2))
    assert first.digest == second.digest


@pytest.mark.parametrize("preparation", list(Preparation))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_preparation_is_folded_into_the_graph(
    preparation: Preparation, layout: str, tmp_path: Path
) -> None:
    """Colours, range, mean and standard deviation, planes or pixels."""
    contract = foreign_contract(preparation, layout)
    model = foreign_model(Family.YOLOV8, contract=contract)
    assert_sees_the_squares(import_proto(model, tmp_path, preparation=preparation))


def test_bytes_are_given_as_they_are(tmp_path: Path) -> None:
    """A graph that takes planes of bytes and normalizes itself."""
    contract = RAW.model_copy(update={"layout": "NCHW", "color": "RGB"})
    model = foreign_model(Family.YOLOV8, contract=contract)
    assert_sees_the_squares(import_proto(model, tmp_path))


@pytest.mark.parametrize("family", [Family.YOLOV8, Family.DETR])
def test_half_precision_at_the_ends_becomes_float(family: Family, tmp_path: Path) -> None:
    """float16 pixels, scores and boxes are the graph's own business."""
    assert_sees_the_squares(
        import_proto(
            foreign_model(family, half=True), tmp_path, preparation=Preparation.ULTRALYTICS
        )
    )


def test_a_classifier_names_what_fills_the_picture(tmp_path: Path) -> None:
    """One detection, as large as the picture whatever its size; scores are probabilities."""
    model = foreign_model(Family.CLASSIFIER)
    bundle = import_proto(model, tmp_path, preparation=Preparation.DETR)
    picture = np.zeros((50, 90, 3), np.uint8)
    picture[:, :, 2] = 255
    found = Detector.open(bundle).detect(picture)
    assert [bundle.labels[i] for i in found.class_ids] == ["red"]
    assert found.boxes.tolist() == [[0, 0, 90, 50]]
    assert 0.99 < found.scores[0] <= 1
    nothing = import_proto(
        model, tmp_path, labels=("blue", "background", "red"), preparation=Preparation.DETR
    )
    assert nothing.info.outputs.model_dump()["nothing"] == 1
    picture[:] = (0, 255, 0)
    assert len(Detector.open(nothing).detect(picture)) == 0


@pytest.mark.parametrize("family", [Family.YOLO_END2END, Family.CLASSIFIER, Family.GRID])
def test_a_free_batch_stays_free(family: Family, tmp_path: Path) -> None:
    """Where two pictures at once give what each gives alone."""
    bundle = import_proto(foreign_model(family), tmp_path, preparation=Preparation.YOLOX)
    assert bundle.info.input.dynamic_batch
    detector = Detector.open(bundle, batch_max=2)
    first, second = detector.detect_batch([painted(), painted()])
    np.testing.assert_array_equal(first.scores, second.scores)


@pytest.mark.parametrize("family", [Family.YOLOV8, Family.NMS])
def test_a_batch_that_is_only_declared_is_fixed(family: Family, tmp_path: Path) -> None:
    """Its outputs are for one picture, whatever the input says."""
    bundle = import_proto(foreign_model(family), tmp_path, preparation=Preparation.ULTRALYTICS)
    assert not bundle.info.input.dynamic_batch


def test_corners_that_begin_with_the_row_are_turned(tmp_path: Path) -> None:
    """A mirrored picture shows which of two numbers is the column."""
    model = foreign_model(Family.NMS)
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([1, 0, 3, 2]), "turned_order")
    )
    model.graph.node.append(
        helper.make_node("Gather", ["boxes", "turned_order"], ["turned"], axis=1)
    )
    model.graph.output[0].name = "turned"
    assert_sees_the_squares(import_proto(model, tmp_path, preparation=Preparation.ULTRALYTICS))


def test_a_detector_as_tensorflow_exports_it(tmp_path: Path) -> None:
    """Bytes of any size, rows first and in sides of the picture, classes as floats, a count."""
    contract = RAW.model_copy(update={"color": "RGB"})
    model = foreign_model(Family.NMS, contract=contract)
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "any"
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.array([1, 0, 3, 2]), "turned_order")
    )
    model.graph.node.extend(
        [
            helper.make_node("Gather", ["boxes", "turned_order"], ["turned"], axis=1),
            helper.make_node("Unsqueeze", ["turned", "first"], ["detection_boxes"]),
            helper.make_node("Unsqueeze", ["found_scores", "first"], ["detection_scores"]),
            helper.make_node("Cast", ["classes"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["floats", "first"], ["detection_classes"]),
            helper.make_node("Shape", ["found_scores"], ["num_detections"]),
        ]
    )
    del model.graph.output[:]
    shapes: dict[str, list[int | str]] = {"boxes": [1, "n", 4]}
    shapes |= {"scores": [1, "n"], "classes": [1, "n"]}
    for name, shape in shapes.items():
        value = helper.make_tensor_value_info(f"detection_{name}", TensorProto.FLOAT, shape)
        model.graph.output.append(value)
    count = helper.make_tensor_value_info("num_detections", TensorProto.INT64, [1])
    model.graph.output.append(count)
    bundle = import_proto(model, tmp_path, preparation=Preparation.DETR, size=(SIDE, SIDE))
    assert_sees_the_squares(bundle)


def test_scores_may_be_a_fifth_column(tmp_path: Path) -> None:
    """As MMDetection's exporter writes them."""
    model = foreign_model(Family.NMS)
    model.graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["found_scores", "axis_1"], ["score_column"]),
            helper.make_node("Concat", ["boxes", "score_column"], ["dets"], axis=1),
        ]
    )
    del model.graph.output[:2]
    model.graph.output.append(helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["n", 5]))
    assert_sees_the_squares(import_proto(model, tmp_path, preparation=Preparation.ULTRALYTICS))


def test_nothing_found_is_padding(tmp_path: Path) -> None:
    """A list of changing length has one length, and an empty one shows nothing."""
    bundle = import_proto(foreign_model(Family.NMS), tmp_path, preparation=Preparation.ULTRALYTICS)
    assert len(Detector.open(bundle).detect(np.zeros((64, 64, 3), np.uint8))) == 0


def with_any_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model, its input of any height and width."""
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "any"
    return model


def test_a_size_comes_from_a_person_or_from_the_metadata(tmp_path: Path) -> None:
    """In this order; without either it is asked for."""
    model = with_any_size(foreign_model(Family.YOLOV8))
    with pytest.raises(ConfigError, match="any size") as caught:
        import_proto(model, tmp_path)
    assert "--size" in caught.value.remedy
    assert_sees_the_squares(import_proto(model, tmp_path, size=(SIDE, SIDE)))
    model.metadata_props.add(key="imgsz", value="[64, 64]")
    assert_sees_the_squares(import_proto(model, tmp_path))


def test_labels_come_from_the_metadata_where_none_are_given(tmp_path: Path) -> None:
    """As Ultralytics writes them."""
    model = foreign_model(Family.YOLOV8)
    with pytest.raises(ConfigError, match="does not name its classes"):
        import_proto(model, tmp_path, labels=None)
    model.metadata_props.add(key="names", value=str(dict(enumerate(LABELS))))
    assert import_proto(model, tmp_path, labels=None).labels == LABELS


def test_old_opsets_are_lifted(tmp_path: Path) -> None:
    """Per-channel quantization needs 13."""
    model = foreign_model(Family.YOLOV8)
    model.opset_import[0].version = 12
    assert import_proto(model, tmp_path).info.opset == 13


def test_labels_are_one_a_line(tmp_path: Path) -> None:
    """Blank lines are nothing; a missing file and an empty one are errors."""
    path = tmp_path / "labels.txt"
    path.write_text("car\n\nbus \n", encoding="utf-8")
    assert read_labels(path) == ("car", "bus")
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="is empty"):
        read_labels(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labels(tmp_path / "absent.txt")


def test_a_name_that_comes_twice_gets_its_class_id(tmp_path: Path) -> None:
    """ImageNet has two cranes; a bundle's labels are unique."""
    path = tmp_path / "labels.txt"
    path.write_text("crane\nheron\ncrane\n", encoding="utf-8")
    assert read_labels(path) == ("crane", "heron", "crane (2)")
