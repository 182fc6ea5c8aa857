"""From a dataset to a calibrated bundle: what `model-workshop train` does, step by step.

Two kinds of model. A *frame* model sees whole frames, letterboxed, and becomes INT8: the edge. A
*crop* model sees native pixels around a place and stays float: the cloud. Training goes on in a
working folder until its budget is spent; finishing exports the averaged weights, quantizes, fits
calibration and thresholds on the validation split with the very model that ships, and writes down
what the test split says.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels
from foundation.geometry import Interpolation, Letterbox, LetterboxSpec, crop_region
from foundation.manifest import (
    BundleInfo,
    Calibration,
    GridOutputs,
    InputContract,
    ModelCard,
    Postprocess,
    Thresholds,
)
from model_workshop.assemble import RUNTIME_MIN, assemble
from model_workshop.datasets import Picture, Split, read_split
from model_workshop.evaluation.calibrate import (
    apply_calibration,
    calibration_error,
    fit_calibration,
)
from model_workshop.evaluation.coco import detect_split, matches_of, score_detections
from model_workshop.evaluation.matching import OperatingPoint, best_operating_point, operating_point
from model_workshop.evaluation.proposals import (
    CROP_QUALITY,
    CROP_SIDE_PX,
    detect_at_proposals,
    mistaken_places,
)
from model_workshop.evaluation.thresholds import fit_thresholds, score_floor
from model_workshop.quantization.static import quantize_model
from model_workshop.training import export
from model_workshop.training.checkpoints import trained_checkpoint
from model_workshop.training.loop import Lesson, TrainingPlan, train
from model_workshop.training.nets import CLOUD, EDGE, STRIDE, GridDetector, NetShape
from model_workshop.training.sampling import CropSampler, FrameSampler, Sampler

_CALIBRATION_FRAMES = 64
_CROP_PICTURES = 100
"""Pictures that a crop model is measured on; each asks for dozens of crops."""
_NMS_IOU = 0.3
_SCORE_FLOOR = 0.02
_SMOKE_MARGIN = 0.1


class Kind(enum.StrEnum):
    """What a model looks at."""

    FRAME = "frame"
    CROP = "crop"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a bundle, apart from the data.

    Attributes:
        kind: whole frames or native crops.
        name: of the bundle.
        version: of the bundle.
        shape: of the net; `classes` is replaced by the dataset's.
        width: of the model's input.
        height: of the model's input.
        window: width and height of a training sample.
        plan: how it is trained.
    """

    kind: Kind
    name: str
    version: str
    shape: NetShape
    width: int
    height: int
    window: tuple[int, int]
    plan: TrainingPlan

    @property
    def letterbox(self) -> LetterboxSpec:
        """How pixels get in: averaged down at the edge, never enlarged more than twice."""
        return LetterboxSpec(interpolation=Interpolation.HALVING, scale_max=2.0)


def edge_recipe(plan: TrainingPlan) -> Recipe:
    """The shipped edge model: 416x320, INT8."""
    return Recipe(Kind.FRAME, "edge-reference", "1", EDGE, 416, 320, (208, 160), plan)


def cloud_recipe(plan: TrainingPlan) -> Recipe:
    """The shipped cloud model: native crops of 192 px, float."""
    side = CROP_SIDE_PX
    return Recipe(Kind.CROP, "cloud-reference", "1", CLOUD, side, side, (side, side), plan)


def train_recipe(
    recipe: Recipe, dataset: Path, folder: Path, *, proposer: Bundle | None = None
) -> GridDetector:
    """Trains the recipe's net on DATASET/train, or goes on where `folder` stopped.

    Args:
        recipe: what to train.
        dataset: directory of splits.
        folder: holds checkpoints and the log.
        proposer: for a crop model, a frame model whose mistakes on the training frames are shown
            to it as places with nothing.
    """
    split = read_split(dataset / "train")
    torch.manual_seed(recipe.plan.seed)
    net = GridDetector(_shape(recipe, split))
    return train(net, Lesson(_sampler(recipe, split, proposer)), recipe.plan, folder)


def _shape(recipe: Recipe, split: Split) -> NetShape:
    return dataclasses.replace(recipe.shape, classes=len(split.labels))


def _sampler(recipe: Recipe, split: Split, proposer: Bundle | None) -> Sampler:
    if recipe.kind is Kind.FRAME:
        letterbox = Letterbox(recipe.letterbox, recipe.width, recipe.height)
        return FrameSampler(split.pictures, letterbox, (recipe.width, recipe.height), recipe.window)
    quiet = mistaken_places(proposer, split) if proposer else None
    random = np.random.default_rng(recipe.plan.seed)
    return CropSampler(
        split.pictures, recipe.width, random, quiet_places=quiet, quality=CROP_QUALITY
    )


def finish(
    recipe: Recipe, dataset: Path, folder: Path, *, proposer: Bundle | None = None, script: str = ""
) -> Bundle:
    """A calibrated bundle of what training in `folder` has come to.

    Args:
        recipe: what was trained.
        dataset: directory of splits; `val` fits calibration and thresholds, `test` is reported.
        folder: holds the checkpoint.
        proposer: the frame model that says where a crop model will be asked; required for crops.
        script: the command that made it, for the model card.

    Raises:
        ConfigError: there is no checkpoint, or a crop model has no proposer.
    """
    train_split = read_split(dataset / "train")
    net = trained_checkpoint(folder).averaged_net()
    card = ModelCard(
        description=f"GridDetector for {recipe.kind.value}s, trained on the reference line",
        parents=(proposer.digest,) if proposer else (),
        dataset=_dataset_recipe(dataset),
        script=script,
        seed=recipe.plan.seed,
    )
    dynamic = recipe.kind is Kind.CROP
    info = _info(recipe, train_split.labels, card)
    core = export.export_core(net, width=recipe.width, height=recipe.height, dynamic_batch=dynamic)
    ends: dict[str, Any] = {
        "width": recipe.width,
        "height": recipe.height,
        "classes": len(train_split.labels),
        "dynamic_batch": dynamic,
    }
    exported = export.wrap(core, **ends).SerializeToString()
    smoke = _smoke_pixels(recipe, dataset)
    draft = assemble(info, exported, smoke)
    if recipe.kind is Kind.FRAME:
        tensors = _calibration_tensors(recipe, train_split.pictures)
        integer = quantize_model(core, tensors, input_scale=export.PIXEL_SCALE)
        quantized = export.wrap(integer, **ends).SerializeToString()
        return _finish_frames(assemble(info, quantized, smoke), draft, dataset)
    if proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    return _finish_crops(draft, proposer, dataset)


