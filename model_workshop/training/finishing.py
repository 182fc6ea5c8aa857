"""From a run's folder to a calibrated bundle.

Finishing exports the averaged weights, quantizes a frame model, fits calibration and thresholds on
the validation split with the very model that ships, and writes down what the test split says.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels
from foundation.geometry import Letterbox, crop_region
from foundation.manifest import ModelCard
from model_workshop.assemble import assemble
from model_workshop.calibration.fitting import fit_scores, score_split, with_scores
from model_workshop.datasets import Picture, Split, split_digest
from model_workshop.evaluation.calibrate import apply_calibration, calibration_error
from model_workshop.evaluation.coco import detect_split, matches_of, score_detections
from model_workshop.evaluation.matching import OperatingPoint, best_operating_point, operating_point
from model_workshop.evaluation.proposals import detect_at_proposals
from model_workshop.quantization.static import quantize_model
from model_workshop.training import export
from model_workshop.training.checkpoints import trained_checkpoint
from model_workshop.training.recipe import Kind, Material, Recipe, bundle_info, spread

_CALIBRATION_FRAMES = 64
_CROP_PICTURES = 100
"""Pictures that a crop model is measured on; each asks for dozens of crops."""


@dataclass(frozen=True, slots=True)
class Drafts:
    """Bundles of one net with raw scores: float, and INT8 where it is a frame model's."""

    floating: Bundle
    integer: Bundle | None


def finish(
    recipe: Recipe,
    material: Material,
    folder: Path,
    *,
    proposer: Bundle | None = None,
    script: str = "",
) -> Bundle:
    """A calibrated bundle of what training in `folder` has come to.

    Args:
        recipe: what was trained; the shape is the checkpoint's.
        material: `val` fits calibration and thresholds, `test` is reported.
        folder: holds the checkpoint.
        proposer: the frame model that says where a crop model will be asked; required for crops.
        script: the command that made it, for the model card.

    Raises:
        ConfigError: there is no checkpoint, or a crop model has no proposer.
    """
    if recipe.kind is Kind.CROP and proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    drafts = draft(recipe, material, folder, proposer=proposer, script=script)
    bundle = drafts.integer or drafts.floating
    val, test = material.val, material.test
    if recipe.kind is Kind.CROP:
        val, test = (_some(split) for split in (val, test))
    fitted = with_scores(bundle, fit_scores(score_split(bundle, val, proposer=proposer)))
    figures = _figures(test, _detect(bundle, test, proposer), fitted)
    if drafts.integer is not None:
        floating = score_detections(test, detect_split(drafts.floating, test))
        figures["float"] = {
            "map50_95": _rounded(floating.map50_95),
            "map50": _rounded(floating.map50),
        }
    card = fitted.info.model_card.model_copy(update={"figures": figures})
    info = fitted.info.model_copy(update={"model_card": card})
    return dataclasses.replace(fitted, info=info)


def draft(
    recipe: Recipe,
    material: Material,
    folder: Path,
    *,
    proposer: Bundle | None = None,
    script: str = "",
) -> Drafts:
    """Bundles of what training in `folder` has come to, with raw scores.

    Raises:
        ConfigError: there is no checkpoint.
    """
    checkpoint = trained_checkpoint(folder)
    net = checkpoint.averaged_net()
    story = [*checkpoint.facts.get("story", ()), f"{checkpoint.step} steps"]
    card = ModelCard(
        description=f"GridDetector for {recipe.kind.value}s ({', '.join(story)})",
        parents=(proposer.digest,) if proposer else (),
        dataset=json.dumps([_described(split) for split in material.train], sort_keys=True),
        dataset_digests=_digests(material),
        script=script,
        seed=recipe.plan.seed,
    )
    info = bundle_info(recipe, material.labels, card)
    dynamic = recipe.kind is Kind.CROP
    sides: dict[str, Any] = {"width": recipe.width, "height": recipe.height}
    ends: dict[str, Any] = {**sides, "classes": len(material.labels), "dynamic_batch": dynamic}
    core = export.export_core(net, **sides, dynamic_batch=dynamic)
    smoke = _smoke_pixels(recipe, material.val)
    floating = assemble(info, export.wrap(core, **ends).SerializeToString(), smoke)
    if recipe.kind is Kind.CROP:
        return Drafts(floating, None)
    tensors = calibration_tensors(recipe, material.pictures)
    integer = quantize_model(core, tensors, input_scale=export.PIXEL_SCALE)
    return Drafts(floating, assemble(info, export.wrap(integer, **ends).SerializeToString(), smoke))


