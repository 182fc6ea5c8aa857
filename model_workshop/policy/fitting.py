"""Fits a gain model, and judges it on groups that had no part in the fit.

Two rules compete: `variance`, p(1 - p) times what each level retains of the gain in each size
class, and `learned`, a piecewise linear function of the score for each level and size class, shrunk
towards the first by ridge regression. The learned one is taken only where, on held-out groups and
at equal bytes, what it chooses gained more, by more than the folds differ.

Levels that differ only in how much they show around an object are fitted together: where there is
something to gain is the same for them, and more surroundings never tell less. Left to themselves a
few answers that came out otherwise would have the edge send little where bytes are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel, LevelCosts
from foundation.levels import Level
from model_workshop.evaluation.calibrate import pool_adjacent_violators
from model_workshop.policy.observations import Array, Integers, Mask, Observations

SCORE_KNOTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
GROUPS_MIN = 10
FOLDS = 5
BUDGETS = (0.02, 0.05, 0.1, 0.2, 0.3)
"""At which rules are compared: shares of what asking about all frames at the best level costs."""
_SHRINKAGES = (30.0, 100.0, 300.0, 1000.0)
"""Observations that the prior counts as, tried by cross-validation."""
_POWERS = (1.0, 0.75, 0.5)
_TEXTURE_MIN = 0.05
_FIXED_BYTES = {"png": 120.0, "jpeg": 620.0, "webp": 50.0, "avif": 300.0}
_PRICES = 48
_SIZE_CLASSES = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """What is chosen by cross-validation.

    Attributes:
        learned: Whether gains are measured ones.
        shrinkage: Observations that the prior counts as.
        frame_power: How the gains of a frame's proposals add up; see `GainModel.frame_power`.
    """

    learned: bool
    shrinkage: float
    frame_power: float


@dataclass(frozen=True, slots=True)
class PolicyFit:
    """A fitted model and how it was chosen.

    Attributes:
        model: To be put in the edge bundle.
        held_out: Share of the greatest gain that each shape reached at each budget, on groups that
            it was not fitted on; by name of the shape. Both are added up over the folds before
            they are divided, and the greatest gain of a fold in which asking about everything
            harms is 0.
    """

    model: GainModel
    held_out: Mapping[str, tuple[float, ...]]


def fit_policy(
    observations: Observations,
    *,
    class_costs: Mapping[str, float],
    learned: bool | None = None,
) -> PolicyFit:
    """Fits, chooses by cross-validation over groups, and fits the chosen shape on everything.

    Args:
        observations: Checked by `check_learnable`.
        class_costs: By label; absent ones count 1.
        learned: Takes this rule, whatever measures better; None lets the measure decide.
    """
    costs = np.array([class_costs.get(label, 1.0) for label in observations.labels])
    shapes = [
        Shape(rule, shrinkage, power)
        for rule in (False, True)
        for shrinkage in (_SHRINKAGES if rule else _SHRINKAGES[:1])
        for power in (_POWERS if observations.unit_whole.any() else _POWERS[:1])
        if learned is None or rule is learned
    ]
    scores = {shape: _held_out(observations, shape, class_costs, costs) for shape in shapes}
    best = [
        max((s for s in shapes if s.learned is rule), key=lambda s: float(scores[s].mean()))
        for rule in (False, True)
        if learned is None or rule is learned
    ]
    taken = best[0]
    if len(best) > 1 and _surely_better(scores[best[1]], scores[best[0]]):
        taken = best[1]
    held_out = {_name(s): tuple(scores[s].mean(axis=0).round(4).tolist()) for s in best}
    return PolicyFit(fit_shape(observations, taken, class_costs), held_out)


def _surely_better(ours: Array, theirs: Array) -> bool:
    """Whether one shape gained more than another (FOLDS, BUDGETS), by two standard errors."""
    lead = (ours - theirs).mean(axis=1)
    return bool(lead.mean() > 2 * lead.std(ddof=1) / np.sqrt(len(lead)))


def fit_shape(
    observations: Observations, shape: Shape, class_costs: Mapping[str, float]
) -> GainModel:
    """The model of one shape, fitted on all of these observations."""
    knots = np.array(SCORE_KNOTS)
    edges = _size_edges(observations.size_px)
    size = np.searchsorted(edges, observations.size_px, side="right")
    basis = _hats(observations.score, knots)
    variance = knots * (1 - knots)
    levels = len(observations.levels)
    gain = _told_together(observations)
    table = np.zeros((levels, len(edges) + 1, len(knots)))
    for number in range(len(edges) + 1):
        here = size == number
        expected = basis[here] @ variance
        weight = float(expected @ expected)
        for level in range(levels):
            gains = gain[here, level]
            retained = float(expected @ gains) / weight if weight > 0 else 0.0
            prior = max(0.0, retained) * variance
            table[level, number] = prior
            if shape.learned and here.any():
                strength = shape.shrinkage / len(knots)
                normal = basis[here].T @ basis[here] + strength * np.eye(len(knots))
                right = basis[here].T @ gains + strength * prior
                table[level, number] = np.linalg.solve(normal, right)
    model = GainModel(
        edge_scores=observations.meta["edge_scores"],
        cloud_bundle=observations.meta["cloud_bundle"],
        rule="learned" if shape.learned else "variance",
        levels=tuple(_costs_of(observations, level) for level in range(levels)),
        score_knots=SCORE_KNOTS,
        size_edges_px=tuple(edges.tolist()),
        gains=tuple(tuple(tuple(row) for row in one.round(6).tolist()) for one in table),
        class_cost=dict(class_costs),
        frame_power=shape.frame_power,
    )
    return _with_shares(model, observations)


def _with_shares(model: GainModel, observations: Observations) -> GainModel:
    """Scales what crops and whole frames are predicted to gain to what they gained."""
    costs = model.class_costs(observations.labels).astype(np.float64)
    realized = observations.realized(costs)
    linear = _sums(model, observations, costs)
    shares, told = {}, _told(observations)
    for name, units, power in (
        ("crop_share", ~observations.unit_whole, 1.0),
        ("frame_share", observations.unit_whole, model.frame_power),
    ):
        predicted = _powered(linear[units], power) * told[units]
        weight = float((predicted**2).sum())
        slope = float((predicted * realized[units]).sum()) / weight if weight > 0 else 0.0
        shares[name] = round(min(20.0, max(0.0, slope)), 4)
    return GainModel(**{**{n: getattr(model, n) for n in GainModel.model_fields}, **shares})


def _told_together(observations: Observations) -> Array:
    """Gains (N, L) of which those of levels with different sides differ by one factor only.

    The factors are what each level gains in all by crops, which does not fall as the side grows. A
    whole frame shows as much at any of them, so it counts for the largest side.
    """
    gains = observations.gain.copy()
    shown = observations.unit_pixels.mean(axis=0).tolist()
    crops = ~observations.unit_whole[observations.unit]
    alike: dict[Level, list[int]] = {}
    for number, text in enumerate(observations.levels):
        alike.setdefault(replace(Level.parse(text), side_px=None), []).append(number)
    for family in alike.values():
        family.sort(key=shown.__getitem__)
        total = gains[crops][:, family].sum(axis=0)
        rising = np.maximum(pool_adjacent_violators(total, np.ones(len(family))), 0.0)
        if len(family) > 1 and rising[-1] > 0:
            keeps = rising / rising[-1]
            of_largest = gains[:, family[-1]]
            of_largest[crops] = gains[crops][:, family].mean(axis=1) / keeps.mean()
            gains[:, family] = of_largest[:, None] * keeps
    return gains


def _told(observations: Observations) -> Mask:
    """Which units (U, L) tell what a level takes: a whole frame not where it has its own side."""
    sided = np.array([Level.parse(text).side_px is not None for text in observations.levels])
    frames = observations.unit_whole
    if frames.all():
        return np.ones((len(frames), len(sided)), np.bool_)
    return ~(frames[:, None] & sided)


def predicted_gains(model: GainModel, observations: Observations) -> Array:
    """What a model expects of asking about each unit at each level (U, L)."""
    costs = model.class_costs(observations.labels).astype(np.float64)
    sums = _sums(model, observations, costs)
    whole = observations.unit_whole[:, None]
    frames = model.frame_share * _powered(sums, model.frame_power)
    return np.asarray(np.where(whole, frames, model.crop_share * sums))


def predicted_bytes(model: GainModel, observations: Observations) -> Array:
    """What a model expects each unit to take on the wire at each level (U, L)."""
    images = model.image_bytes(observations.unit_pixels.T, observations.unit_texture).T
    return np.asarray(images + _overhead(observations)[:, None], np.float64)


def gained_within(
    model: GainModel, observations: Observations, class_costs: Array
) -> tuple[Array, float]:
    """What the model's choices of whole frames gained at each budget (BUDGETS,).

    Beside it what asking about all of them at the best level gains. Without whole frames among the
    observations, crops are chosen.
    """
    whole = observations.part(observations.unit_whole)
    units = whole if len(whole.unit_group) else observations
    gains, sizes = predicted_gains(model, units), predicted_bytes(model, units)
    realized = units.realized(class_costs)
    spent = units.unit_bytes + _overhead(units)[:, None]
    best_level = int(realized.sum(axis=0).argmax())
    everything = float(realized.sum(axis=0).max())
    ceiling = float(spent[:, best_level].sum())
    curve = [(0.0, 0.0)]
    rows = np.arange(len(gains))
    top = float((gains / sizes).max())
    for price in np.geomspace(max(top, 1e-12), max(top, 1e-12) * 1e-4, _PRICES):
        net = gains - price * sizes
        level = net.argmax(axis=1)
        asked = net[rows, level] > 0
        curve.append(
            (
                float(spent[rows, level][asked].sum()) / ceiling,
                float(realized[rows, level][asked].sum()),
            )
        )
    shares, gained = np.array(sorted(curve)).T
    return np.interp(BUDGETS, shares, gained), everything


def balanced_costs(observations: Observations) -> dict[str, float]:
    """Class costs that fall with the square root of how common a class is; 1 on average.

    For whoever counts classes alike, as mean average precision does; how common a class is, is
    taken from the edge's own scores.
    """
    whole = observations.unit_whole[observations.unit]
    chosen = whole if whole.any() else np.ones(len(whole), np.bool_)
    counts = np.bincount(
        observations.class_id[chosen],
        observations.score[chosen],
        minlength=len(observations.labels),
    )
    costs = 1 / np.sqrt(counts + 1)
    costs /= float((costs * counts).sum() / max(counts.sum(), 1e-9))
    return {
        label: round(float(cost), 4) for label, cost in zip(observations.labels, costs, strict=True)
    }


def _held_out(
    observations: Observations, shape: Shape, class_costs: Mapping[str, float], costs: Array
) -> Array:
    """What each part of the groups gained (FOLDS, BUDGETS), fitted on the others.

    In units of the mean of the parts' greatest gains, so that their mean is the share of all.
    """
    fold = _folds(observations.unit_group)
    gained, greatest = [], 0.0
    for number in range(FOLDS):
        rest = observations.part(fold != number)
        model = fit_shape(rest, shape, class_costs)
        own, everything = gained_within(model, observations.part(fold == number), costs)
        gained.append(own)
        # Not divided part by part: one in which asking gains next to nothing would outweigh all.
        greatest += max(0.0, everything)
    return np.array(gained) * FOLDS / greatest if greatest > 0 else np.zeros_like(gained)


def _folds(groups: Integers) -> Integers:
    """The fold (U,) of each unit; groups are dealt out in a fixed shuffled order."""
    known, at = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(20261125).permutation(len(known))
    return np.asarray(order[at] % FOLDS, np.int64)


def _sums(model: GainModel, observations: Observations, costs: Array) -> Array:
    """The added gains (U, L) of each unit's proposals."""
    gains = model.gains_of(
        observations.score.astype(np.float32), observations.size_px.astype(np.float32)
    ).T.astype(np.float64)
    total = np.zeros((len(observations.unit_group), len(observations.levels)))
    np.add.at(total, observations.unit, gains * costs[observations.class_id][:, None])
    return total


