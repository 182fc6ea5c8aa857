"""Reads ONNX files from anywhere, with messages for people.

`load` accepts only what an ONNX model can be; `at_least_opset` lifts old ones, because per-channel
quantization does not load below 13.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx.version_converter
from google.protobuf.message import DecodeError

from foundation.errors import ConfigError, IntegrityError

OPSET_MIN = 13


def load(path: Path) -> onnx.ModelProto:
    """Reads and checks an ONNX file.

    Raises:
        ConfigError: there is no file, or it cannot be read.
        IntegrityError: the file is truncated or not an ONNX model.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", remedy="Check the path of the ONNX file"
        ) from error
    remedy = "Download or export it again"
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise IntegrityError(
            f"{path} ({len(data)} bytes) is not an ONNX model, or not a whole one", remedy=remedy
        ) from error
    if not model.graph.node or not model.opset_import:
        raise IntegrityError(f"{path} holds no ONNX graph", remedy=remedy)
    _load_external_data(model, path)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise IntegrityError(
            f"{path} is not a valid ONNX model: {first_line}", remedy=remedy
        ) from (error)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operators that a model uses; 0 where it uses none."""
    return max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)


def at_least_opset(model: onnx.ModelProto, version: int = OPSET_MIN) -> onnx.ModelProto:
    """The model itself, or a copy lifted to this opset where it is older.

    Raises:
        IntegrityError: it has an operator that cannot be lifted.
    """
    old = opset_of(model)
    if old >= version:
        return model
    try:
        return onnx.version_converter.convert_version(model, version)
    except (RuntimeError, ValueError) as error:
        raise IntegrityError(
            f"The model of opset {old} cannot be converted to opset {version}: {error}",
            remedy=f"Export it again with opset {version} or newer",
        ) from error


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller feeds: those without an initializer of the same name."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Sizes of a tensor; None stands for a dynamic one, which some exporters write as -1."""
    sizes = value.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.dim_value > 0 else None for size in sizes)


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Takes in weights that lie in files beside the model: no digest would cover them there."""
    files = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not files:
        return
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise IntegrityError(
            f"{path} keeps its weights in {', '.join(sorted(files))}, "
            f"which cannot be read: {str(error).splitlines()[0]}",
            remedy=f"Put what the exporter wrote beside it into {path.parent}",
        ) from error
