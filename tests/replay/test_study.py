from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from foundation.clock import SystemClock
from foundation.errors import ConfigError
from foundation.gains import LevelCosts, variance_gains
from replay.answers import Answers
from replay.curve import SHARES, choose_within, folds_of
from replay.figures import Curve, Replay
from replay.material import Reading, read_material
from replay.outcomes import Outcomes
from replay.page import render_page
from replay.planned import Planned, check_fitted, level_costs, own_policies, read_model
from replay.policies import baselines
from replay.study import ANY_REGION, OWN_CROPS, Plan, run_study
from replay.terminal import interval, points, warnings
from replay.views import Part
from tests.replay.pair import CROP, LEVELS, cloud_bundle, edge_bundle, outcomes_of, write_material

PLAN = Plan(SHARES, LEVELS, crops=True, resamples=50)


@pytest.fixture(scope="module")
def replay(outcomes: Outcomes, unlabelled: Outcomes) -> Replay:
    """Labelled material, dials set on material without labels."""
    own, _ = own_policies(outcomes.answers, None, LEVELS, CROP, crops=True)
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
    own, _ = own_policies(outcomes.answers, None, LEVELS, CROP, crops=True)
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


def write_policy(path: Path, **changes: object) -> Path:
    """A gain model of three levels as a file."""
    levels = [LevelCosts(level=level) for level in ("avif60", "webp80", "webp90")]
    model = variance_gains(levels).model_copy(update=changes)
    path.write_text(model.model_dump_json(), encoding="utf-8")
    return path


def test_a_policy_of_other_bundles_is_refused(tmp_path: Path) -> None:
    """One that names none is anybody's."""
    edge, cloud = edge_bundle(), cloud_bundle()
    own = write_policy(tmp_path / "own.json", cloud_bundle=cloud.digest)
    check_fitted(read_model(own), edge, cloud, "own")
    for field in ("edge_scores", "cloud_bundle"):
        other = write_policy(tmp_path / f"{field}.json", **{field: "0" * 64})
        with pytest.raises(ConfigError, match="was fitted for 000000000000"):
            check_fitted(read_model(other), edge, cloud, "other")
    for text in ("{", json.dumps({"levels": []})):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"bad\.json"):
            read_model(tmp_path / "bad.json")


def gains_of(outcomes: Outcomes, path: Path, levels: tuple[str, ...], *, crops: bool) -> Planned:
    """The policy with the gains of a file."""
    found, notes = own_policies(outcomes.answers, path, levels, CROP, crops=crops)
    assert not notes
    assert isinstance(found[0], Planned)
    assert found[0].name == "planned, gains"
    return found[0]


