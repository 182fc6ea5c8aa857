"""Puts a model and what is known about it into a bundle, with a smoke test of its own making."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foundation.bundle import Bundle, Smoke
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels
from foundation.manifest import BundleInfo, Calibration, ClassThresholds, Thresholds
from foundation.settings import load_settings

RUNTIME_MIN = "1.22"
"""The oldest ONNX Runtime that the package itself admits."""

_SMOKE_EXPECTED_MAX = 5


def uncalibrated_thresholds(report: float, low: float, high: float) -> Thresholds:
    """The same thresholds for every class."""
    return Thresholds(default=ClassThresholds(report=report, escalate_low=low, escalate_high=high))


MODERATE_THRESHOLDS = uncalibrated_thresholds(0.4, 0.1, 0.7)
"""For raw scores of which nothing is known."""


def assemble(
    info: BundleInfo,
    model: bytes,
    smoke_pixels: Pixels,
    *,
    calibration: Calibration | None = None,
    thresholds: Thresholds | None = None,
) -> Bundle:
    """A bundle whose smoke test expects what its model detects here and now.

    Args:
        info: the manifest's part that an author writes.
        model: serialized ONNX.
        smoke_pixels: (height, width, 3) uint8 BGR that shows something the model knows.
        calibration: fitted scores; identity where absent.
        thresholds: decision thresholds; moderate ones where absent.

    Raises:
        IntegrityError: the model does not load, or is not what `info` says.
        ConfigError: the model detects nothing in the smoke input.
    """
    draft = Bundle(
        info,
        model,
        calibration or Calibration(),
        thresholds or MODERATE_THRESHOLDS,
        Smoke(smoke_pixels, Detections.empty()),
    )
    found = Detector.open(draft).detect(smoke_pixels)
    if len(found) == 0:
        raise ConfigError(
            f"The model of {info.name} detects nothing in the smoke input",
            remedy="Give a picture that shows something the model knows (--smoke)",
        )
    # Only what is sure enough to be found again on a processor that rounds otherwise.
    sure = found.take(np.flatnonzero(found.scores >= found.scores[0] / 2)[:_SMOKE_EXPECTED_MAX])
    return Bundle(info, model, draft.calibration, draft.thresholds, Smoke(smoke_pixels, sure))


class _Parts(BundleInfo):
    """The manifest's fields as a person writes them: what the model says need not be repeated."""

    opset: int = 0
    runtime_min: str = RUNTIME_MIN


def assemble_parts(
    model: Path,
    info: Path,
    smoke_pixels: Pixels,
    *,
    calibration: Path | None = None,
    thresholds: Path | None = None,
) -> Bundle:
    """A bundle from files.

    Args:
        model: ONNX, as it shall run.
        info: YAML with the fields of `BundleInfo`; `opset` and `runtime_min` may be left out.
        smoke_pixels: see `assemble`.
        calibration: YAML or JSON with the fields of `Calibration`.
        thresholds: YAML or JSON with the fields of `Thresholds`.

    Raises:
        ConfigError: a file does not validate, the opset is not the model's, or the model detects
            nothing in the smoke input.
        IntegrityError: the model is none, does not load, or is not what `info` says.
    """
    from model_workshop.onnx_files import load, opset_of

    opset = opset_of(load(model))
    parts = load_settings(info, _Parts)
    if parts.opset not in {0, opset}:
        raise ConfigError(
            f"{info} says opset {parts.opset}, but {model} is of opset {opset}",
            remedy="Remove the line, or give the right model",
        )
    card = parts.model_card
    if not card.script:
        card = card.model_copy(update={"script": "model-workshop bundle"})
    return assemble(
        BundleInfo(**{**dict(parts), "opset": opset, "model_card": card}),
        model.read_bytes(),
        smoke_pixels,
        calibration=load_settings(calibration, Calibration) if calibration else None,
        thresholds=load_settings(thresholds, Thresholds) if thresholds else None,
    )
