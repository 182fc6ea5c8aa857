"""Integer models by ONNX Runtime's tools: what a float graph computes, and QDQ pairs in it.

The one use of onnxruntime outside `foundation.session`. uint8 activations with int8 weights per
output channel are what VNNI multiplies: int8 activations ran at a third of the float model's speed
(docs/decisions/0017). No reduced range. Ranges are observed once; every variant of a model is then
made from them without running it again.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_dynamic
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from foundation.errors import ConfigError, IntegrityError
from foundation.session import CPU_PROVIDERS
from model_workshop.onnx_files import graph_inputs
from model_workshop.quantization.ranges import (
    BINS,
    Calibrator,
    Observation,
    Ranges,
    choose_range,
    count_values,
    observe_range,
)

Tensor = npt.NDArray[Any]
"""A model's input, of the dtype that it takes."""

_SAMPLES_MAX = 16_384
"""Values of a tensor that one image adds to its histogram."""


def quantize_model(
    model: onnx.ModelProto,
    tensors: Iterable[Tensor],
    *,
    input_scale: np.float32 | None = None,
    skip_nodes: Collection[str] = (),
    calibrator: Calibrator = Calibrator.MINMAX,
) -> onnx.ModelProto:
    """An INT8 copy of a float model, by one calibrator and without asking what it costs.

    Args:
        model: opset 13 or later, one input.
        tensors: calibration inputs, prepared exactly as for inference.
        input_scale: quantizes the input with this scale and zero point 0 instead of a measured one.
        skip_nodes: names of nodes that stay float.
        calibrator: chooses the ranges.

    Raises:
        ConfigError: there are no calibration inputs.
        IntegrityError: the tools cannot quantize the graph.
    """
    prepared = prepare(model)
    observations = observe(prepared, list(tensors))
    ranges = {name: choose_range(seen, calibrator) for name, seen in observations.items()}
    name = graph_inputs(model)[0].name
    pinned = {} if input_scale is None else {name: input_scale}
    return insert_pairs(prepared, ranges, float_nodes=skip_nodes, pinned=pinned)


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes inferred, constants folded and a name for every node.

    Raises:
        IntegrityError: ONNX Runtime cannot load it.
    """
    with tempfile.TemporaryDirectory(prefix="hardcase-quantize-") as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "prepared.onnx"
        onnx.save(model, source)
        with _tools():
            quant_pre_process(source, target, skip_symbolic_shape=True)
        prepared = onnx.load(target)
    made = {name for node in prepared.graph.node for name in node.output}
    # Optimization leaves descriptions of tensors behind that nothing computes any more.
    described = [value for value in prepared.graph.value_info if value.name in made]
    del prepared.graph.value_info[:]
    prepared.graph.value_info.extend(described)
    for position, node in enumerate(prepared.graph.node):
        node.name = node.name or f"node_{position}"
    return prepared


def observe(model: onnx.ModelProto, tensors: Iterable[Tensor]) -> dict[str, Observation]:
    """What the float tensors of a prepared model contain, by name.

    Args:
        model: of `prepare`.
        tensors: calibration inputs, gone through twice: ranges first, then histograms over them.

    Raises:
        ConfigError: there are no calibration inputs.
        IntegrityError: the model does not run on them, or computes no finite numbers.
    """
    traced = onnx.ModelProto()
    traced.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    traced.graph.output.extend(
        value
        for value in model.graph.value_info
        if value.name not in outputs and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        data = traced.SerializeToString()
        session = InferenceSession(data, options, providers=list(CPU_PROVIDERS))
        ranges: dict[str, list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]] = {}
        for tensor in tensors:
            for name, values in _run(session, tensor):
                ranges.setdefault(name, []).append(observe_range(values))
        if not ranges:
            raise ConfigError(
                "There are no calibration images", remedy="Give a directory with at least 32 images"
            )
        lows = {name: np.array([low for low, _ in rows]) for name, rows in ranges.items()}
        highs = {name: np.array([high for _, high in rows]) for name, rows in ranges.items()}
        counts = {name: np.zeros(BINS, np.int64) for name in ranges}
        for tensor in tensors:
            for name, values in _run(session, tensor):
                low, high = lows[name].min(), highs[name].max()
                if low < high:
                    every = values.reshape(-1)[:: max(1, values.size // _SAMPLES_MAX)]
                    counts[name] += count_values(every, low, high)
    except RuntimeError as error:
        raise _cannot(error) from error
    return {
        name: Observation(
            lows[name].min(axis=1),
            highs[name].max(axis=1),
            lows[name].min(axis=0),
            highs[name].max(axis=0),
            counts[name],
        )
        for name in ranges
    }


def _run(session: InferenceSession, tensor: Tensor) -> Iterable[tuple[str, Tensor]]:
    """Name and values of every float tensor with values, the input included."""
    name = session.get_inputs()[0].name
    names = [name, *(output.name for output in session.get_outputs())]
    for found, values in zip(names, [tensor, *session.run(None, {name: tensor})], strict=True):
        if values.size and values.dtype == np.float32:
            yield found, values


def insert_pairs(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    float_nodes: Collection[str] = (),
    only_nodes: Collection[str] = (),
    pinned: Mapping[str, np.float32] | None = None,
) -> onnx.ModelProto:
    """An INT8 copy of a prepared model, with QuantizeLinear/DequantizeLinear pairs.

    Args:
        model: of `prepare`.
        ranges: range of every tensor that may be quantized.
        float_nodes: names of nodes that stay float.
        only_nodes: names of the nodes to quantize; all that can be where empty.
        pinned: scale by tensor, with zero point 0, where it is known and not measured.

    Raises:
        IntegrityError: the tools cannot quantize the graph.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    overrides = {
        name: [{"scale": np.array(scale, np.float32), "zero_point": np.array(0, np.uint8)}]
        for name, scale in (pinned or {}).items()
    }
    with _tools():
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=list(only_nodes),
            nodes_to_exclude=list(float_nodes),
            op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    return result


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with INT8 weights in MatMul and Gemm, whose activations are quantized as they come.

    Raises:
        IntegrityError: the tools cannot quantize the graph.
    """
    with tempfile.TemporaryDirectory(prefix="hardcase-quantize-") as folder:
        target = Path(folder) / "dynamic.onnx"
        prepared = prepare(model)
        with _tools():
            quantize_dynamic(
                prepared,
                target,
                op_types_to_quantize=["MatMul", "Gemm"],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        return onnx.load(target)


@contextlib.contextmanager
def _tools() -> Iterator[None]:
    """Runs ONNX Runtime's tools: their errors become ours, their warnings are not repeated.

    They warn anew for every variant of what they cannot quantize as asked; what that costs is
    measured here.
    """
    logging.disable(logging.WARNING)
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise _cannot(error) from error
    finally:
        logging.disable(logging.NOTSET)


def _cannot(error: Exception) -> IntegrityError:
    return IntegrityError(
        f"ONNX Runtime's tools cannot quantize the model: {error}",
        remedy="Check that the model runs in float, and look at its unusual operators",
    )
