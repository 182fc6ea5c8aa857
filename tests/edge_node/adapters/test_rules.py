"""The rules of asking, from bundle and settings, and what refuses to start."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_node.adapters.model import score_limits
from edge_node.adapters.node_budget import FILE_NAME, NodeBudget
from edge_node.adapters.rules import gain_model_of, open_rules
from edge_node.config import CropSettings, EdgeSettings
from edge_node.logic.aim import BudgetAim, RateAim, RiskAim
from edge_node.ports import AskingRules, ScoreLimits
from edge_node.values import NodeEvent
from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.gains import GainModel, LevelCosts, RiskUnits
from tests.support.bundles import make_bundle


def gain_model(**fields: Any) -> GainModel:
    """Two levels, fitted on nothing in particular."""
    return GainModel(
        levels=(LevelCosts(level="webp80"), LevelCosts(level="avif45@0.5", log_bytes=-5.0)),
        score_knots=(0.0, 0.5, 1.0),
        gains=(((0.0, 0.25, 0.0),), ((0.0, 0.2, 0.0),)),
        class_cost={"green": 3.0, "red": 2.0},
        **fields,
    )


@pytest.fixture(scope="module")
def plain() -> Bundle:
    """A bundle without a policy."""
    return make_bundle()


@pytest.fixture
def fitted(plain: Bundle) -> Bundle:
    """The same with one."""
    return dataclasses.replace(plain, policy=gain_model())


def settings_of(policy: dict[str, Any] | None = None, **sections: Any) -> EdgeSettings:
    """Settings with these sections."""
    return EdgeSettings.model_validate({"policy": policy or {}, **sections})


def limits_of(bundle: Bundle, settings: EdgeSettings) -> ScoreLimits:
    """As the model adapter makes them."""
    return score_limits(bundle, settings.policy, settings.tracks)


def rules(bundle: Bundle, settings: EdgeSettings) -> AskingRules:
    """The rules, their budget closed again."""
    with open_rules(settings, bundle, limits_of(bundle, settings), NodeBudget) as opened:
        return opened


def refusal(bundle: Bundle, settings: EdgeSettings) -> ConfigError:
    """Why the node does not start, with what to do about it."""
    with pytest.raises(ConfigError) as caught:
        rules(bundle, settings)
    assert caught.value.remedy
    return caught.value


def test_bundle_without_a_policy_gains_what_is_doubted(plain: Bundle) -> None:
    """p(1 - p), at the levels of the settings or at webp80."""
    model = rules(plain, settings_of()).gains
    assert [str(level) for level in model.parsed_levels] == ["webp80"]
    assert model.gains_of(np.array([0.5]), np.array([20.0]))[0, 0] == pytest.approx(0.25)
    chosen = rules(plain, settings_of(crop={"levels": ["png", "avif30"]})).gains
    assert [str(level) for level in chosen.parsed_levels] == ["png", "avif30"]


def test_class_costs_are_of_the_settings_else_of_the_bundle_else_one(fitted: Bundle) -> None:
    """In the order of the bundle's labels."""
    assert fitted.labels == ("blue", "green", "red")
    costs = rules(fitted, settings_of({"class_cost": {"red": 7.0}})).class_costs
    assert costs.tolist() == [1.0, 3.0, 7.0]


def test_settings_may_leave_levels_out(fitted: Bundle) -> None:
    """The others keep what was fitted on them."""
    crop = CropSettings(levels=("avif45@0.5",))
    model = gain_model_of(fitted, crop)
    assert [str(level) for level in model.parsed_levels] == ["avif45@0.5"]
    assert model.gains_of(np.array([0.5]), np.array([20.0]))[0, 0] == pytest.approx(0.2)


def test_level_that_the_policy_was_not_fitted_on_is_refused(fitted: Bundle) -> None:
    """With those that it was."""
    error = refusal(fitted, settings_of(crop={"levels": ["webp80", "jpeg90"]}))
    assert "crop.levels" in error.message
    assert "jpeg90" in error.message
    assert "webp80, avif45@0.5" in (error.remedy or "")


def test_cost_of_an_unknown_label_is_refused(fitted: Bundle) -> None:
    """With those that there are."""
    error = refusal(fitted, settings_of({"class_cost": {"grene": 2.0}}))
    assert "policy.class_cost" in error.message
    assert "'grene'" in error.message
    assert "blue, green, red" in (error.remedy or "")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"uplink_bytes_per_s": 0}, "policy.uplink_bytes_per_s is 0"),
        ({"uplink_bytes_burst": 0}, "policy.uplink_bytes_burst is 0"),
        ({"requests_per_s": 0}, "policy.requests_per_s is 0"),
        ({"requests_burst": 0.5}, "policy.requests_burst is 0.5"),
        ({"uplink_bytes_burst": 1000}, "policy.uplink_bytes_burst is 1000"),
        ({"node": {"folder": "{}", "requests_burst": 0}}, "policy.node.requests_burst is 0"),
        ({"node": {"folder": "{}", "uplink_bytes_burst": 900}}, "policy.node.uplink_bytes_burst"),
    ],
)
def test_budget_that_never_pays_is_refused_by_its_key(
    plain: Bundle, tmp_path: Path, policy: dict[str, Any], words: str
) -> None:
    """A node that could ask nothing must not look like one with nothing to ask."""
    if "node" in policy:
        policy = {"node": {**policy["node"], "folder": str(tmp_path)}}
    assert words in refusal(plain, settings_of(policy)).message


