"""Makes the model of a float bundle INT8, whatever its family, and keeps everything else.

The tail after the last convolutions stays float: it is where boxes in pixels meet scores in 0..1,
and one scale for both would round every score to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Pixels
from foundation.geometry import Letterbox
from foundation.manifest import Calibration
from model_workshop.assemble import assemble
from model_workshop.datasets import read_picture, read_split
from model_workshop.evaluation.calibrate import apply_calibration, fit_calibration
from model_workshop.evaluation.coco import detect_split, matches_of
from model_workshop.evaluation.thresholds import fit_thresholds
from model_workshop.onnx_files import at_least_opset, opset_of
from model_workshop.quantization.static import Tensor, quantize_model

IMAGES_MAX = 128
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def quantize_bundle(bundle: Bundle, images: Path, *, fit: Path | None = None) -> Bundle:
    """An INT8 version of a float bundle.

    Args:
        bundle: of any family.
        images: directory of images from the model's domain, to calibrate with.
        fit: split on whose detections score calibration and thresholds are fitted anew; without it
            scores are left raw.

    Raises:
        ConfigError: there are no images, or one cannot be read.
        IntegrityError: the model cannot be quantized, or is INT8 already.
    """
    model = at_least_opset(onnx.load_from_string(bundle.model))
    pictures = [read_picture(path) for path in calibration_images(images)]
    integer = quantize_model(
        model, _tensors(bundle, pictures), skip_nodes=tail_after_convolutions(model)
    )
    card = bundle.info.model_card.model_copy(
        update={
            "parents": (bundle.digest,),
            "script": f"model-workshop quantize, {len(pictures)} calibration images",
            "figures": {},
        }
    )
    info = bundle.info.model_copy(update={"opset": opset_of(model), "model_card": card})
    quantized = assemble(
        info, integer.SerializeToString(), bundle.smoke.pixels, thresholds=bundle.thresholds
    )
    return quantized if fit is None else _fitted(quantized, fit)


def _fitted(bundle: Bundle, directory: Path) -> Bundle:
    split = read_split(directory)
    matches = matches_of(split, detect_split(bundle, split))
    calibration: Calibration = fit_calibration(matches, split.labels)
    thresholds = fit_thresholds(apply_calibration(matches, calibration, split.labels))
    return dataclasses.replace(bundle, calibration=calibration, thresholds=thresholds)


def _tensors(bundle: Bundle, pictures: list[Pixels]) -> Iterable[Tensor]:
    """The pictures as the bundle's input contract wants them, one by one."""
    contract = bundle.info.input
    letterbox = Letterbox(bundle.info.letterbox, contract.width, contract.height)
    canvas = np.empty((contract.height, contract.width, 3), np.uint8)
    for pixels in pictures:
        placement = letterbox.placement(pixels.shape[1], pixels.shape[0])
        letterbox.render(pixels, placement, canvas)
        image: Tensor = canvas if contract.color == "BGR" else canvas[:, :, ::-1]
        if contract.dtype == "float32":
            image = (image * np.float32(contract.scale) - contract.mean) / contract.std
        if contract.layout == "NCHW":
            image = image.transpose(2, 0, 1)
        yield np.ascontiguousarray(image[None], contract.dtype)


def calibration_images(directory: Path) -> list[Path]:
    """Image files of a directory, at most `IMAGES_MAX`, evenly spread.

    Raises:
        ConfigError: there are none.
    """
    found = sorted(p for p in directory.glob("*") if p.suffix.lower() in _SUFFIXES)
    if not found:
        raise ConfigError(
            f"{directory} holds no images", remedy="Give a directory with at least 32 images"
        )
    chosen = np.linspace(0, len(found) - 1, min(IMAGES_MAX, len(found))).round().astype(int)
    return [found[index] for index in chosen]


def tail_after_convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes between the last convolutions and the outputs; unnamed ones get a name."""
    producers: dict[str, onnx.NodeProto] = {}
    for position, node in enumerate(model.graph.node):
        if not node.name:
            node.name = f"node_{position}"
        producers.update(dict.fromkeys(node.output, node))
    tail: dict[str, None] = {}
    pending = [value.name for value in model.graph.output]
    while pending:
        producer = producers.get(pending.pop())
        if producer is None or producer.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
            continue
        if producer.name not in tail:
            tail[producer.name] = None
            pending.extend(producer.input)
    return sorted(tail)
