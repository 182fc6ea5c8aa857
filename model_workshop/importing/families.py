"""Makes bundles of public detectors and classifiers, of whatever layout they are exported in.

The layout is recognized and the graph is brought to what the services run (opset 13 or later,
camera bytes in, outputs of fixed shapes). What no file says, how its pixels are prepared, comes
from the layout's usual convention, or from a person.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError, RejectedError
from foundation.frames import Pixels
from foundation.manifest import (
    BundleInfo,
    ClassifierOutputs,
    ModelCard,
    Outputs,
    Postprocess,
)
from model_workshop.assemble import RUNTIME_MIN, assemble
from model_workshop.importing.inputs import ImageInput, Size, settle_inputs
from model_workshop.importing.labels import NOTHING, labels_inside, read_labels
from model_workshop.importing.layouts import (
    Family,
    Layout,
    ask_for_preparation,
    fit,
    recognize,
)
from model_workshop.importing.listed import classes_of
from model_workshop.importing.matching import Listed
from model_workshop.importing.normalization import finish, lift
from model_workshop.importing.preparations import CONVENTIONS, Preparation
from model_workshop.importing.street import draw_street
from model_workshop.onnx_files import load, opset_of

__all__ = ["Family", "Preparation", "draw_street", "import_model", "read_labels"]

_SCORE_FLOOR = 0.05


def import_model(
    path: Path,
    family: Family | None = None,
    labels: tuple[str, ...] | None = None,
    *,
    name: str,
    license_name: str,
    smoke_pixels: Pixels | None = None,
    preparation: Preparation | None = None,
    size: Size | None = None,
) -> Bundle:
    """A bundle of a public model, uncalibrated.

    Args:
        path: the ONNX file.
        family: its layout; recognized where absent.
        labels: class names in the model's order; from the file's metadata where absent.
        name: of the bundle.
        license_name: what the model may be used under.
        smoke_pixels: (height, width, 3) uint8 BGR showing something it knows; drawn where absent.
        preparation: how its pixels are prepared; the layout's usual way where absent.
        size: of its input, width and height, where the file leaves it open.

    Raises:
        ConfigError: something has to be said by a person; the message lists what is possible.
        IntegrityError: the file is not a whole ONNX model, does not load, or puts out no numbers.
    """
    source = load(path)
    labels = labels or labels_inside(source)
    if labels is None:
        raise ConfigError(
            f"{path} does not name its classes",
            remedy="Give the labels that it was trained with, one a line, in order (--labels)",
        )
    picture = draw_street() if smoke_pixels is None else smoke_pixels
    settled = onnx.ModelProto()
    settled.CopyFrom(source)
    image = settle_inputs(settled, path, size)
    model, observed = lift(settled, image, picture, path)
    if family is None:
        layout, match = recognize(observed, len(labels), str(path))
    else:
        layout, match = fit(observed, family, str(path))
    classes = match.classes
    if isinstance(match.outputs, Listed):
        classes = classes_of(model, match.outputs.class_ids)
    if classes not in {len(labels), None}:
        raise ConfigError(
            f"{path} tells {classes} classes apart, but there are {len(labels)} labels",
            remedy="Give the labels that the model was trained with, one a line, in order",
        )
    chosen = preparation or _usual(layout, image, path)
    contract, outputs = finish(model, image, match, observed, CONVENTIONS[chosen], picture)
    info = BundleInfo(
        name=name,
        version="1",
        license=license_name,
        labels=labels,
        input=contract,
        letterbox=CONVENTIONS[chosen].letterbox,
        outputs=_name_nothing(outputs, labels),
        postprocess=Postprocess(score_floor=_SCORE_FLOOR, nms_iou=layout.nms_iou),
        opset=opset_of(model),
        runtime_min=RUNTIME_MIN,
        model_card=_card(path, layout, chosen, image),
    )
    try:
        return assemble(info, model.SerializeToString(), picture)
    except RejectedError as error:
        raise IntegrityError(f"{path}: {error.message}", remedy=error.remedy) from error


def _usual(layout: Layout, image: ImageInput, path: Path) -> Preparation:
    """The layout's own preparation.

    A classifier of bytes normalizes them itself, and then all conventions for classifiers agree.
    """
    if layout.preparation is not None:
        return layout.preparation
    if layout.family is Family.CLASSIFIER and image.dtype == "uint8":
        return Preparation.IMAGENET
    raise ask_for_preparation(layout.family, str(path))


def _name_nothing(outputs: Outputs, labels: tuple[str, ...]) -> Outputs:
    if not isinstance(outputs, ClassifierOutputs):
        return outputs
    nothing = next((i for i, label in enumerate(labels) if label.lower() in NOTHING), None)
    return outputs.model_copy(update={"nothing": nothing})


def _card(path: Path, layout: Layout, preparation: Preparation, image: ImageInput) -> ModelCard:
    convention = CONVENTIONS[preparation]
    return ModelCard(
        description=f"Imported from {path.name} as {layout.family}; the graph prepares its pixels "
        f"itself, as {preparation} ({convention}); scores are not calibrated",
        parents=(hashlib.sha256(path.read_bytes()).hexdigest(),),
        script=f"model-workshop import --family {layout.family} --pixels {preparation} "
        f"--size {image.width}x{image.height}",
    )
