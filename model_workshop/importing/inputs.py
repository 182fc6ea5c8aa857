"""The inputs of a foreign graph: which one is the picture, and how large it is.

A second input for the picture's size, as DETR exports have it, becomes a constant: boxes then come
in pixels of the model's input, as those of every other family.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from foundation.errors import ConfigError
from foundation.frames import Pixels
from foundation.manifest import SIDE_MAX_PX
from model_workshop.importing.surgery import fix_input, fold_constant
from model_workshop.onnx_files import graph_inputs, shape_of

Size = tuple[int, int]
"""Width and height in pixels."""

_KINDS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8}


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input that takes the picture.

    Attributes:
        name: of the tensor.
        dtype: uint8, float16 or float32.
        layout: order of its axes.
        width: pixels.
        height: pixels.
        free_batch: whether it declares to take any number of pictures.
        takes_size: whether a second input wanted the picture's size.
    """

    name: str
    dtype: np.dtype[np.generic]
    layout: Literal["NCHW", "NHWC"]
    width: int
    height: int
    free_batch: bool
    takes_size: bool

    def tensor(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        """A picture as something this input takes: stretched, RGB, floats of 0..1."""
        image = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        values = image[None, :, :, ::-1]
        if self.layout == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        if self.dtype != np.uint8:
            values = (values / 255).astype(self.dtype)
        return np.ascontiguousarray(values)


def settle_inputs(model: onnx.ModelProto, source: Path, size: Size | None) -> ImageInput:
    """Changes a model so that a picture of one size is its only input.

    Args:
        model: changed in place.
        source: names the model in messages.
        size: for a model that takes any; what its metadata says where absent.

    Raises:
        ConfigError: there is not one picture, there are further inputs, or no size is known.
    """
    inputs = graph_inputs(model)
    listed = ", ".join(_describe(value) for value in inputs)
    images = [v for v in inputs if len(shape_of(v)) == 4 and 3 in (shape_of(v)[1], shape_of(v)[3])]
    sizes = [v for v in inputs if v not in images and shape_of(v)[1:] == (2,)]
    if len(images) != 1 or len(sizes) > 1 or len(images) + len(sizes) != len(inputs):
        blurred = any(len(shape_of(v)) == 4 and not any(shape_of(v)[1:]) for v in inputs)
        raise ConfigError(
            f"{source} takes {listed}, not one picture of 3 channels"
            + (": all its sizes are dynamic" if blurred else ""),
            remedy="Export it with one image input (N, 3, height, width) or (N, height, width, 3) "
            "of a fixed size",
        )
    image = images[0]
    kind = image.type.tensor_type.elem_type
    if kind not in _KINDS:
        raise ConfigError(
            f"{source} takes {listed}, not pixels of uint8, float16 or float32",
            remedy="Export it with float32 input, and make it integer by `model-workshop quantize`",
        )
    shape = shape_of(image)
    layout: Literal["NCHW", "NHWC"] = "NCHW" if shape[1] == 3 else "NHWC"
    sides = shape[2:] if layout == "NCHW" else shape[1:3]
    width, height = _size(model, source, (sides[1], sides[0]), size)
    fixed = (3, height, width) if layout == "NCHW" else (height, width, 3)
    fix_input(model, image.name, (shape[0], *fixed))
    for value in sizes:
        fold_constant(model, value.name, np.array([[width, height]]))
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    free_batch = shape[0] is None
    return ImageInput(image.name, dtype, layout, width, height, free_batch, bool(sizes))


def _size(
    model: onnx.ModelProto, source: Path, stated: tuple[int | None, int | None], asked: Size | None
) -> Size:
    if asked is not None and any(s not in {None, a} for s, a in zip(stated, asked, strict=True)):
        raise ConfigError(
            f"{source} takes {stated[0] or 'any'}x{stated[1] or 'any'} pixels, "
            f"not {asked[0]}x{asked[1]}",
            remedy="Leave --size out, or export the model for another size",
        )
    hint = asked or _size_inside(model) or (None, None)
    width, height = stated[0] or hint[0], stated[1] or hint[1]
    if max(width or 0, height or 0) > SIDE_MAX_PX:
        raise ConfigError(
            f"{source} takes {width or 'any'}x{height or 'any'} pixels",
            remedy=f"Export it for sides of {SIDE_MAX_PX} pixels at most",
        )
    if width is None or height is None:
        raise ConfigError(
            f"{source} takes pictures of any size and does not say for which it was made",
            remedy="Say by --size WIDTHxHEIGHT, for example --size 640x640",
        )
    return width, height


def _size_inside(model: onnx.ModelProto) -> Size | None:
    """The size in the metadata `imgsz`, height first, as Ultralytics writes it."""
    text = next((entry.value for entry in model.metadata_props if entry.key == "imgsz"), "")
    try:
        height, width = (int(side) for side in ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, OverflowError):
        return None
    return (width, height) if min(width, height) > 0 else None


def _describe(value: onnx.ValueInfoProto) -> str:
    number = value.type.tensor_type.elem_type
    known = number in TensorProto.DataType.values()
    kind = TensorProto.DataType.Name(number).lower() if known else f"type {number}"
    sizes = ", ".join("any" if size is None else str(size) for size in shape_of(value))
    return f"{value.name} {kind} ({sizes})"
