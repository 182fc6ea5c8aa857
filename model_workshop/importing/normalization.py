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

from foundation.errors import IntegrityError
from foundation.frames import Pixels
from foundation.geometry import Letterbox
from foundation.manifest import ClassifierOutputs, EndToEndOutputs, InputContract, Outputs
from foundation.session import ModelSession
from model_workshop.importing.inputs import ImageInput
from model_workshop.importing.listed import has_rows_first
from model_workshop.importing.matching import NORMALIZED_MAX, Listed, Match, Observation
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
    turn_corners,
)
from model_workshop.onnx_files import at_least_opset

Array = npt.NDArray[Any]
_TOLERANCE = 1e-3


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
    picture: Pixels,
) -> tuple[InputContract, Outputs]:
    """Changes a lifted model to take camera bytes and to put out what a manifest can describe.

    Args:
        model: changed in place.
        image: its input.
        match: its layout.
        observed: what it put out.
        convention: how its pixels are prepared.
        picture: (height, width, 3) uint8 BGR that shows something it knows.

    Returns:
        The manifest's input and outputs.
    """
    outputs, free_batch = _finish_outputs(model, match.outputs, observed)
    free_batch = free_batch and image.free_batch
    sides = (image.height, image.width, 3)
    name = put_front(model, image.name, convention, (None if free_batch else 1, *sides))
    canvas = np.empty((2, *sides), np.uint8)
    letterbox = Letterbox(convention.letterbox, image.width, image.height)
    placement = letterbox.placement(picture.shape[1], picture.shape[0])
    letterbox.render(picture, placement, canvas[0])
    canvas[1] = canvas[0, :, ::-1]
    session = ModelSession.open(model.SerializeToString())
    alone = [session.run_once(canvas[i : i + 1]) for i in range(2)]
    if free_batch and not _takes_batches(session, canvas, alone):
        free_batch = False
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    kept = alone[0]
    if isinstance(outputs, EndToEndOutputs):
        boxes = _settle_corners(model, outputs, alone, image)
        kept[boxes] = kept.pop(outputs.boxes)
        outputs = outputs.model_copy(update={"boxes": boxes})
    keep_outputs(model, kept, free_batch=free_batch)
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
    values = observed.arrays[listed.boxes]
    names = [listed.boxes, listed.scores, listed.class_ids]
    if listed.boxes == listed.scores:
        columns = values.shape[-1]
        names[: columns - 3] = split_columns(model, listed.boxes, columns=columns)
    has_batch = values.ndim == 3
    changes = lists_what_it_found(model)
    if changes:
        names = fix_count(model, names, observed.arrays[listed.class_ids].dtype)
    elif not has_batch:
        names = [add_batch_axis(model, name) for name in names]
    choose_outputs(model, names)
    outputs = EndToEndOutputs(boxes=names[0], scores=names[1], class_ids=names[2])
    return outputs, has_batch and not changes


def _run(model: onnx.ModelProto, tensor: Array) -> dict[str, Array]:
    return ModelSession.open(model.SerializeToString()).run_once(tensor)


def _agree(first: dict[str, Array], second: dict[str, Array]) -> bool:
    return all(
        array.shape == second[name].shape
        and np.allclose(array, second[name], rtol=_TOLERANCE, atol=_TOLERANCE)
        for name, array in first.items()
    )


def _takes_batches(session: ModelSession, two: Pixels, alone: list[dict[str, Array]]) -> bool:
    """Whether two pictures at once give what each gave alone."""
    try:
        together = session.run_once(two)
    except IntegrityError:
        return False
    return all(
        array.shape[0] == 2
        and np.allclose(array, np.concatenate([a[name] for a in alone]), _TOLERANCE, _TOLERANCE)
        for name, array in together.items()
    )


def _settle_corners(
    model: onnx.ModelProto,
    outputs: EndToEndOutputs,
    alone: list[dict[str, Array]],
    image: ImageInput,
) -> str:
    """Name of the boxes as x1 y1 x2 y2 in pixels, whatever the graph lists.

    Args:
        model: changed in place.
        outputs: its outputs.
        alone: those of a picture and of its mirror image.
        image: the input.
    """
    name = outputs.boxes
    boxes, scores, class_ids = (
        [each[output][0] for each in alone]
        for output in (outputs.boxes, outputs.scores, outputs.class_ids)
    )
    seen = boxes[0][scores[0] > 0]
    # Where nothing was seen the bundle is refused anyway, for want of a smoke test.
    normalized = seen.size and seen.max() <= NORMALIZED_MAX
    if has_rows_first(boxes, scores, class_ids, 1 if normalized else image.width):
        name = turn_corners(model, name)
    if normalized:
        name = scale_boxes(model, name, image.width, image.height)
    return name
