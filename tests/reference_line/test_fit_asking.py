"""What asking gains on a few frames of a line, as observations and as units of risk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from foundation.bundle import Bundle
from foundation.levels import Level
from model_workshop.policy.observations import FORMAT, read_observations
from reference_line.evaluation import evaluate
from reference_line.fit_alone import edge_alone, risk_units
from reference_line.fit_asking import (
    EverythingAsked,
    ask_everything,
    at,
    join_observations,
    observe,
)
from reference_line.recorded_line import record_line
from replay.recorded_lane import RecordedCloud

FRAMES = 70
LEVELS = ("webp80", "webp5")


@pytest.fixture(scope="module")
def edge(repository: Path) -> Path:
    """The shipped edge bundle."""
    return repository / "reference_line" / "bundles" / "edge-reference"


@pytest.fixture(scope="module")
def asked(
    edge: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> EverythingAsked:
    """Two seconds of a line on which everything was asked."""
    work = tmp_path_factory.mktemp("line")
    first = record_line(edge, 5, FRAMES, work)
    again = record_line(edge, 5, FRAMES, work)
    assert again.jpeg_bytes == first.jpeg_bytes
    for sequence in range(FRAMES):
        for mine, theirs in zip(
            dataclasses.astuple(again.model.found[sequence]),
            dataclasses.astuple(first.model.found[sequence]),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)
    cloud = Bundle.open(repository / "reference_line" / "bundles" / "cloud-reference")
    return ask_everything(again, edge, RecordedCloud(cloud))


def test_observations_are_of_every_track_that_was_asked_about(
    asked: EverythingAsked, tmp_path: Path
) -> None:
    """The gains add up to what changed in the record, and what is unreadable gains less."""
    arrays = observe(asked, LEVELS, 3)
    path = tmp_path / "observations.npz"
    meta = {"format": FORMAT, "levels": LEVELS, "labels": asked.recorded.model.labels}
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)
    read = read_observations(path)
    subjects = [s for one in asked.candidates for s in one.question.subjects if s.asked]
    assert len(read.score) == len(subjects) > 5
    assert set(read.unit_group.tolist()) == {3}
    assert (read.unit_bytes[:, 0] > 3 * read.unit_bytes[:, 1]).all()
    total = read.gain.sum(axis=0)
    assert total[0] > total[1]
    claims = asked.hindsight.claims([asked.answered(one, LEVELS[0]) for one in asked.candidates])
    after, before = (
        evaluate(c, asked.recorded.truth(c)).overall for c in (claims, asked.hindsight.edge)
    )
    change = (after.right - after.wrong) - (before.right - before.wrong)
    # A crop may show an object for a track that nobody was asked about.
    assert abs(total[0] - change) <= 2


def test_level_with_a_side_of_its_own_shows_and_takes_less(asked: EverythingAsked) -> None:
    """Around the very tracks that were asked about, and so does what is observed of it."""
    arrays = observe(asked, ("webp80", "webp80/56"), 0)
    wide, tight = arrays["unit_pixels"].T.tolist()
    assert all(small < large for small, large in zip(tight, wide, strict=True))
    assert min(tight) == 56 * 56
    large, small = arrays["unit_bytes"].T
    assert (small < large).all()
    # Around a large box the margin needs more: which boxes there are depends on the processor.
    assert np.median(small / large) < 0.5
    for one in asked.candidates:
        part = at(one, Level.parse("webp80/56"))
        region = part.question.region
        assert part.pixels.shape[:2] == (region.height, region.width)
        for subject in one.question.subjects:
            if subject.asked:
                x1, y1, x2, y2 = subject.box.tolist()
                assert region.x1 <= x1 + 1
                assert x2 - 1 <= region.x2
                assert region.y1 <= y1 + 1
                assert y2 - 1 <= region.y2


def test_units_of_risk_are_all_tracks_with_the_doubt_that_would_have_made_it_ask(
    asked: EverythingAsked, edge: Path
) -> None:
    """Doubt is 0 outside the band: about such a track nobody is ever asked."""
    bundle = Bundle.open(edge)
    run = (asked.recorded, edge_alone(asked.recorded, edge))
    units = risk_units([run, run], bundle)
    tracks = [track for track in asked.alone.tracks if track.edge is not None]
    assert len(units.doubts) == 2 * len(tracks)
    assert units.group_count == 2 * asked.recorded.boards
    assert max(units.groups) >= asked.recorded.boards
    limits = bundle.thresholds.default
    low = 1 - limits.escalate_high
    assert all(doubt == 0 or low - 1e-3 <= doubt < limits.report for doubt in units.doubts)
    assert any(units.doubts)


def test_joined_observations_number_their_units_on(asked: EverythingAsked) -> None:
    """Proposals stay with their own units."""
    one = observe(asked, LEVELS[:1], 0)
    joined = join_observations([one, one])
    count = len(one["unit_group"])
    np.testing.assert_array_equal(joined["unit"], [*one["unit"], *(one["unit"] + count)])
    assert len(joined["gain"]) == 2 * len(one["gain"])