def calibration_tensors(
    recipe: Recipe, pictures: Sequence[Picture]
) -> Iterable[npt.NDArray[np.float32]]:
    """Training frames as the net's float input, through the letterbox of inference."""
    letterbox = Letterbox(recipe.letterbox, recipe.width, recipe.height)
    canvas = np.empty((recipe.height, recipe.width, 3), np.uint8)
    for picture in spread(pictures, _CALIBRATION_FRAMES):
        letterbox.render(picture.read(), letterbox.placement(picture.width, picture.height), canvas)
        tensor = canvas.transpose(2, 0, 1)[None].astype(np.float32) * export.PIXEL_SCALE
        yield np.ascontiguousarray(tensor, np.float32)


def _some(split: Split) -> Split:
    return dataclasses.replace(split, pictures=tuple(spread(split.pictures, _CROP_PICTURES)))


def _detect(bundle: Bundle, split: Split, proposer: Bundle | None) -> list[Detections]:
    if proposer is None:
        return detect_split(bundle, split)
    return detect_at_proposals(bundle, proposer, split)


def _figures(split: Split, found: Sequence[Detections], bundle: Bundle) -> dict[str, Any]:
    """What the model card says, measured on a held-out split in single pictures."""
    evaluation = score_detections(split, found)
    raw = matches_of(split, found)
    matches = apply_calibration(raw, bundle.calibration, split.labels)
    report = bundle.thresholds.default.report
    total = operating_point(matches.scores, matches.hits, int(matches.objects.sum()), report)
    by_class = {}
    for class_id, label in enumerate(split.labels):
        own = matches.of(class_id)
        by_class[label] = _point(
            operating_point(own.scores, own.hits, int(own.objects.sum()), report)
        )
    return {
        "split": split.directory.name,
        "images": evaluation.images,
        "objects": int(matches.objects.sum()),
        "map50_95": _rounded(evaluation.map50_95),
        "map50": _rounded(evaluation.map50),
        "at_report_threshold": _point(total),
        "by_class": by_class,
        "best_f1_on_this_split": _rounded(
            best_operating_point(matches.scores, matches.hits, int(matches.objects.sum())).f1
        ),
        "calibration_error": {
            "raw": _rounded(calibration_error(raw.scores, raw.hits)),
            "calibrated": _rounded(calibration_error(matches.scores, matches.hits)),
        },
    }


def _point(point: OperatingPoint) -> dict[str, float]:
    return {
        "precision": _rounded(point.precision),
        "recall": _rounded(point.recall),
        "f1": _rounded(point.f1),
    }


def _rounded(value: float) -> float:
    return round(value, 4)


def _described(split: Split) -> dict[str, Any]:
    """What a split says of itself, and how large it is."""
    document = json.loads(split.annotation_path.read_text(encoding="utf-8"))
    return {
        "info": document.get("info", {}),
        "images": len(document["images"]),
        "annotations": len(document["annotations"]),
    }


def _digests(material: Material) -> dict[str, str]:
    """What the splits hold, by what they were for."""
    train = {
        "train" if number == 0 else f"train-{number + 1}": split_digest(split)
        for number, split in enumerate(material.train)
    }
    return {**train, "scores": split_digest(material.val), "test": split_digest(material.test)}


def _smoke_pixels(recipe: Recipe, val: Split) -> Pixels:
    """The input around the validation objects that are easiest to see: the picture with most."""
    picture = max(val.pictures, key=lambda candidate: len(candidate.boxes))
    pixels = picture.read()
    if recipe.kind is Kind.FRAME:
        # Already at the model's size: the same input in a tenth of the bytes.
        letterbox = Letterbox(recipe.letterbox, recipe.width, recipe.height)
        canvas = np.empty((recipe.height, recipe.width, 3), np.uint8)
        letterbox.render(pixels, letterbox.placement(picture.width, picture.height), canvas)
        return canvas
    box = max(picture.boxes, key=lambda row: (row[2] - row[0]) * (row[3] - row[1]))
    region = crop_region(
        box,
        margin=1.0,
        side_min_px=recipe.width,
        frame_width=picture.width,
        frame_height=picture.height,
    )
    return np.ascontiguousarray(pixels[region.y1 : region.y2, region.x1 : region.x2])
