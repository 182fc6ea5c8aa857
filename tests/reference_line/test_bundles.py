from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.geometry import Letterbox
from reference_line.truth import LABELS

PAIR = ("edge-reference", "cloud-reference")
BYTES_MAX = {"edge-reference": 2 << 20, "cloud-reference": 8 << 20}


@pytest.fixture(params=PAIR)
def path(request: pytest.FixtureRequest, repository: Path) -> Path:
    """The directory of one shipped bundle."""
    return repository / "reference_line" / "bundles" / str(request.param)


def test_shipped_bundle_is_whole_and_detects_what_it_detected(path: Path) -> None:
    """Digests, contract and smoke test hold on this machine."""
    Detector.open(Bundle.open(path)).check_smoke()


def test_shipped_bundle_knows_the_lines_defects(path: Path) -> None:
    """Labels are those of the truth, in its order, and each has a calibration."""
    bundle = Bundle.open(path)
    assert bundle.labels == LABELS
    assert set(bundle.calibration.knots) == set(LABELS)


def test_shipped_bundle_is_small(path: Path) -> None:
    """What goes over a thin link to a camera has a limit."""
    size = sum(member.stat().st_size for member in path.rglob("*") if member.is_file())
    assert size <= BYTES_MAX[path.name]


def test_shipped_bundle_says_where_it_comes_from(path: Path) -> None:
    """Dataset, script, seed and figures travel with the weights."""
    card = Bundle.open(path).info.model_card
    assert card.dataset
    assert card.script
    assert card.seed is not None
    assert card.figures["objects"] > 1000


def test_cloud_was_calibrated_for_the_edge_beside_it(repository: Path) -> None:
    """Its parent is the edge bundle that ships with it, as it was before it had a policy."""
    bundles = repository / "reference_line" / "bundles"
    edge, cloud = (Bundle.open(bundles / name) for name in PAIR)
    assert cloud.info.model_card.parents == (dataclasses.replace(edge, policy=None).digest,)


def test_cloud_sees_a_small_crop_at_its_native_size(repository: Path) -> None:
    """It was trained on native crops: enlarged, a defect is as large as none that it has seen."""
    info = Bundle.open(repository / "reference_line" / "bundles" / PAIR[1]).info
    placed = Letterbox(info.letterbox, info.input.width, info.input.height).placement(56, 40)
    assert (placed.width, placed.height) == (56, 40)


def test_policy_of_the_edge_was_fitted_for_the_cloud_beside_it(repository: Path) -> None:
    """And for the edge's own scores."""
    bundles = repository / "reference_line" / "bundles"
    edge, cloud = (Bundle.open(bundles / name) for name in PAIR)
    assert edge.policy is not None
    assert edge.policy.cloud_bundle == cloud.digest
    assert edge.policy.edge_scores == edge.scores_digest
