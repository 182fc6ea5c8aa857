"""Gains are learned where they can be, and refused where nothing can be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.gains import FRAMING_BYTES, GainModel
from model_workshop.__main__ import main
from model_workshop.policy.bundles import class_costs_of, put_policy
from model_workshop.policy.fitting import GROUPS_MIN, balanced_costs, fit_policy, predicted_bytes
from model_workshop.policy.observations import check_learnable, read_observations
from tests.support.bundles import make_bundle

LEVELS = ("webp80", "avif45@0.5")
KEEPS = (1.0, 0.5)
LABELS = ("bolt", "nut")


def arrays(*, frames: int = 60, seed: int = 5, turned: bool = False) -> dict[str, Any]:
    """Observations of frames in which the gain of a proposal is p(1 - p), or, turned, p squared.

    Turned means that the edge doubts the wrong ones: it is wrong where it is sure.
    """
    rng = np.random.default_rng(seed)
    each = rng.integers(3, 9, frames)
    unit = np.repeat(np.arange(frames), each)
    score = rng.random(len(unit))
    worth = score**2 if turned else score * (1 - score)
    gain = worth[:, None] * np.array(KEEPS) + rng.normal(0, 0.05, (len(unit), len(LEVELS)))
    pixels = rng.integers(200, 400, frames) * 1000.0
    texture = rng.uniform(2, 8, frames)
    # Containers take 50 bytes (WebP) and 300 (AVIF).
    sent = pixels * texture**0.8
    size = np.stack([50 + 0.05 * sent, 300 + 0.01 * sent], axis=1)
    return {
        "score": score.astype(np.float32),
        "size_px": rng.uniform(10, 200, len(unit)).astype(np.float32),
        "class_id": (rng.random(len(unit)) < 0.1).astype(np.int32),
        "unit": unit.astype(np.int32),
        "gain": gain.astype(np.float32),
        "unit_frame": np.arange(frames, dtype=np.int32),
        "unit_group": np.arange(frames, dtype=np.int32),
        "unit_whole": np.ones(frames, np.bool_),
        "unit_gain": np.zeros((frames, len(LEVELS)), np.float32),
        "unit_pixels": np.repeat(pixels[:, None], len(LEVELS), axis=1).astype(np.int64),
        "unit_texture": texture.astype(np.float32),
        "unit_bytes": size.astype(np.int64),
        "unit_encode_s": np.full((frames, len(LEVELS)), 0.02, np.float32),
    }


def written(path: Path, values: dict[str, Any], **meta: Any) -> Path:
    """A file of observations."""
    document = {
        "format": "hardcase-observations/2",
        "edge_scores": "e",
        "cloud_bundle": "c",
        "levels": LEVELS,
        "labels": LABELS,
        "material": "yard",
        "material_digest": "m",
        "reference": "labels",
        **meta,
    }
    np.savez(path, meta=np.array(json.dumps(document)), **values)
    return path


def gain_at(model: GainModel, score: float) -> float:
    """Of the first level, for a middling size."""
    return float(model.gains_of(np.array([score], np.float32), np.array([60], np.float32))[0, 0])


def test_doubt_is_the_rule_where_doubt_is_right(tmp_path: Path) -> None:
    """Gains of p(1 - p) are not bettered by learning them, by more than luck."""
    seen = read_observations(written(tmp_path / "o.npz", arrays()))
    fit = fit_policy(seen, class_costs={}, learned=False)
    assert fit.model.rule == "variance"
    assert gain_at(fit.model, 0.5) == pytest.approx(0.25, abs=0.03)
    assert fit.model.retention.tolist() == pytest.approx([1.0, 0.5], abs=0.05)


def test_gains_are_learned_where_doubt_misleads(tmp_path: Path) -> None:
    """The edge is wrong where it is sure; held-out frames show it, so the learned rule is taken."""
    seen = read_observations(written(tmp_path / "o.npz", arrays(turned=True)))
    fit = fit_policy(seen, class_costs={})
    assert fit.model.rule == "learned"
    assert gain_at(fit.model, 0.95) > 2 * gain_at(fit.model, 0.5) > 0
    plain, learned = fit.held_out.values()
    assert np.mean(learned) > np.mean(plain)


def test_bytes_follow_pixels_and_texture(tmp_path: Path) -> None:
    """To a hundredth in all, and a tenth for each frame."""
    seen = read_observations(written(tmp_path / "o.npz", arrays()))
    model = fit_policy(seen, class_costs={}, learned=False).model
    images = predicted_bytes(model, seen) - FRAMING_BYTES
    assert images.sum(axis=0) == pytest.approx(seen.unit_bytes.sum(axis=0), rel=0.01)
    assert images == pytest.approx(seen.unit_bytes, rel=0.1)
    assert model.levels[0].texture_power == pytest.approx(0.8, abs=0.05)


def test_more_surroundings_never_gain_less(tmp_path: Path) -> None:
    """What came out otherwise by chance is no reason to send little where bytes are free.

    Where there is something to gain is the same at all sides; a level of another quality is not
    drawn into it.
    """
    values, rng = arrays(), np.random.default_rng(3)
    truth = values["gain"][:, :1] + rng.normal(0, 0.05, (len(values["gain"]), 3))
    # The middle side had luck, and the smallest keeps half; the last level is another format.
    keeps = np.array([1.0, 1.1, 0.5])
    values["gain"] = np.hstack([truth * keeps, values["gain"][:, 1:]]).astype(np.float32)
    values["unit_whole"][:] = False
    pixels = values["unit_pixels"][:, :1]
    values["unit_pixels"] = np.hstack([pixels, pixels // 4, pixels // 16, pixels])
    for name in ("unit_bytes", "unit_encode_s", "unit_gain"):
        values[name] = np.hstack([values[name][:, :1]] * 3 + [values[name][:, 1:]])
    levels = ("webp80", "webp80/96", "webp80/48", "avif45@0.5")
    seen = read_observations(written(tmp_path / "o.npz", values, levels=levels))
    for learned in (False, True):
        model = fit_policy(seen, class_costs={}, learned=learned).model
        wide, middle, narrow, other = np.array(model.gains)
        assert wide == pytest.approx(middle, abs=1e-5)
        assert narrow == pytest.approx(wide * (0.5 / 1.05), abs=0.02)
        assert other.max() == pytest.approx(0.125, abs=0.03)


def test_rare_classes_cost_more_where_classes_count_alike(tmp_path: Path) -> None:
    """Every tenth proposal is a nut."""
    seen = read_observations(written(tmp_path / "o.npz", arrays()))
    costs = balanced_costs(seen)
    assert costs["nut"] > 2 * costs["bolt"] > 0
    assert class_costs_of("flat", seen) == {}
    assert class_costs_of("nut=3", seen) == {"nut": 3.0}
    for wrong in ("nut", "cow=1", "nut=nan", "nut=inf", "nut=-1", "bolt=1,nut=-inf"):
        with pytest.raises(ConfigError):
            class_costs_of(wrong, seen)


def test_a_single_class_is_enough(tmp_path: Path) -> None:
    """Nothing is to be balanced then."""
    values = arrays()
    values["class_id"][:] = 0
    seen = read_observations(written(tmp_path / "o.npz", values))
    assert fit_policy(seen, class_costs=balanced_costs(seen), learned=False).model.levels


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("score", np.nan, "score"), ("gain", np.inf, "gain"), ("unit_gain", np.nan, "unit_gain")],
)
def test_what_is_no_number_is_refused(tmp_path: Path, name: str, value: float, word: str) -> None:
    """By its name, with what to do."""
    values = arrays()
    values[name].flat[3] = value
    with pytest.raises(ConfigError, match=word):
        read_observations(written(tmp_path / "o.npz", values))


def test_an_edge_without_errors_teaches_nothing(tmp_path: Path) -> None:
    """No answer changed anything, or all made it worse."""
    for gain, words in ((0.0, "corrects no error"), (-0.1, "made the result worse")):
        values = arrays()
        values["gain"][:] = gain
        path = written(tmp_path / "o.npz", values)
        with pytest.raises(ConfigError, match=words):
            check_learnable(read_observations(path), path, groups_min=GROUPS_MIN)


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    """All frames of one camera are one group."""
    values = arrays()
    values["unit_group"][:] = 0
    path = written(tmp_path / "o.npz", values)
    with pytest.raises(ConfigError, match="1 groups, too few"):
        check_learnable(read_observations(path), path, groups_min=GROUPS_MIN)


def test_groups_without_a_proposal_do_not_count(tmp_path: Path) -> None:
    """They teach nothing: where all proposals are in one picture, none can be held out."""
    values = arrays()
    here = values["unit"] == 3
    for name in ("score", "size_px", "class_id", "unit", "gain"):
        values[name] = values[name][here]
    path = written(tmp_path / "o.npz", values)
    with pytest.raises(ConfigError, match="proposals in 1 groups, too few"):
        check_learnable(read_observations(path), path, groups_min=GROUPS_MIN)


def test_a_fold_in_which_asking_harms_does_not_outweigh_the_others(tmp_path: Path) -> None:
    """What is reached stays a share of the greatest gain, whatever one fold gains."""
    for seed in range(3):
        values = arrays(frames=20, seed=seed)
        harmed = np.random.default_rng(seed).random(20) < 0.55
        values["gain"][harmed[values["unit"]]] *= -1
        seen = read_observations(written(tmp_path / "o.npz", values))
        reached = list(fit_policy(seen, class_costs={}).held_out.values())
        assert np.abs(reached).max() <= 1


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """Each says what to give instead."""
    path = tmp_path / "o.npz"
    with pytest.raises(ConfigError, match="no file of observations"):
        read_observations(path)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ConfigError, match="no file of observations"):
        read_observations(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ConfigError, match="no file of observations"):
        read_observations(path)
    with pytest.raises(ConfigError, match="not of the form"):
        read_observations(written(path, arrays(), format="other"))
    values = arrays()
    values["gain"] = values["gain"][:, :1]
    with pytest.raises(ConfigError, match="contradicts"):
        read_observations(written(path, values))
    del values["gain"]
    with pytest.raises(ConfigError, match="has no gain"):
        read_observations(written(path, values))


def test_command_puts_the_policy_into_the_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a bundle of other scores refuses both the observations and the policy."""
    bundle = make_bundle()
    bundle.write(tmp_path / "edge")
    labels = {"labels": bundle.labels, "cloud_bundle": "c" * 64}
    values = arrays(turned=True)
    values["class_id"] %= len(bundle.labels)
    path = written(tmp_path / "o.npz", values, edge_scores=bundle.scores_digest, **labels)
    command = ["fit-policy", str(tmp_path / "edge"), str(path), "--out", str(tmp_path / "with")]
    assert main(command) == 0
    assert "taken: learned" in capsys.readouterr().out
    read = Bundle.open(tmp_path / "with")
    assert read.policy is not None
    assert read.policy.edge_scores == bundle.scores_digest == read.scores_digest
    assert read.digest != bundle.digest

    foreign = read_observations(written(path, values, edge_scores="f" * 64, **labels))
    fit = fit_policy(foreign, class_costs={}, learned=False)
    with pytest.raises(ConfigError, match="other scores"):
        put_policy(bundle, fit, foreign)
    wrong = dataclasses.replace(make_bundle(), policy=fit.model)
    with pytest.raises(IntegrityError, match="scores of another bundle"):
        wrong.write(tmp_path / "wrong")


