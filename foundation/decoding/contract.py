"""Whether what a graph puts out is what its bundle's manifest promises."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.decoding.candidates import Array
from foundation.decoding.families import yolox_grid
from foundation.errors import IntegrityError
from foundation.manifest import (
    BundleInfo,
    ClassifierOutputs,
    EndToEndOutputs,
    FastestDetOutputs,
    GridOutputs,
    Yolov5Outputs,
    Yolov8Outputs,
    YoloxOutputs,
)


def check_outputs(outputs: Mapping[str, Array], info: BundleInfo) -> None:
    """Compares the outputs of one run with what the manifest says of them.

    Raises:
        IntegrityError: an output is missing, its layout is not that of the family, or its classes
            are not as many as the labels.
    """
    spec = info.outputs
    width, height = info.input.width, info.input.height
    classes = len(info.labels)
    match spec:
        case GridOutputs():
            heatmap, box = (_output(outputs, name, 4, info) for name in (spec.heatmap, spec.box))
            classes = heatmap.shape[1]
            fits = box.shape[1:] == (4, *heatmap.shape[2:]) and all(
                abs(cells * spec.stride - side) < spec.stride
                for cells, side in zip(heatmap.shape[2:], (height, width), strict=True)
            )
        case YoloxOutputs(name=name):
            rows = _output(outputs, name, 3, info)
            classes = rows.shape[2] - 5
            fits = rows.shape[1] == len(yolox_grid(width, height, spec.strides))
        case Yolov5Outputs(name=name):
            classes = _output(outputs, name, 3, info).shape[2] - 5
            fits = classes > 0
        case Yolov8Outputs(name=name):
            classes = _output(outputs, name, 3, info).shape[1] - 4
            fits = True
        case FastestDetOutputs(name=name):
            planes = _output(outputs, name, 4, info)
            classes = planes.shape[1] - 5
            fits = classes > 0
        case EndToEndOutputs():
            boxes = _output(outputs, spec.boxes, 3, info)
            scores = _output(outputs, spec.scores, 2, info)
            named = _output(outputs, spec.class_ids, 2, info, kinds="iuf")
            fits = boxes.shape == (*scores.shape, 4) and named.shape == scores.shape
        case ClassifierOutputs(name=name):
            classes = _output(outputs, name, 2, info).shape[1]
            fits = spec.nothing is None or spec.nothing < classes
    if not fits:
        raise IntegrityError(
            f"Bundle {info.name}: outputs of the shapes "
            f"{ {name: array.shape for name, array in outputs.items()} } are not those of family "
            f"{spec.family} for input of {width}x{height}",
            remedy="Correct the outputs in the manifest and build the bundle again",
        )
    if classes != len(info.labels):
        raise IntegrityError(
            f"Bundle {info.name}: the model tells {classes} classes apart, "
            f"but there are {len(info.labels)} labels",
            remedy="Give the labels the model was trained with, one per class, in order",
        )


def _output(
    outputs: Mapping[str, Array], name: str, axes: int, info: BundleInfo, *, kinds: str = "f"
) -> Array:
    if name not in outputs:
        raise IntegrityError(
            f"Bundle {info.name}: the model has no output {name!r}, only {sorted(outputs)}",
            remedy="Correct the outputs in the manifest and build the bundle again",
        )
    array = outputs[name]
    if array.ndim != axes or array.dtype.kind not in kinds:
        raise IntegrityError(
            f"Bundle {info.name}: the output {name!r} is {array.dtype} {array.shape}, "
            f"but family {info.outputs.family} has {'floats' if kinds == 'f' else 'numbers'} "
            f"with {axes} axes",
            remedy="Correct the family in the manifest and build the bundle again",
        )
    return array
