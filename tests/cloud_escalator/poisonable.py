"""A bundle whose model fails at run time on crops that carry a poisoned pixel."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foundation.frames import Pixels
from tests.support.bundles import make_bundle


def poison(pixels: Pixels) -> Pixels:
    """A copy of a crop on which the model fails."""
    poisoned = pixels.copy()
    poisoned[-1, -1] = 255
    return poisoned


def write_poisonable_bundle(path: Path) -> Path:
    """Writes a bundle like `make_bundle` whose graph looks up a table by the last pixel.

    The table has one row; the pixel value 255 asks for a second one, which ONNX Runtime refuses
    for the whole batch.
    """
    bundle = make_bundle()
    model = onnx.load_from_string(bundle.model)
    graph = model.graph
    graph.node[-2].output[0] = "clean_heatmap"
    constants: dict[str, Any] = {
        "last": np.array([-1], np.int64),
        "end": np.array([np.iinfo(np.int64).max], np.int64),
        "row_axis": np.array([1], np.int64),
        "column_axis": np.array([2], np.int64),
        "channel_axis": np.array([3], np.int64),
        "white": np.array(255, np.int64),
        "table": np.zeros(1, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    graph.node.extend(
        [
            helper.make_node("Slice", ["image", "last", "end", "row_axis"], ["last_row"]),
            helper.make_node("Slice", ["last_row", "last", "end", "column_axis"], ["last_pixel"]),
            helper.make_node("Slice", ["last_pixel", "last", "end", "channel_axis"], ["value"]),
            helper.make_node("Cast", ["value"], ["integer"], to=TensorProto.INT64),
            helper.make_node("Div", ["integer", "white"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["looked_up"]),
            helper.make_node("Add", ["clean_heatmap", "looked_up"], ["heatmap"]),
        ]
    )
    onnx.checker.check_model(model)
    dataclasses.replace(bundle, model=bytes(model.SerializeToString())).write(path)
    return path
