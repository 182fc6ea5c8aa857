"""What is trained: which kind of model, of which shape, on what; and what its run says of it.

Two kinds of model. A *frame* model sees whole frames, letterboxed, and becomes INT8: the edge. A
*crop* model sees native pixels around a place and stays float: the cloud.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.geometry import Interpolation, Letterbox, LetterboxSpec
from foundation.manifest import (
    BundleInfo,
    GridOutputs,
    InputContract,
    ModelCard,
    Postprocess,
)
from model_workshop.assemble import RUNTIME_MIN
from model_workshop.datasets import Picture, Split, read_split
from model_workshop.evaluation.proposals import CROP_QUALITY, CROP_SIDE_PX, mistaken_places
from model_workshop.training import export
from model_workshop.training.checkpoints import Checkpoint, State
from model_workshop.training.lessons import TrainingPlan
from model_workshop.training.nets import CLOUD, EDGE, STRIDE, NetShape
from model_workshop.training.sampling import CropSampler, FrameSampler, Sample, Sampler
from model_workshop.training.teaching import Opinions
from model_workshop.training.validation import Validator

WINDOW = (208, 160)
"""Width and height of a training sample of a frame model, where frames are at least as large."""

_NMS_IOU = 0.3
_SCORE_FLOOR = 0.02
_VALIDATION_FRAMES = 48
_VALIDATION_CROPS = 96
_VALIDATION_CROP_PICTURES = 16


class Kind(enum.StrEnum):
    """What a model looks at."""

    FRAME = "frame"
    CROP = "crop"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a net, apart from the data.

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
        """How pixels get in: averaged down at the edge; native crops as they are, however small."""
        scale_max = 1.0 if self.kind is Kind.CROP else 2.0
        return LetterboxSpec(interpolation=Interpolation.HALVING, scale_max=scale_max)

    def facts(self) -> State:
        """What a checkpoint keeps, so that whoever goes on from it need not be told."""
        return {
            "kind": self.kind.value,
            "name": self.name,
            "version": self.version,
            "width": self.width,
            "height": self.height,
            "window": list(self.window),
        }


def edge_recipe(plan: TrainingPlan) -> Recipe:
    """The shipped edge model: 416x320, INT8."""
    return Recipe(Kind.FRAME, "edge-reference", "1", EDGE, 416, 320, WINDOW, plan)


def cloud_recipe(plan: TrainingPlan) -> Recipe:
    """The shipped cloud model: native crops of 192 px, float."""
    side = CROP_SIDE_PX
    return Recipe(Kind.CROP, "cloud-reference", "1", CLOUD, side, side, (side, side), plan)


def recipe_of(checkpoint: Checkpoint, plan: TrainingPlan) -> Recipe:
    """The recipe that a run went by, with another plan.

    Raises:
        ConfigError: the checkpoint does not say.
    """
    try:
        facts = dict(checkpoint.facts["recipe"])
        window = tuple(facts.pop("window"))
        kind = Kind(facts.pop("kind"))
        return Recipe(kind=kind, shape=checkpoint.shape, window=window, plan=plan, **facts)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The checkpoint does not say what it was trained for ({error})",
            remedy="Go on from the folder of model-workshop train, distil, prune or finetune",
        ) from error


def check_size(recipe: Recipe) -> None:
    """Compares the sizes of a recipe with what its net can halve.

    Raises:
        ConfigError: a side is not a multiple of the deepest stride, or a window exceeds the input.
    """
    deepest = STRIDE * 2 ** (len(recipe.shape.widths) - 1)
    for what, sides in (("input", (recipe.width, recipe.height)), ("window", recipe.window)):
        if any(side <= 0 or side % deepest for side in sides):
            raise ConfigError(
                f"The {what} of {sides[0]}x{sides[1]} cannot be halved down to the net's deepest "
                "stride",
                remedy=f"Choose multiples of {deepest}",
            )
    if recipe.window[0] > recipe.width or recipe.window[1] > recipe.height:
        raise ConfigError(
            f"Windows of {recipe.window[0]}x{recipe.window[1]} do not fit into an input of "
            f"{recipe.width}x{recipe.height}",
            remedy="Choose smaller windows (--window)",
        )


@dataclass(frozen=True, slots=True)
class Material:
    """The splits that a model is made from.

    Attributes:
        train: splits of one or more datasets, to train on.
        val: fits calibration and thresholds, and says how training goes.
        test: only reported.
    """

    train: tuple[Split, ...]
    val: Split
    test: Split

    @staticmethod
    def read(datasets: Sequence[Path]) -> Material:
        """Reads `train` of every dataset, `val` and `test` of the first.

        Raises:
            ConfigError: a split is not what it should be, or their labels differ.
        """
        train = tuple(read_split(dataset / "train") for dataset in datasets)
        val, test = (read_split(datasets[0] / name) for name in ("val", "test"))
        for split in (*train[1:], val, test):
            if split.labels != train[0].labels:
                raise ConfigError(
                    f"{split.directory} has the labels {', '.join(split.labels)}, but "
                    f"{train[0].directory} has {', '.join(train[0].labels)}",
                    remedy="Give datasets of the same labels in the same order",
                )
        return Material(train, val, test)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, by class index."""
        return self.train[0].labels

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All training pictures, dataset by dataset."""
        return tuple(picture for split in self.train for picture in split.pictures)


def shape_for(recipe: Recipe, material: Material) -> NetShape:
    """The recipe's shape, with the classes of the data."""
    return dataclasses.replace(recipe.shape, classes=len(material.labels))


