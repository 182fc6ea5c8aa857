"""The edge bundle as the frame lane sees it: detections with calibrated scores, and limits.

Opening verifies the bundle, loads the model with explicit providers and threads, and proves with
the bundle's smoke input that it detects here what it detected where it was made.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_node.config import DetectorSettings, EdgeSettings, PolicySettings, TrackSettings
from edge_node.ports import ScoreLimits
from foundation.bundle import Bundle
from foundation.clock import Clock, elapsed_s
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.frames import Detections, Pixels, Scores
from foundation.tuning import read_tuning

log = logging.getLogger(__name__)


class BundleModel:
    """Owns the detector; `detect` is called from one thread.

    Attributes:
        bundle: What runs.
        labels: Class names by class id.
        limits: The bundle's thresholds, with what the settings override.
    """

    def __init__(self, bundle: Bundle, detector: Detector, limits: ScoreLimits) -> None:
        self.bundle = bundle
        self.labels = bundle.labels
        self.limits = limits
        self._detector = detector

    @staticmethod
    def open(settings: EdgeSettings) -> BundleModel:
        """Verifies, loads and proves the bundle.

        Raises:
            ConfigError: There is none at the path, a provider is missing, the settings speak of
                labels that it does not have, or the tuning file does not hold here.
            IntegrityError: It is damaged, or does not detect here what it should.
        """
        wanted = settings.detector
        if not wanted.bundle:
            raise ConfigError("No edge bundle is given", remedy="Set detector.bundle or --bundle")
        bundle = Bundle.open(Path(wanted.bundle))
        limits = score_limits(bundle, settings.policy, settings.tracks)
        open_detector = _opener(bundle, wanted)
        open_detector(bundle).check_smoke()
        # Suppression compares every pair of candidates. What no track would take is left out
        # before; since suppression goes from the best down, the rest comes out the same.
        floor = raw_floor(bundle, limits.start * np.float32(settings.tracks.score_keep_ratio))
        postprocess = bundle.info.postprocess.model_copy(update={"score_floor": floor})
        raised = replace(bundle, info=bundle.info.model_copy(update={"postprocess": postprocess}))
        return BundleModel(bundle, open_detector(raised), limits)

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


def score_limits(bundle: Bundle, policy: PolicySettings, tracks: TrackSettings) -> ScoreLimits:
    """The bundle's thresholds, with what the settings override.

    Raises:
        ConfigError: The settings speak of a label that the bundle does not have, or a band is
            upside down.
    """
    for label in sorted({*policy.band_low, *policy.band_high} - set(bundle.labels)):
        raise ConfigError(
            f"policy.band_low or policy.band_high names the label {label!r}, which the bundle "
            f"{bundle.info.name} does not have",
            remedy=f"Choose from {', '.join(bundle.labels)}",
        )
    report, low, high = [], [], []
    for label in bundle.labels:
        own = bundle.thresholds.of(label)
        report.append(own.report)
        low.append(policy.band_low.get(label, own.escalate_low))
        high.append(policy.band_high.get(label, own.escalate_high))
        if low[-1] > high[-1]:
            raise ConfigError(
                f"The escalation band of {label!r} is upside down: {low[-1]} to {high[-1]}",
                remedy="Correct policy.band_low and policy.band_high",
            )
    start = [min(pair) for pair in zip(report, low, strict=True)]
    if tracks.score_start is not None:
        start = [tracks.score_start] * len(bundle.labels)
    return ScoreLimits(_scores(start), _scores(report), _scores(low), _scores(high))


def raw_floor(bundle: Bundle, keep: Scores) -> float:
    """The largest raw score, to a thousandth, below which no class's calibrated score is kept.

    Args:
        bundle: For its calibration, and its own floor, which is never undercut.
        keep: Calibrated score (classes,) from which a detection is of use.
    """
    raw = np.linspace(0.0, 0.999, 1000, dtype=np.float32)
    no_boxes = np.zeros((len(raw), 4), np.float32)
    floors = []
    for class_id, wanted in enumerate(keep.tolist()):
        detections = Detections(no_boxes, raw, np.full(len(raw), class_id, np.int32))
        enough = bundle.calibration.apply(detections, bundle.labels) >= wanted
        first = int(enough.argmax()) if enough.any() else len(raw) - 1
        floors.append(float(raw[max(0, first - 1)]))
    return max(bundle.info.postprocess.score_floor, min(floors))


def _opener(bundle: Bundle, settings: DetectorSettings) -> Callable[[Bundle], Detector]:
    """What opens a detector as the tuning file says, or the settings where there is none."""
    if not settings.tuning:
        return functools.partial(
            Detector.open, intra_op_threads=settings.intra_op_threads, providers=settings.providers
        )
    path = Path(settings.tuning)
    tuning = read_tuning(path)
    tuning.check(bundle, path)
    log.info(
        "tuned by %s: %s, intra-op threads %d, spinning %s",
        path,
        tuning.provider,
        tuning.intra_op_threads,
        "on" if tuning.spinning else "off",
    )
    return functools.partial(
        Detector.open,
        intra_op_threads=tuning.intra_op_threads,
        providers=(tuning.provider,),
        spinning=tuning.spinning,
    )


def _scores(values: list[float]) -> Scores:
    return np.array(values, np.float32)
