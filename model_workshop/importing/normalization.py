"""From a foreign graph to one that the services run, and the proof that it still says the same.

A lifted opset is compared with the original by running both; a free batch is believed only after
two pictures at once have given what each gave alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from foundation.errors import HardcaseError, IntegrityError
from foundation.frames import Pixels
from foundation.manifest import ClassifierOutputs, EndToEndOutputs, InputContract, Outputs
from foundation.session import ModelSession
from model_workshop.importing.inputs import ImageInput
from model_workshop.importing.layouts import Listed, Match, Observation
from model_workshop.importing.preparations import Convention
from model_workshop.importing.surgery import (
    add_batch_axis,
    choose_outputs,
    fix_count,
    flatten,
    keep_outputs,
    lists_what_it_found,
    make_outputs_float,
    put_front,
    scale_boxes,
    split_columns,
)
from model_workshop.onnx_files import at_least_opset

Array = npt.NDArray[Any]
_TOLERANCE = 1e-3
_NORMALIZED_MAX = 2.0
"""Coordinates up to here are sides of the input, not pixels; boxes may reach past the border."""


def lift(
    model: onnx.ModelProto, image: ImageInput, picture: Pixels, source: Path
) -> tuple[onnx.ModelProto, Observation]:
    """The model in an opset that quantizes, with float outputs, and what it puts out.

    Args:
        model: settled on one input.
        image: that input.
        picture: (height, width, 3) uint8 BGR of any size.
        source: names the model in messages.

    Raises:
        IntegrityError: it does not load or run, cannot be lifted, says something else when it is,
            or puts out what is no number.
    """
    tensor = image.tensor(picture)
    make_outputs_float(model)
    before = _run(model, tensor)
    lifted = at_least_opset(model)
    if lifted is not model and not _agree(before, _run(lifted, tensor)):
        raise IntegrityError(
            f"{source} gives other outputs after its opset was lifted",
            remedy="Export it again with opset 13 or newer",
        )
    for name, array in before.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise IntegrityError(
                f"{source} puts out values in {name!r} that are not finite numbers",
                remedy="Its weights are damaged, or it overflows: export it again",
            )
    return lifted, Observation(before, image.width, image.height, image.takes_size)


def finish(
    model: onnx.ModelProto,
    image: ImageInput,
    match: Match,
    observed: Observation,
    convention: Convention,
) -> tuple[InputContract, Outputs]:
    """Changes a lifted model to take camera bytes and to put out what a manifest can describe.

    Args:
        model: changed in place.
        image: its input.
        match: its layout.
        observed: what it put out.
        convention: how its pixels are prepared.

    Returns:
        The manifest's input and outputs.
    """
    outputs, free_batch = _finish_outputs(model, match.outputs, observed)
    free_batch = free_batch and image.free_batch
    sides = (image.height, image.width, 3)
    name = put_front(model, image.name, convention, (None if free_batch else 1, *sides))
    rng = np.random.default_rng(0)
    two = rng.integers(0, 256, (2, *sides), np.uint8)
    session = ModelSession.open(model.SerializeToString())
    alone = session.run_once(two[:1])
    if free_batch and not _takes_batches(session, two, alone):
        free_batch = False
        put_back = model.graph.input[0].type.tensor_type.shape.dim[0]
        put_back.dim_value = 1
    keep_outputs(model, alone, free_batch=free_batch)
    contract = InputContract(
        name=name,
        dtype="uint8",
        layout="NHWC",
        width=image.width,
        height=image.height,
        dynamic_batch=free_batch,
    )
    return contract, outputs


def _finish_outputs(
    model: onnx.ModelProto, outputs: Outputs | Listed, observed: Observation
) -> tuple[Outputs, bool]:
    """The manifest's outputs, and whether they may be of several pictures."""
    if isinstance(outputs, Listed):
        return _finish_list(model, outputs, observed)
    if isinstance(outputs, ClassifierOutputs) and observed.arrays[outputs.name].ndim != 2:
        outputs = outputs.model_copy(update={"name": flatten(model, outputs.name)})
    names = outputs.model_dump(include={"name", "heatmap", "box"}).values()
    choose_outputs(model, [str(name) for name in names])
    return outputs, True


def _finish_list(
    model: onnx.ModelProto, listed: Listed, observed: Observation
) -> tuple[EndToEndOutputs, bool]:
    boxes, scores, class_ids = listed.boxes, listed.scores, listed.class_ids
    values, class_kind = observed.arrays[boxes], observed.arrays[class_ids].dtype
    has_batch = values.ndim == 3
    if boxes == scores:
        values = values[..., :4]
        boxes, scores, class_ids = split_columns(model, boxes)
    if values.size and 0 < values.max() <= _NORMALIZED_MAX:
        boxes = scale_boxes(model, boxes, observed.width, observed.height)
    free_batch = False
    if lists_what_it_found(model):
        boxes, scores, class_ids = fix_count(model, boxes, scores, class_ids, class_kind)
    elif has_batch:
        free_batch = True
    else:
        boxes, scores, class_ids = (add_batch_axis(model, n) for n in (boxes, scores, class_ids))
    choose_outputs(model, [boxes, scores, class_ids])
    return EndToEndOutputs(boxes=boxes, scores=scores, class_ids=class_ids), free_batch


def _run(model: onnx.ModelProto, tensor: Array) -> dict[str, Array]:
    return ModelSession.open(model.SerializeToString()).run_once(tensor)


def _agree(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return all(
        array.shape == second[name].shape
        and np.allclose(array, second[name], rtol=_TOLERANCE, atol=_TOLERANCE)
        for name, array in first.items()
    )


def _takes_batches(session: ModelSession, two: Array, alone: dict[str, Array]) -> bool:
    """Whether two pictures at once give for the first what it gave alone."""
    try:
        together = session.run_once(two)
    except HardcaseError:
        return False
    return all(
        array.shape[0] == 2 and np.allclose(array[:1], alone[name], _TOLERANCE, _TOLERANCE)
        for name, array in together.items()
    )