def test_burst_of_one_crop_is_enough(plain: Bundle) -> None:
    """What the refusal names as the least is accepted."""
    error = refusal(plain, settings_of({"uplink_bytes_burst": 1000}))
    least = int("".join(c for c in (error.remedy or "").split(",")[0] if c.isdigit()))
    rules(plain, settings_of({"uplink_bytes_burst": least}))
    refusal(plain, settings_of({"uplink_bytes_burst": least - 2}))


def test_level_with_little_around_needs_a_smaller_burst(plain: Bundle) -> None:
    """The cheapest crop there is has to be paid for, no larger one."""
    settings = settings_of({"uplink_bytes_burst": 1000}, crop={"levels": ["webp80", "webp80/56"]})
    assert rules(plain, settings).gains.sides_px(192).tolist() == [192, 56]


def test_node_budget_needs_its_folder(plain: Bundle, tmp_path: Path) -> None:
    """It is not made: a mistyped path would be a budget of its own."""
    node = {"folder": str(tmp_path / "nowhere")}
    error = refusal(plain, settings_of({"node": node}))
    assert str(tmp_path / "nowhere" / FILE_NAME) in error.message
    assert not (tmp_path / "nowhere").exists()


def test_folder_is_refused_where_no_budget_is_shared(plain: Bundle, tmp_path: Path) -> None:
    """A recording that is played must not spend what cameras share."""
    settings = settings_of({"node": {"folder": str(tmp_path)}})
    with (
        pytest.raises(ConfigError, match=r"policy\.node\.folder"),
        open_rules(settings, plain, limits_of(plain, settings)),
    ):
        pass


def test_what_happens_to_the_node_budget_is_told(plain: Bundle, tmp_path: Path) -> None:
    """A file that is no budget counts as an empty one, and as a reset."""
    (tmp_path / FILE_NAME).write_bytes(b"x" * 10_000)
    told: Counter[NodeEvent] = Counter()
    settings = settings_of({"node": {"folder": str(tmp_path)}})

    def count(event: NodeEvent) -> None:
        told[event] += 1

    open_node = partial(NodeBudget, count=count)
    with open_rules(settings, plain, limits_of(plain, settings), open_node) as opened:
        opened.aim.reserve(1.0, 2_000.0, 0.001, 0)
    assert told == {NodeEvent.RESET: 1}


def risk_units(groups: int) -> RiskUnits:
    """Ten units a group; doubt is wrong about as often as it says."""
    random = np.random.default_rng(0)
    doubts = random.uniform(0, 0.5, groups * 10)
    return RiskUnits(
        doubts=tuple(doubts.tolist()),
        wrong=tuple((random.uniform(0, 1, len(doubts)) < doubts).tolist()),
        groups=tuple(n // 10 for n in range(len(doubts))),
        group_count=groups,
    )


def test_aims_are_what_the_settings_say(plain: Bundle) -> None:
    """A risk with what the bundle's policy was fitted on."""
    bundle = dataclasses.replace(plain, policy=gain_model(risk=risk_units(300)))
    aims = {aim: rules(bundle, settings_of({"aim": aim})).aim for aim in ("budget", "rate", "risk")}
    assert [type(aim) for aim in aims.values()] == [BudgetAim, RateAim, RiskAim]
    doubts = np.linspace(0, 1, 101).astype(np.float32)
    wanted = aims["risk"].wants(np.zeros(101, np.bool_), lambda: doubts)
    assert not wanted[0]
    assert wanted[60]
    assert (np.diff(wanted.astype(int)) >= 0).all()


def test_risk_that_cannot_be_promised_is_refused(plain: Bundle) -> None:
    """Nothing to calibrate on, or too few groups."""
    aim = {"aim": "risk", "risk": {"alpha": 0.05}}
    assert "nothing to calibrate" in refusal(plain, settings_of(aim)).message
    few = dataclasses.replace(plain, policy=gain_model(risk=risk_units(8)))
    assert "8" in refusal(few, settings_of(aim)).message


def test_ordinary_frames_that_are_not_understood_are_refused(plain: Bundle) -> None:
    """Of another version, or damaged: the bundle is at fault, not the settings."""
    bundle = dataclasses.replace(plain, policy=gain_model(ordinary={"mean": [1.0]}))
    with pytest.raises(IntegrityError, match="ordinary") as caught:
        rules(bundle, settings_of())
    assert caught.value.remedy
