"""A classifier as the cloud's model: from its bundle to what the edge makes of its answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud_escalator.logic.crops import Reporter
from edge_node.config import FusionSettings
from edge_node.logic.fuse import judge
from edge_node.values import Effect, Subject
from foundation.detector import Detector
from foundation.frames import Pixels
from foundation.geometry import crop_region
from model_workshop.importing.families import import_model
from model_workshop.importing.layouts import Family
from model_workshop.importing.preparations import Preparation
from tests.edge_node.logic.scene import HEIGHT, WIDTH, question
from tests.support.bundles import LABELS
from tests.support.foreign import foreign_model, painted


@pytest.mark.parametrize(
    ("believed", "color", "effect"),
    [
        ("red", (0, 0, 255), Effect.CONFIRMED),
        ("blue", (0, 0, 255), Effect.RECLASSIFIED),
        ("red", (0, 255, 0), Effect.REFUTED),
    ],
)
def test_its_answer_is_about_the_proposal(
    believed: str, color: tuple[int, int, int], effect: Effect, tmp_path: Path
) -> None:
    """Confirmed, reclassified, or refuted by a class that stands for nothing."""
    labels = tuple("background" if label == "green" else label for label in LABELS)
    path = tmp_path / "classifier.onnx"
    path.write_bytes(foreign_model(Family.CLASSIFIER, Preparation.DETR).SerializeToString())
    bundle = import_model(
        path,
        labels=labels,
        name="names",
        license_name="Apache-2.0",
        smoke_pixels=painted(),
        preparation=Preparation.DETR,
    )
    # Flat and long: its area is a small part of the crop's.
    box = np.array([600, 400, 660, 406], np.float32)
    region = crop_region(box, margin=2.0, side_min_px=64, frame_width=WIDTH, frame_height=HEIGHT)
    crop: Pixels = np.zeros((region.height, region.width, 3), np.uint8)
    crop[:] = color
    reporter = Reporter(
        bundle.labels,
        bundle.calibration,
        bundle.thresholds,
        classifies=bundle.info.outputs.family == "classifier",
    )
    answer = reporter.report(Detector.open(bundle).detect(crop), region, crop, box[None])
    asked = question(Subject(1, box, believed, 0.4, asked=True), region=region)
    findings = judge(asked, answer, FusionSettings()).findings
    assert [finding.effect for finding in findings] == [effect]
