"""Models that cannot be imported: the message names the thing, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foundation.errors import EXIT_CONFIG, ConfigError, IntegrityError
from model_workshop.__main__ import main
from model_workshop.importing.families import import_model, read_labels
from model_workshop.importing.layouts import Family
from tests.support.bundles import LABELS, grid_model
from tests.support.foreign import (
    foreign_model,
    import_proto,
    painted,
)
from tests.support.graphs import model_with_external_data


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
    assert len(bundle.smoke.expected) == 2


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


def _made(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """A model of 64x64 pixels with what it needs to cut them into nothing."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    constants = {
        "zeros": np.array([0, 0]),
        "axes": np.array([2, 3]),
        "fourth": np.zeros((1, 1, 0, 0), np.float32),
        "twice": np.array([1, 1, 4, 4], np.float32),
        "large": np.zeros((1, 1, 256, 256), np.float32),
    }
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "odd", [image], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _floats(name: str, *shape: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


_CUT = helper.make_node("Slice", ["image", "zeros", "zeros", "axes"], ["empty"])


@pytest.mark.parametrize(
    "model",
    [
        _made([_CUT], [_floats("empty", 1, 3, 0, 0)]),
        _made(
            [_CUT, helper.make_node("Concat", ["empty", "empty"], ["both"], axis=1)],
            [_floats("both", 1, 6, 0, 0)],
        ),
        _made(
            [_CUT, helper.make_node("Concat", ["empty", "fourth"], ["box"], axis=1)],
            [_floats("empty", 1, 3, 0, 0), _floats("box", 1, 4, 0, 0)],
        ),
        _made(
            [
                helper.make_node("Resize", ["image", "", "twice"], ["heat"]),
                helper.make_node("Concat", ["heat", "large"], ["box"], axis=1),
            ],
            [_floats("heat", 1, 3, 256, 256), _floats("box", 1, 4, 256, 256)],
        ),
    ],
    ids=["one empty", "planes empty", "grid empty", "more cells than pixels"],
)
def test_outputs_without_a_grid_are_no_layout(model: onnx.ModelProto, tmp_path: Path) -> None:
    """A division by no cells is no message."""
    with pytest.raises(ConfigError, match="a layout that is not known"):
        import_proto(model, tmp_path)


def test_a_list_of_tensors_is_no_output(tmp_path: Path) -> None:
    """Only tensors can be bound."""
    made = helper.make_node("SequenceConstruct", ["image", "image"], ["several"])
    several = helper.make_tensor_sequence_value_info("several", TensorProto.FLOAT, None)
    with pytest.raises(IntegrityError, match="puts out 'several', which is no tensor but a list"):
        import_proto(_made([made], [several]), tmp_path)


def test_sides_beyond_what_a_bundle_may_have_are_refused(tmp_path: Path) -> None:
    """Before the model has run on a picture of that size."""
    model = foreign_model(Family.YOLOV8)
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "any"
    with pytest.raises(ConfigError, match=r"takes 9999x64 pixels.*sides of 8192 pixels at most"):
        import_proto(model, tmp_path, size=(9999, 64))


def test_metadata_that_are_no_size_are_no_answer(tmp_path: Path) -> None:
    """An infinite side is as good as none."""
    model = foreign_model(Family.YOLOV8)
    for size in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        size.dim_param = "any"
    model.metadata_props.add(key="imgsz", value="[1e400, 64]")
    with pytest.raises(ConfigError, match="does not say for which it was made"):
        import_proto(model, tmp_path)


def test_damaged_names_and_types_are_refused(tmp_path: Path) -> None:
    """A byte that is no text, and a number that stands for no type."""
    data = foreign_model(Family.YOLOV8).SerializeToString()
    path = tmp_path / "damaged.onnx"
    path.write_bytes(data.replace(b"Transpose", b"Transp\xffse"))
    with pytest.raises(IntegrityError, match=r"damaged\.onnx is not a valid ONNX model"):
        import_model(path, None, LABELS, name="m", license_name="unknown")
    model = foreign_model(Family.YOLOV8)
    second = helper.make_tensor_value_info("depth", 48, [1, 1, 64, 64])
    model.graph.input.append(second)
    with pytest.raises((ConfigError, IntegrityError), match=r"type 48|not a valid ONNX model"):
        import_proto(model, tmp_path)


def test_a_name_that_no_bundle_may_have_is_found_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some exporters write every setting into the file's name."""
    model = str(tmp_path / f"{'long' * 20}.onnx")
    assert main(["import", model, "--out", str(tmp_path / "out")]) == EXIT_CONFIG
    assert "The bundle's name has 80 characters. Give one of 64" in capsys.readouterr().err


def test_a_mark_at_the_beginning_is_no_part_of_a_label(tmp_path: Path) -> None:
    """Editors of one system put it there; no dataset has a class of that name."""
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfblue\r\ngreen\r\n")
    assert read_labels(path) == ("blue", "green")
