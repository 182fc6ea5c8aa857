from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.gains import GainModel, LevelCosts, variance_gains
from replay.curve import SHARES
from replay.figures import Curve, Replay
from replay.outcomes import Outcomes
from replay.page import render_page
from replay.planned import level_costs, own_policies, read_model
from replay.policies import baselines
from replay.study import ANY_REGION, OWN_CROPS, Plan, run_study
from replay.terminal import warnings
from replay.views import Part
from tests.replay.pair import CROP, LEVELS, cloud_bundle, edge_bundle

PLAN = Plan(SHARES, LEVELS, crops=True, resamples=50)


@pytest.fixture(scope="module")
def replay(outcomes: Outcomes, unlabelled: Outcomes) -> Replay:
    """Labelled material, dials set on material without labels."""
    own = own_policies(outcomes.answers, None, LEVELS, CROP, crops=True)
    return run_study(outcomes, unlabelled, [*own, *baselines(LEVELS, crops=True)], PLAN)


def test_the_oracle_that_may_do_more_does_no_worse(replay: Replay) -> None:
    """Than policies within the same bytes; and it keeps within them."""
    anywhere = replay.curve(ANY_REGION)
    for point in anywhere.points:
        assert point.share <= point.budget + 1e-9
    for curve in replay.curves:
        for point in curve.points:
            allowed = [p.map50_95.value for p in anywhere.points if p.budget >= point.share]
            assert not allowed or max(v or 0 for v in allowed) >= (point.map50_95.value or 0) - 0.02


def test_the_gap_recovered_is_of_the_gap(replay: Replay) -> None:
    """Asking nothing recovers nothing; shares follow from utilities."""
    edge, cloud = replay.utility_edge.value or 0, replay.utility_cloud.value or 0
    assert cloud > edge + 0.05 > 0.1
    for curve in replay.curves:
        for point in curve.points:
            assert point.recovered.value == pytest.approx(
                ((point.map50_95.value or 0) - edge) / (cloud - edge), abs=1e-9
            )
            if point.asks == 0:
                assert point.recovered.value == 0
            assert (point.map50_95.low is None) == (point.budget not in replay.budgets)


def reached(replay: Replay, curve: Curve, share: float) -> float:
    """Utility of a curve at bytes really sent, straight between points, from the edge alone on."""
    points = {(point.share, point.map50_95.value or 0.0) for point in curve.points}
    places = sorted({(0.0, replay.utility_edge.value or 0.0), *points})
    return float(np.interp(share, [x for x, _ in places], [y for _, y in places]))


def test_losses_and_leads_are_reckoned_at_the_bytes_that_a_policy_took(replay: Replay) -> None:
    """A budget that was missed makes no lead and no loss."""
    baselines_drawn = [curve for curve in replay.curves if curve.kind == "baseline"]
    for lead in replay.leads:
        own = replay.curve(lead.policy).at(lead.budget)
        assert lead.share == own.share
        best = max(reached(replay, curve, own.share) for curve in baselines_drawn)
        assert reached(replay, replay.curve(lead.rival), own.share) == pytest.approx(best, abs=1e-9)
        assert lead.map50_95.value == pytest.approx((own.map50_95.value or 0) - best, abs=1e-9)
    for loss in replay.losses:
        own = replay.curve(loss.policy).at(loss.budget)
        anywhere = reached(replay, replay.curve(ANY_REGION), own.share)
        crops = reached(replay, replay.curve(OWN_CROPS), own.share)
        assert loss.proposals == pytest.approx(anywhere - crops, abs=1e-9)
        assert loss.score == pytest.approx(crops - (own.map50_95.value or 0), abs=1e-9)


def test_it_reads_back_and_is_the_same_again(
    replay: Replay, outcomes: Outcomes, unlabelled: Outcomes
) -> None:
    """No chance but what seeds say."""
    assert Replay.model_validate_json(replay.model_dump_json()) == replay
    own = own_policies(outcomes.answers, None, LEVELS, CROP, crops=True)
    again = run_study(outcomes, unlabelled, [*own, *baselines(LEVELS, crops=True)], PLAN)
    assert again == replay


def test_the_page_draws_every_policy_and_needs_nothing_else(replay: Replay) -> None:
    """Names are escaped, and no address is asked for."""
    page = render_page(replay)
    for curve in replay.curves:
        assert page.count(curve.name.replace("'", "&#x27;")) >= 3
    assert page.count("<svg") == 2
    assert "http" not in page
    assert "NaN" not in page


def test_a_gap_too_small_to_divide_by_is_told(replay: Replay) -> None:
    """And so is a cloud that judges itself."""
    assert not warnings(replay)
    small = replay.gap.model_copy(update={"value": 0.01})
    material = replay.material.model_copy(update={"reference": "cloud", "lost_frames": 3})
    told = warnings(replay.model_copy(update={"gap": small, "material": material}))
    assert [part in text for part, text in zip(("2 points", "itself", "3 fr"), told, strict=True)]
    assert "reaches" in render_page(replay.model_copy(update={"gap": small}))


def test_costs_of_levels_are_those_of_the_images(outcomes: Outcomes) -> None:
    """In sum over the frames that they were fitted on, to a fifth."""
    part = Part.whole(outcomes)
    costs = [level_costs(part, level) for level in LEVELS]
    model = variance_gains(costs)
    for number, level in enumerate(LEVELS):
        asks = [asks[0] for asks in part.at(level)]
        frames = outcomes.frames
        real = [outcomes.answers.image(f, a)[0] for f, a in zip(frames, asks, strict=True)]
        textures = [outcomes.answers.texture(f, a.place) for f, a in zip(frames, asks, strict=True)]
        predicted = model.image_bytes(np.full(len(frames), 160 * 128), textures)[number]
        assert predicted.sum() == pytest.approx(sum(real), rel=0.2)


def write_policy(path: Path, **changes: str) -> Path:
    """A gain model as a file."""
    model = variance_gains([LevelCosts(level="webp80")]).model_copy(update=changes)
    path.write_text(model.model_dump_json(), encoding="utf-8")
    return path


def test_a_policy_of_other_bundles_is_refused(tmp_path: Path) -> None:
    """One that names none is anybody's."""
    edge, cloud = edge_bundle(), cloud_bundle()
    own = write_policy(tmp_path / "own.json", cloud_bundle=cloud.digest)
    assert isinstance(read_model(own, edge, cloud), GainModel)
    for field in ("edge_scores", "cloud_bundle"):
        other = write_policy(tmp_path / f"{field}.json", **{field: "0" * 64})
        with pytest.raises(ConfigError, match="was fitted for 000000000000"):
            read_model(other, edge, cloud)
    for text in ("{", json.dumps({"levels": []})):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"bad\.json"):
            read_model(tmp_path / "bad.json", edge, cloud)