def sampler_for(
    recipe: Recipe,
    material: Material,
    *,
    proposer: Bundle | None = None,
    opinions: Opinions | None = None,
) -> Sampler:
    """What draws the recipe's training samples.

    Args:
        recipe: what is trained.
        material: what it is trained on.
        proposer: for a crop model, a frame model whose mistakes on the training frames are shown
            to it as places with nothing.
        opinions: for a frame model, what a teacher says of the training pictures.
    """
    if recipe.kind is Kind.FRAME:
        return _frames(recipe, material.pictures, opinions)
    quiet = [
        places
        for split in material.train
        for places in (mistaken_places(proposer, split).values() if proposer else ())
    ]
    random = np.random.default_rng(recipe.plan.seed)
    return CropSampler(
        material.pictures, recipe.width, random, quiet_places=quiet, quality=CROP_QUALITY
    )


def validator_for(recipe: Recipe, material: Material) -> Validator:
    """Judges a net of the recipe on some validation samples, always the same ones."""
    pictures = material.val.pictures
    samples: list[Sample]
    if recipe.kind is Kind.FRAME:
        frames = _frames(recipe, spread(pictures, _VALIDATION_FRAMES), None)
        samples = [frames.whole(index) for index in range(min(_VALIDATION_FRAMES, len(pictures)))]
    else:
        random = np.random.default_rng(recipe.plan.seed)
        crops = CropSampler(
            spread(pictures, _VALIDATION_CROP_PICTURES), recipe.width, random, quality=CROP_QUALITY
        )
        samples = [crops.draw(random) for _ in range(_VALIDATION_CROPS)]
    return Validator(samples, bundle_info(recipe, material.labels, ModelCard()))


def _frames(recipe: Recipe, pictures: Sequence[Picture], opinions: Opinions | None) -> FrameSampler:
    size = (recipe.width, recipe.height)
    letterbox = Letterbox(recipe.letterbox, *size)
    return FrameSampler(pictures, letterbox, size, recipe.window, opinions=opinions)


def spread(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """At most so many pictures, evenly spread."""
    chosen = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)
    return [pictures[index] for index in chosen]


def bundle_info(recipe: Recipe, labels: tuple[str, ...], card: ModelCard) -> BundleInfo:
    """The manifest's part that an author writes."""
    contract: dict[str, Any] = {
        "width": recipe.width,
        "height": recipe.height,
        "dynamic_batch": recipe.kind is Kind.CROP,
    }
    return BundleInfo(
        name=recipe.name,
        version=recipe.version,
        license="Apache-2.0",
        labels=labels,
        input=InputContract(name=export.IMAGE, dtype="uint8", layout="NHWC", **contract),
        letterbox=recipe.letterbox,
        outputs=GridOutputs(heatmap=export.HEATMAP, box=export.BOX, stride=STRIDE),
        postprocess=Postprocess(score_floor=_SCORE_FLOOR, nms_iou=_NMS_IOU, detections_max=100),
        opset=export.OPSET,
        runtime_min=RUNTIME_MIN,
        model_card=card,
    )
