"""Import: small models in every layout become bundles that detect the same; bad ones are named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError
from model_workshop.importing.families import import_model, read_labels
from model_workshop.importing.inputs import Size
from model_workshop.importing.layouts import Family
from model_workshop.importing.preparations import Preparation
from tests.support.bundles import LABELS, grid_model
from tests.support.foreign import EXPECTED, SIDE, foreign_contract, foreign_model, painted
from tests.support.graphs import RAW, model_with_external_data


def import_proto(
    model: onnx.ModelProto,
    folder: Path,
    *,
    family: Family | None = None,
    labels: tuple[str, ...] | None = LABELS,
    preparation: Preparation | None = None,
    size: Size | None = None,
) -> Bundle:
    """Saves a model and imports it."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return import_model(
        path,
        family,
        labels,
        name="m",
        license_name="unknown",
        smoke_pixels=painted(),
        preparation=preparation,
        size=size,
    )


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


def test_a_size_that_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    """A fixed graph cannot be made larger."""
    with pytest.raises(ConfigError, match="takes 64x64 pixels, not 640x640"):
        import_proto(foreign_model(Family.YOLOV8), tmp_path, size=(640, 640))


def test_dynamic_everywhere_is_refused(tmp_path: Path) -> None:
    """Not even the place of the channels is known."""
    model = foreign_model(Family.YOLOV8)
    for size in model.graph.input[0].type.tensor_type.shape.dim:
        size.dim_param = "any"
    with pytest.raises(ConfigError, match=r"image float \(any, any, any, any\).*all its sizes"):
        import_proto(model, tmp_path)


def test_labels_come_from_the_metadata_where_none_are_given(tmp_path: Path) -> None:
    """As Ultralytics writes them."""
    model = foreign_model(Family.YOLOV8)
    with pytest.raises(ConfigError, match="does not name its classes"):
        import_proto(model, tmp_path, labels=None)
    model.metadata_props.add(key="names", value=str(dict(enumerate(LABELS))))
    assert import_proto(model, tmp_path, labels=None).labels == LABELS


@pytest.mark.parametrize("family", [Family.YOLOV8, Family.NMS, Family.DETR])
def test_wrong_number_of_labels_is_refused(family: Family, tmp_path: Path) -> None:
    """One name too few would shift every name after the missing one.

    A list does not show how many there are; the graph that makes it does.
    """
    with pytest.raises(ConfigError, match="3 classes apart, but there are 2 labels"):
        import_proto(foreign_model(family), tmp_path, labels=LABELS[:2])


@pytest.mark.parametrize("family", [Family.NMS, Family.YOLOX_DECODED, Family.CLASSIFIER])
def test_an_open_preparation_is_asked_for(family: Family, tmp_path: Path) -> None:
    """Where the layout does not tell, nobody guesses; the choices are listed."""
    with pytest.raises(ConfigError, match=f"layout {family}, which does not tell") as caught:
        import_proto(foreign_model(family), tmp_path)
    assert "ultralytics: RGB, 0..1, letterbox center" in caught.value.remedy


def test_a_wrong_family_is_refused(tmp_path: Path) -> None:
    """With what there is and what there should be."""
    with pytest.raises(ConfigError, match=r"output0 float32 \(1, 7, 84\), but yolox is \(N"):
        import_proto(foreign_model(Family.YOLOV8), tmp_path, family=Family.YOLOX)


def test_an_unknown_layout_prints_what_there_is_and_what_is_known(tmp_path: Path) -> None:
    """Nobody can export another one without seeing both."""
    model = foreign_model(Family.YOLOV8)
    model.graph.node.append(helper.make_node("Transpose", ["output0"], ["odd"], perm=[1, 0, 2]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("odd", 1, [7, 1, 84]))
    with pytest.raises(ConfigError, match=r"64x64 pixels and puts out odd float32") as caught:
        import_proto(model, tmp_path)
    assert "yolov5: (N, 3 cells, 5 + classes)" in caught.value.remedy


def test_old_opsets_are_lifted(tmp_path: Path) -> None:
    """Per-channel quantization needs 13."""
    model = foreign_model(Family.YOLOV8)
    model.opset_import[0].version = 12
    assert import_proto(model, tmp_path).info.opset == 13


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path is in the message, with what to do."""
    with pytest.raises(ConfigError, match=re.escape("absent.onnx cannot be read")):
        import_model(tmp_path / "absent.onnx", name="m", license_name="unknown")


@pytest.mark.parametrize("keep", [0, 100, 400])
def test_a_truncated_file_is_refused(keep: int, tmp_path: Path) -> None:
    """A download that stopped half-way is not a model, wherever it stopped."""
    path = tmp_path / "half.onnx"
    path.write_bytes(grid_model()[:keep])
    with pytest.raises(IntegrityError, match=re.escape("half.onnx")):
        import_model(path, None, LABELS, name="m", license_name="unknown")


def test_a_file_that_is_something_else_is_refused(tmp_path: Path) -> None:
    """A picture under the name of a model is no model."""
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"pixels" * 100)
    with pytest.raises(IntegrityError, match=re.escape("photo.onnx")):
        import_model(path, None, LABELS, name="m", license_name="unknown")


def test_weights_beside_the_file_are_taken_in_or_named(tmp_path: Path) -> None:
    """The bundle's digest covers them then; without them the missing file is in the message."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model_with_external_data("weights.bin"))
    with pytest.raises(IntegrityError, match=re.escape("in weights.bin, which cannot be read")):
        import_model(path, None, LABELS, name="m", license_name="unknown")
    whole = foreign_model(Family.YOLOV8)
    onnx.save(whole, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    bundle = import_model(
        path, None, LABELS, name="m", license_name="unknown", smoke_pixels=painted()
    )
    assert_sees_the_squares(bundle)


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    """Somebody's own operator, as plug-ins for accelerators bring."""
    model = foreign_model(Family.YOLOV8)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node.append(helper.make_node("Sharpen", ["output0"], ["sharp"], domain="acme"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("sharp", 1, [1, 7, 84]))
    with pytest.raises(IntegrityError, match=r"cannot load the model.*Sharpen"):
        import_proto(model, tmp_path)


@pytest.mark.parametrize("family", [Family.YOLOX, Family.YOLOV8, Family.FASTESTDET])
def test_a_model_that_puts_out_no_numbers_is_refused(family: Family, tmp_path: Path) -> None:
    """At once, and not as an empty scene later."""
    model = foreign_model(family)
    for tensor in model.graph.initializer:
        if tensor.name == "heat_bias":
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), tensor.name)
            )
    with pytest.raises(IntegrityError, match="not finite"):
        import_proto(model, tmp_path)


def test_further_inputs_are_listed(tmp_path: Path) -> None:
    """Two pictures are one too many."""
    model = foreign_model(Family.YOLOV8)
    second = helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, 1, 64, 64])
    model.graph.input.append(second)
    with pytest.raises(ConfigError, match=r"depth float \(1, 1, 64, 64\), not one picture"):
        import_proto(model, tmp_path)


def test_integer_input_that_is_no_byte_is_refused(tmp_path: Path) -> None:
    """What scale it wants is not in the file."""
    model = foreign_model(Family.YOLOV8)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(ConfigError, match="not pixels of uint8"):
        import_proto(model, tmp_path)


def test_a_class_without_a_label_fails_loudly(tmp_path: Path) -> None:
    """Finished detections name classes by themselves; a list that is too short must not hide."""
    model = foreign_model(Family.YOLO_END2END)
    with pytest.raises(IntegrityError, match="class 2, but has 2 labels"):
        import_proto(model, tmp_path, labels=LABELS[:2])


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