def _finish_frames(bundle: Bundle, floating: Bundle, dataset: Path) -> Bundle:
    val, test = read_split(dataset / "val"), read_split(dataset / "test")
    fitted = matches_of(val, detect_split(bundle, val))
    calibration = fit_calibration(fitted, val.labels)
    thresholds = fit_thresholds(apply_calibration(fitted, calibration, val.labels))
    found, found_float = detect_split(bundle, test), detect_split(floating, test)
    figures = _figures(test, found, calibration, thresholds)
    figures["float"] = {"map50": _rounded(score_detections(test, found_float).map50)}
    return _with(bundle, calibration, thresholds, figures)


def _finish_crops(bundle: Bundle, proposer: Bundle, dataset: Path) -> Bundle:
    val = read_split(dataset / "val", images_max=_CROP_PICTURES)
    test = read_split(dataset / "test", images_max=_CROP_PICTURES)
    fitted = matches_of(val, detect_at_proposals(bundle, proposer, val))
    calibration = fit_calibration(fitted, val.labels)
    thresholds = fit_thresholds(apply_calibration(fitted, calibration, val.labels))
    found = detect_at_proposals(bundle, proposer, test)
    return _with(bundle, calibration, thresholds, _figures(test, found, calibration, thresholds))


def _with(
    bundle: Bundle, calibration: Calibration, thresholds: Thresholds, figures: dict[str, Any]
) -> Bundle:
    card = bundle.info.model_card.model_copy(update={"figures": figures})
    floor = score_floor(calibration, thresholds, bundle.labels)
    postprocess = bundle.info.postprocess.model_copy(update={"score_floor": floor})
    info = bundle.info.model_copy(update={"model_card": card, "postprocess": postprocess})
    # The smoke test was made under a lower floor: what is below the new one is no longer found,
    # and what is only just above it not on every processor.
    expected = bundle.smoke.expected
    sure_from = min(floor + _SMOKE_MARGIN, float(expected.scores.max()))
    smoke = dataclasses.replace(bundle.smoke, expected=expected.take(expected.scores >= sure_from))
    return dataclasses.replace(
        bundle, info=info, calibration=calibration, thresholds=thresholds, smoke=smoke
    )


def _figures(
    split: Split, found: Sequence[Detections], calibration: Calibration, thresholds: Thresholds
) -> dict[str, Any]:
    """What the model card says, measured on a held-out split in single pictures."""
    evaluation = score_detections(split, found)
    raw = matches_of(split, found)
    matches = apply_calibration(raw, calibration, split.labels)
    report = thresholds.default.report
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


def _info(recipe: Recipe, labels: tuple[str, ...], card: ModelCard) -> BundleInfo:
    return BundleInfo(
        name=recipe.name,
        version=recipe.version,
        license="Apache-2.0",
        labels=labels,
        input=InputContract(
            name=export.IMAGE,
            dtype="uint8",
            layout="NHWC",
            width=recipe.width,
            height=recipe.height,
            dynamic_batch=recipe.kind is Kind.CROP,
        ),
        letterbox=recipe.letterbox,
        outputs=GridOutputs(heatmap=export.HEATMAP, box=export.BOX, stride=STRIDE),
        postprocess=Postprocess(score_floor=_SCORE_FLOOR, nms_iou=_NMS_IOU, detections_max=100),
        opset=export.OPSET,
        runtime_min=RUNTIME_MIN,
        model_card=card,
    )


def _dataset_recipe(dataset: Path) -> str:
    """What the dataset says of itself, and how large it is."""
    document = json.loads((dataset / "train" / "instances.json").read_text(encoding="utf-8"))
    return json.dumps(
        {
            "info": document.get("info", {}),
            "images": len(document["images"]),
            "annotations": len(document["annotations"]),
        },
        sort_keys=True,
    )


def _calibration_tensors(
    recipe: Recipe, pictures: Sequence[Picture]
) -> Iterable[npt.NDArray[np.float32]]:
    """Training frames as the net's float input, through the letterbox of inference."""
    letterbox = Letterbox(recipe.letterbox, recipe.width, recipe.height)
    chosen = np.linspace(0, len(pictures) - 1, min(_CALIBRATION_FRAMES, len(pictures)))
    canvas = np.empty((recipe.height, recipe.width, 3), np.uint8)
    for index in chosen.round().astype(int):
        picture = pictures[index]
        letterbox.render(picture.read(), letterbox.placement(picture.width, picture.height), canvas)
        tensor = canvas.transpose(2, 0, 1)[None].astype(np.float32) * export.PIXEL_SCALE
        yield np.ascontiguousarray(tensor, np.float32)


def _smoke_pixels(recipe: Recipe, dataset: Path) -> Pixels:
    """The input around the validation objects that are easiest to see: the picture with most."""
    split = read_split(dataset / "val")
    picture = max(split.pictures, key=lambda candidate: len(candidate.boxes))
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