def test_whole_frames_say_nothing_of_a_level_with_a_side_of_its_own(tmp_path: Path) -> None:
    """They show as much at any level; its small crops, here of no use, do not."""
    score = np.tile(np.array([0.3, 0.4, 0.5, 0.6], np.float32), 30)
    whole = np.tile([True, False], 60)
    useful = score * (1 - score)
    values = {
        "score": score,
        "size_px": np.full(120, 20, np.float32),
        "class_id": np.zeros(120, np.int32),
        "unit": np.arange(120, dtype=np.int32),
        "gain": np.stack([useful, useful * whole], axis=1).astype(np.float32),
        "unit_group": (np.arange(120) // 2).astype(np.int32),
        "unit_whole": whole,
        "unit_gain": np.zeros((120, 2), np.float32),
        "unit_pixels": np.where(whole[:, None], 640 * 480, [[192 * 192, 40 * 40]]),
        "unit_texture": np.ones(120, np.float32),
        "unit_bytes": np.where(whole[:, None], 30000, [[3000, 300]]),
        "unit_encode_s": np.full((120, 2), 0.01, np.float32),
    }
    groups = [str(k) for k in range(60)]
    path = written(tmp_path / "o.npz", values, levels=["webp80", "webp80/40"], groups=groups)
    model = fit_policy(read_observations(path), class_costs={}).model
    half, size = np.array([0.5], np.float32), np.array([20], np.float32)
    gains = model.crop_share * model.gains_of(half, size)[:, 0]
    assert gains[0] == pytest.approx(0.25, abs=0.01)
    assert gains[1] == pytest.approx(0.0, abs=0.01)
    assert model.image_bytes(40 * 40, 1.0)[1, 0] == pytest.approx(300, rel=0.02)