def _powered(sums: Array, power: float) -> Array:
    return np.asarray(np.sign(sums) * np.abs(sums) ** power)


def _overhead(observations: Observations) -> Array:
    """Bytes on the wire (U,) beside the image; a whole frame carries no proposals."""
    count = np.bincount(observations.unit, minlength=len(observations.unit_group))
    return np.asarray(
        FRAMING_BYTES + PROPOSAL_BYTES * np.where(observations.unit_whole, 0, count), np.float64
    )


def _hats(scores: Array, knots: Array) -> Array:
    """(N, K) weights with which each score lies between its two knots."""
    at = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, len(knots) - 2)
    part = np.clip((scores - knots[at]) / (knots[at + 1] - knots[at]), 0, 1)
    basis = np.zeros((len(scores), len(knots)))
    rows = np.arange(len(scores))
    basis[rows, at], basis[rows, at + 1] = 1 - part, part
    return basis


def _size_edges(sizes_px: Array) -> Array:
    """Ends of size classes that hold equally many proposals; fewer where sizes hardly differ."""
    shares = np.arange(1, _SIZE_CLASSES) / _SIZE_CLASSES
    return np.asarray(np.unique(np.quantile(sizes_px, shares).round(1)))


def _costs_of(observations: Observations, level: int) -> LevelCosts:
    """Bytes and encoding time of one level, fitted over all units by least squares."""
    text = observations.levels[level]
    parsed = Level.parse(text)
    fixed = _FIXED_BYTES[parsed.encoding.value]
    observations = observations.part(_told(observations)[:, level])
    sent = np.maximum(observations.unit_pixels[:, level] * parsed.scale**2, 1.0)
    images = np.maximum(observations.unit_bytes[:, level] - fixed, 1.0)
    log_texture = np.log(np.maximum(observations.unit_texture, _TEXTURE_MIN))
    log_bytes = np.log(images / sent)
    spread = float(log_texture.var())
    power = 0.0
    if spread > 0:
        power = float(np.clip(np.cov(log_texture, log_bytes, bias=True)[0, 1] / spread, 0, 4))
    base = float(log_bytes.mean() - power * log_texture.mean())
    # The mean of logarithms is below the logarithm of the mean, which is what a budget feels.
    guess = sent * np.exp(base + power * log_texture)
    base += float(np.log(images.sum() / guess.sum()))
    seconds = float(np.median(observations.unit_encode_s[:, level] / sent))
    return LevelCosts(
        level=text,
        fixed_bytes=fixed,
        log_bytes=round(base, 5),
        texture_power=round(power, 5),
        encode_s_per_megapixel=round(min(60.0, max(0.0, seconds * 1e6)), 4),
    )


def _name(shape: Shape) -> str:
    rule = f"learned, shrunk by {shape.shrinkage:g}" if shape.learned else "p(1-p)"
    return f"{rule}, frames to the power {shape.frame_power:g}"
