"""The edge bundle as the lane sees it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_node.adapters.model import BundleModel, raw_floor, score_limits
from edge_node.config import DetectorSettings, EdgeSettings, PolicySettings, TrackSettings
from foundation.clock import SystemClock
from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError
from foundation.manifest import Calibration
from foundation.session import RUNTIME_VERSION
from foundation.tuning import Tuning, processor_name
from tests.support.bundles import LABELS, make_bundle, paint_square, write_bundle

HALVED = Calibration(knots=dict.fromkeys(LABELS, ((0.0, 0.0), (1.0, 0.5))))


def settings(path: Path | str, **tracks: float) -> EdgeSettings:
    """Settings with this bundle."""
    return EdgeSettings(
        detector=DetectorSettings(bundle=str(path)), tracks=TrackSettings.model_validate(tracks)
    )


def test_scores_are_calibrated_and_boxes_in_source_pixels(tmp_path: Path) -> None:
    """A frame of twice the model's size."""
    replace(make_bundle(64, 64), calibration=HALVED).write(tmp_path / "b")
    model = BundleModel.open(settings(tmp_path / "b", score_start=0.1))
    pixels = np.zeros((128, 128, 3), np.uint8)
    paint_square(pixels, 32, 32, label="red", score=0.9, side=32)
    found = model.detect(pixels)
    assert found.class_ids[0] == 2
    assert abs(float(found.scores[0]) - 0.45) < 0.02
    assert found.boxes[0].tolist() == pytest.approx([24, 24, 72, 72], abs=17)
    assert len(model.warm_up(3, SystemClock())) == 3


def test_raised_floor_changes_nothing_above_it(tmp_path: Path) -> None:
    """Suppression goes from the best down, so what no track would take can be left out before."""
    bundle = make_bundle(128, 96)
    bundle.write(tmp_path / "b")
    cells = np.random.default_rng(1).integers(60, 160, (12, 16, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(cells.repeat(8, axis=0).repeat(8, axis=1))
    model = BundleModel.open(settings(tmp_path / "b", score_start=0.6))
    few = model.detect(pixels)
    everything = Detector.open(bundle).detect(pixels)
    floor = raw_floor(bundle, model.limits.start * np.float32(0.5))
    expected = everything.take(everything.scores > floor)
    assert 0 < len(few) == len(expected) < len(everything)
    np.testing.assert_allclose(few.boxes, expected.boxes)


def test_floor_is_found_through_the_calibration() -> None:
    """Calibrated 0.2 is raw 0.4 where calibration halves; the bundle's own is not undercut."""
    bundle = replace(make_bundle(), calibration=HALVED)
    assert raw_floor(bundle, np.full(3, 0.2, np.float32)) == pytest.approx(0.4, abs=0.003)
    own = bundle.info.postprocess.score_floor
    assert raw_floor(bundle, np.zeros(3, np.float32)) == own
    assert raw_floor(bundle, np.array([0.2, 0.0, 0.4], np.float32)) == own


def test_settings_override_the_band_of_single_labels() -> None:
    """The others keep the bundle's."""
    bundle = make_bundle(escalate_low=0.2, escalate_high=0.8)
    policy = PolicySettings(band_low={"green": 0.1}, band_high={"green": 0.9})
    limits = score_limits(bundle, policy, TrackSettings())
    np.testing.assert_allclose(limits.low, [0.2, 0.1, 0.2])
    np.testing.assert_allclose(limits.high, [0.8, 0.9, 0.8])
    np.testing.assert_allclose(limits.start, [0.2, 0.1, 0.2])


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PolicySettings(band_low={"gren": 0.1}), "'gren'"),
        (PolicySettings(band_low={"green": 0.9}, band_high={"green": 0.1}), "upside down"),
    ],
    ids=["unknown label", "upside down"],
)
def test_band_that_makes_no_sense_is_a_setting_to_correct(
    policy: PolicySettings, words: str
) -> None:
    """Found at start-up, not when the class first appears."""
    with pytest.raises(ConfigError, match=words):
        score_limits(make_bundle(), policy, TrackSettings())


def test_bundle_that_detects_otherwise_than_where_it_was_made_is_refused(tmp_path: Path) -> None:
    """The smoke check runs before any frame."""
    bundle = make_bundle()
    wrong = replace(bundle.smoke.expected, boxes=bundle.smoke.expected.boxes + np.float32(20))
    replace(bundle, smoke=replace(bundle.smoke, expected=wrong)).write(tmp_path / "b")
    with pytest.raises(IntegrityError, match="smoke"):
        BundleModel.open(settings(tmp_path / "b"))


def test_missing_provider_is_never_replaced(tmp_path: Path) -> None:
    """No quiet fallback to the processor."""
    write_bundle(tmp_path / "b")
    detector = DetectorSettings(bundle=str(tmp_path / "b"), providers=("QuantumProvider",))
    with pytest.raises(ConfigError, match="QuantumProvider"):
        BundleModel.open(EdgeSettings(detector=detector))


def tuned(folder: Path, **instead: object) -> EdgeSettings:
    """Settings with a bundle and a tuning file for it."""
    bundle = make_bundle()
    bundle.write(folder / "b")
    document: dict[str, object] = {
        "bundle": "squares 1",
        "bundle_digest": bundle.digest,
        "processor": processor_name(),
        "runtime": RUNTIME_VERSION,
        "provider": "CPUExecutionProvider",
        "intra_op_threads": 1,
        "spinning": True,
    }
    Tuning.model_validate({**document, **instead}).write(folder / "tuning.yaml")
    return EdgeSettings(
        detector=DetectorSettings(
            bundle=str(folder / "b"),
            tuning=str(folder / "tuning.yaml"),
            providers=("QuantumProvider",),
        )
    )


def test_a_tuning_file_decides_how_the_model_runs(tmp_path: Path) -> None:
    """In place of the provider and threads in the settings."""
    model = BundleModel.open(tuned(tmp_path))
    assert len(model.detect(model.bundle.smoke.pixels)) > 0


def test_a_tuned_provider_that_is_missing_is_never_replaced(tmp_path: Path) -> None:
    """The file may have been made where an accelerator was."""
    with pytest.raises(ConfigError, match="WarpProvider"):
        BundleModel.open(tuned(tmp_path, provider="WarpProvider"))


@pytest.mark.parametrize(
    ("instead", "words"),
    [({"bundle_digest": "0" * 64}, "bundle is"), ({"processor": "another"}, "processor is")],
    ids=["bundle", "processor"],
)
def test_a_tuning_file_for_anything_else_is_refused(
    instead: dict[str, object], words: str, tmp_path: Path
) -> None:
    """Figures of another bundle or machine decide nothing."""
    with pytest.raises(ConfigError, match=words):
        BundleModel.open(tuned(tmp_path, **instead))


def test_a_corrupt_tuning_file_is_refused(tmp_path: Path) -> None:
    """It is not taken for the defaults."""
    corrupt = tuned(tmp_path)
    Path(corrupt.detector.tuning).write_text("provider: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        BundleModel.open(corrupt)
