"""A little pair of bundles and material for it: squares that the edge places badly."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edge_node.config import CropSettings
from foundation.bundle import Bundle
from foundation.clock import SystemClock
from replay.answers import Answers
from replay.material import Material, Reading, read_material
from replay.outcomes import Outcomes
from tests.support.bundles import make_bundle
from tests.support.datasets import write_split

SIZE = (160, 128)
CROP = CropSettings(side_min_px=48)
LEVELS = ("webp40@0.5", "webp80")


def edge_bundle() -> Bundle:
    """Sees a shrunken frame, where its boxes are too large."""
    return make_bundle(104, 80, name="small", escalate_low=0.1)


def cloud_bundle() -> Bundle:
    """Sees a larger frame, where its boxes fit better."""
    return make_bundle(120, 96, name="large")


def other_labels() -> Bundle:
    """A cloud bundle of another task."""
    bundle = cloud_bundle()
    info = bundle.info.model_copy(update={"labels": ("blue", "green", "violet")})
    return dataclasses.replace(bundle, info=info)


def write_material(directory: Path, *, images: int = 6, seed: int = 0) -> Path:
    """A labelled split of frames of `SIZE`."""
    return write_split(directory, images=images, width=SIZE[0], height=SIZE[1], side=28, seed=seed)


def open_answers(work: Path) -> Answers:
    """Both models with their cache; enter it."""
    return Answers(work / "answers.sqlite", edge_bundle(), cloud_bundle(), SystemClock())


def outcomes_of(answers: Answers, path: Path, work: Path) -> Outcomes:
    """What asking about a material comes to."""
    return Outcomes(answers, read(path, work), CROP)


def read(path: Path, work: Path) -> Material:
    """The material at a path, all of it."""
    return read_material(path, work, Reading())
