"""The edge bundle as the frame lane sees it: detections with calibrated scores, and limits.

Opening verifies the bundle, loads the model with explicit providers and threads, and proves with
the bundle's smoke input that it detects here what it detected where it was made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_node.config import DetectorSettings, EdgeSettings
from edge_node.ports import ScoreLimits
from foundation.bundle import Bundle
from foundation.clock import Clock, elapsed_s
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels, Scores


class BundleModel:
    """Owns the detector; `detect` is called from one thread."""

    def __init__(self, bundle: Bundle, detector: Detector) -> None:
        self.bundle = bundle
        self.labels = bundle.labels
        self._detector = detector

    @staticmethod
    def open(settings: DetectorSettings) -> BundleModel:
        """Verifies, loads and proves the bundle.

        Raises:
            ConfigError: There is none at the path, or a provider is missing.
            IntegrityError: It is damaged, or does not detect here what it should.
        """
        if not settings.bundle:
            raise ConfigError("No edge bundle is given", remedy="Set detector.bundle or --bundle")
        bundle = Bundle.open(Path(settings.bundle))
        detector = Detector.open(
            bundle,
            intra_op_threads=settings.intra_op_threads,
            providers=settings.providers,
        )
        detector.check_smoke()
        return BundleModel(bundle, detector)

    def detect(self, pixels: Pixels) -> Detections:
        """Detections with calibrated scores, boxes in source pixels."""
        found = self._detector.detect(pixels)
        return found.with_scores(self.bundle.calibration.apply(found, self.labels))

    def warm_up(self, frames: int, clock: Clock) -> list[float]:
        """Detects in the smoke input this often; returns what each run cost in seconds."""
        costs = []
        for _ in range(frames):
            begun_ns = clock.now_ns()
            self.detect(self.bundle.smoke.pixels)
            costs.append(elapsed_s(begun_ns, clock.now_ns()))
        return costs

    def limits(self, settings: EdgeSettings) -> ScoreLimits:
        """The bundle's thresholds, with what the settings override.

        Raises:
            ConfigError: The settings speak of a label that the bundle does not have, or a band is
                upside down.
        """
        policy = settings.policy
        for label in {*policy.band_low, *policy.band_high} - set(self.labels):
            raise ConfigError(
                f"policy.band_low or policy.band_high names the label {label!r}, which the bundle "
                f"{self.bundle.info.name} does not have",
                remedy=f"Choose from {', '.join(self.labels)}",
            )
        report, low, high = [], [], []
        for label in self.labels:
            own = self.bundle.thresholds.of(label)
            report.append(own.report)
            low.append(policy.band_low.get(label, own.escalate_low))
            high.append(policy.band_high.get(label, own.escalate_high))
            if low[-1] > high[-1]:
                raise ConfigError(
                    f"The escalation band of {label!r} is upside down: {low[-1]} to {high[-1]}",
                    remedy="Correct policy.band_low and policy.band_high",
                )
        start = [min(pair) for pair in zip(report, low, strict=True)]
        if settings.tracks.score_start is not None:
            start = [settings.tracks.score_start] * len(self.labels)
        return ScoreLimits(_scores(start), _scores(report), _scores(low), _scores(high))


def _scores(values: list[float]) -> Scores:
    return np.array(values, np.float32)
