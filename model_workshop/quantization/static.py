"""Static INT8: calibration on real inputs, then QuantizeLinear/DequantizeLinear pairs in the graph.

Uses ONNX Runtime's quantization tools, the one use of onnxruntime outside `foundation.session`.
uint8 activations with int8 weights per output channel (what VNNI multiplies), MinMax calibration
(a percentile cost 0.08 F1 on this kind of net, docs/models.md), no reduced range.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from foundation.errors import ConfigError, IntegrityError
from model_workshop.onnx_files import graph_inputs

Tensor = npt.NDArray[Any]
"""A model's input, of the dtype that it takes."""


class _Tensors(CalibrationDataReader):
    """Feeds calibration tensors to the tools, one at a time."""

    def __init__(self, name: str, tensors: Iterable[Tensor]) -> None:
        self._name = name
        self._tensors: Iterator[Tensor] = iter(tensors)

    def get_next(self) -> dict[str, Tensor] | None:
        tensor = next(self._tensors, None)
        return None if tensor is None else {self._name: tensor}


def quantize_model(
    model: onnx.ModelProto,
    tensors: Iterable[Tensor],
    *,
    input_scale: np.float32 | None = None,
    skip_nodes: list[str] | None = None,
) -> onnx.ModelProto:
    """An INT8 copy of a float model.

    Args:
        model: opset 13 or later, one input.
        tensors: calibration inputs, prepared exactly as for inference.
        input_scale: quantizes the input with this scale and zero point 0 instead of a measured one.
        skip_nodes: names of nodes that stay float.

    Raises:
        ConfigError: there are no calibration inputs.
        IntegrityError: the tools cannot quantize the graph.
    """
    name = graph_inputs(model)[0].name
    overrides: dict[str, list[dict[str, Any]]] = {}
    if input_scale is not None:
        pinned = {"scale": np.array(input_scale), "zero_point": np.array(0, np.uint8)}
        overrides[name] = [pinned]
    listed = list(tensors)
    if not listed:
        raise ConfigError(
            "There are no calibration images", remedy="Give a directory with at least 32 images"
        )
    with tempfile.TemporaryDirectory(prefix="hardcase-quantize-") as folder:
        source, clean, target = (Path(folder) / n for n in ("in.onnx", "pre.onnx", "out.onnx"))
        onnx.save(model, source)
        try:
            quant_pre_process(source, clean, skip_symbolic_shape=True)
            quantize_static(
                clean,
                target,
                _Tensors(name, listed),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=skip_nodes or [],
                extra_options={"TensorQuantOverrides": overrides},
            )
        except (ValueError, RuntimeError) as error:
            raise IntegrityError(
                f"ONNX Runtime's tools cannot quantize the model: {error}",
                remedy="Check that the model runs in float, and look at its unusual operators",
            ) from error
        return onnx.load(target)