def test_a_gain_model_keeps_within_the_levels_and_the_frames_that_are_studied(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    """Else it asks what the oracle may not, and beats it."""
    path = write_policy(tmp_path / "policy.json", crop_share=1.0, frame_share=0.5)
    part = Part.whole(outcomes)
    for crops in (True, False):
        policy = gains_of(outcomes, path, ("webp40@0.5", "webp80"), crops=crops)
        lavish = policy.choose(part.views, policy.settings(part)[-1])
        asks = [ask for asks in lavish for ask in asks]
        assert asks
        assert {ask.level for ask in asks} == {"webp80"}
        if not crops:
            assert {ask.region for ask in asks} == {(0, 0, 160, 128)}


def test_a_gain_model_that_may_then_ask_nothing_is_refused(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    """With what to give instead."""
    path = write_policy(tmp_path / "policy.json", crop_share=1.0, frame_share=0.0)
    with pytest.raises(ConfigError, match="Give --levels avif60,webp80,webp90"):
        own_policies(outcomes.answers, path, ("jpeg85",), CROP, crops=True)
    with pytest.raises(ConfigError, match="Leave --frames-only out"):
        own_policies(outcomes.answers, path, ("webp80",), CROP, crops=False)


def carried(answers: Answers, tmp_path: Path, **changes: object) -> Answers:
    """The same pair, the edge with a policy in its bundle."""
    model = read_model(write_policy(tmp_path / "carried.json", **changes))
    edge = dataclasses.replace(answers.edge_bundle, policy=model)
    return Answers(tmp_path / "answers.sqlite", edge, answers.cloud_bundle, SystemClock())


def test_a_bundle_s_own_policy_that_does_not_fit_is_left_out_and_told(
    answers: Answers, replay: Replay, tmp_path: Path
) -> None:
    """Other clouds are compared by replaying the same edge with each."""
    fits = carried(answers, tmp_path, cloud_bundle=answers.cloud_bundle.digest)
    found, notes = own_policies(fits, None, LEVELS, CROP, crops=True)
    assert [one.name for one in found] == ["planned, gains", "planned, p(1-p)"]
    assert not notes
    other = carried(answers, tmp_path, cloud_bundle="f" * 64)
    for misfit, levels in ((other, LEVELS), (fits, ("jpeg85",))):
        found, notes = own_policies(misfit, None, levels, CROP, crops=True)
        assert [one.name for one in found] == ["planned, p(1-p)"]
        assert "'planned, gains' is left out" in notes[0]
        told = replay.model_copy(update={"notes": notes})
        assert warnings(told) == list(notes)
        assert "is left out" in render_page(told)


def test_what_classes_cost_has_no_unit(outcomes: Outcomes, tmp_path: Path) -> None:
    """All of them times a thousand choose the same: prices go along."""
    folds = folds_of(outcomes, None)
    rows = []
    for number, cost in enumerate((1.0, 1024.0, 2.0**-20)):
        costs = dict.fromkeys(outcomes.answers.labels, cost)
        path = write_policy(tmp_path / f"{number}.json", class_cost=costs)
        policy = gains_of(outcomes, path, LEVELS, crops=True)
        rows.append(choose_within(policy, outcomes, folds, (0.05, 0.2, 0.5, 1.0)))
    assert rows[0] == rows[1] == rows[2]
    assert any(asks for asks in rows[0][-1])


def test_classes_that_cost_nothing_are_never_asked_about(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    """There is no price then, and no setting."""
    costs = dict.fromkeys(outcomes.answers.labels, 0.0)
    path = write_policy(tmp_path / "free.json", class_cost=costs)
    assert not gains_of(outcomes, path, LEVELS, crops=True).settings(Part.whole(outcomes))


def test_one_group_has_no_intervals(answers: Answers, unlabelled: Outcomes, tmp_path: Path) -> None:
    """They would be of no width, which looks like certainty."""
    path = write_material(tmp_path / "val", images=3, seed=9)
    material = read_material(path, tmp_path, Reading(group=re.compile(r"^(0)")))
    outcomes = Outcomes(answers, material, CROP)
    own, _ = own_policies(answers, None, LEVELS, CROP, crops=True)
    found = run_study(outcomes, unlabelled, [*own, *baselines(LEVELS, crops=True)], PLAN)
    estimates = [found.gap, found.utility_edge, found.leads[0].map50_95, found.leads[0].recovered]
    estimates += [p.map50_95 for curve in found.curves for p in curve.points]
    assert all(one.value is not None for one in estimates)
    assert {(one.low, one.high) for one in estimates} == {(None, None)}
    assert interval(found.gap) == "no interval"
    assert any("one group" in text for text in warnings(found))
    assert render_page(found)


def test_of_a_cloud_that_harms_nothing_is_recovered(tmp_path: Path) -> None:
    """Shares of a gap below 0 would put the worst policy first."""
    store = tmp_path / "answers.sqlite"
    with Answers(store, cloud_bundle(), edge_bundle(), SystemClock()) as turned:
        outcomes = outcomes_of(turned, write_material(tmp_path / "val", images=4), tmp_path)
        own, _ = own_policies(turned, None, LEVELS, CROP, crops=True)
        found = run_study(outcomes, None, [*own, *baselines(LEVELS, crops=True)], PLAN)
    assert (found.gap.value or 0) < 0
    for curve in found.curves:
        assert curve.area is curve.share_for_half is curve.share_for_most is None
        assert {point.recovered.value for point in curve.points} == {None}
        assert points(curve.points[0].recovered) == "-"
    assert {lead.recovered.value for lead in found.leads} == {None}
    assert all(lead.map50_95.value is not None for lead in found.leads)
    assert ["asking harms" in text for text in warnings(found)] == [True]
    page = render_page(found)
    assert "recovers half" not in page
    assert Replay.model_validate_json(found.model_dump_json()) == found
