"""Runs a replay: every policy at every budget, on the same answers, judged the same way."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foundation.bundle import Bundle
from model_workshop.evaluation.figures import Estimate
from model_workshop.evaluation.precision import draw_weights, estimate
from model_workshop.evaluation.truth import Array
from replay.curve import BETWEEN, area, choose_within, folds_of, share_for
from replay.figures import Curve, Lead, Loss, Model, Point, Replay, Source
from replay.oracle import Choices, choose_best
from replay.outcomes import BASE_LEVEL, Asks, Outcomes, watched
from replay.policies import Policy

ANY_REGION = "oracle, any region"
OWN_CROPS = "oracle, edge's crops"
_Named = tuple[str, str, Literal["own", "baseline", "oracle"]]
"""Name of a policy, what it is, and its kind."""


@dataclass(frozen=True)
class Plan:
    """What is studied.

    Attributes:
        budgets: of the tables, rising.
        levels: that may be chosen.
        crops: whether crops take part, or whole frames alone.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    budgets: tuple[float, ...]
    levels: tuple[str, ...]
    crops: bool
    resamples: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class _Drawn:
    """One policy: its curve, and its choices by budget."""

    curve: Curve
    rows: dict[float, list[Asks]]


class _Scale:
    """Judges choices of one material against both ends of the gap."""

    def __init__(self, outcomes: Outcomes, plan: Plan) -> None:
        self.outcomes, self._plan = outcomes, plan
        count = len(outcomes.material.groups)
        # One group drawn again and again is always itself: that would be an interval of no width.
        self._weights = draw_weights(count, plan.resamples if count > 1 else 0, plan.seed)
        frames = range(len(outcomes))
        judge = outcomes.judge
        self.edge = judge.samples([outcomes.matched(i, ()) for i in frames], self._weights)
        self.cloud = judge.samples([outcomes.matched_by_cloud(i) for i in frames], self._weights)
        self.base_bytes = outcomes.base_bytes()
        self._known: dict[tuple[Asks, ...], Array] = {}

    def recovered(self, samples: Array) -> Array:
        """Share of the gap; infinite or no number where there is none.

        Of a cloud that is no better than the edge no share is a number: what is worst would have
        the largest.
        """
        if self.cloud[0] <= self.edge[0]:
            return np.full(len(samples), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = (samples - self.edge[: len(samples)]) / (self.cloud - self.edge)[
                : len(samples)
            ]
        return np.asarray(shares)

    def draw(self, policy: _Named, rows: dict[float, list[Asks]]) -> _Drawn:
        """A policy's curve from its choices by budget."""
        name, about, kind = policy
        points = []
        for budget, choices in sorted(rows.items()):
            samples = self.samples(choices, resampled=budget in self._plan.budgets)
            points.append(self._point(budget, choices, samples))
        shares = [point.share for point in points]
        values = [point.recovered.value for point in points]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        curve = Curve(
            name=name,
            about=about,
            kind=kind,
            points=tuple(points),
            area=area(shares, known) if whole else None,
            share_for_half=share_for(shares, known, 0.5) if whole else None,
            share_for_most=share_for(shares, known, 0.9) if whole else None,
        )
        return _Drawn(curve, rows)

    def at_share(self, one: _Drawn, share: float, *, resampled: bool = False) -> Array:
        """Samples of the utility with a share of bytes really sent, straight between points."""
        places = sorted((point.share, point.budget) for point in one.curve.points)
        above = bisect.bisect_left(places, (share, 0.0))
        if above == len(places):
            return self.samples(one.rows[places[-1][1]], resampled=resampled)
        high = self.samples(one.rows[places[above][1]], resampled=resampled)
        low_share, low = 0.0, self.edge[: len(high)]
        if above > 0:
            low_share = places[above - 1][0]
            low = self.samples(one.rows[places[above - 1][1]], resampled=resampled)
        span = places[above][0] - low_share
        part = (share - low_share) / span if span > 0 else 1.0
        return np.asarray(low + part * (high - low))

    def samples(self, choices: Sequence[Asks], *, resampled: bool = True) -> Array:
        """Of the utility of choices: the figure, and one for every resample."""
        key = tuple(choices)
        known = self._known.get(key)
        if known is None or (resampled and len(known) == 1):
            matched = [self.outcomes.matched(i, asks) for i, asks in enumerate(choices)]
            weights = self._weights if resampled else self._weights[:1]
            known = self._known[key] = self.outcomes.judge.samples(matched, weights)
        return known if resampled else known[:1]

    def _point(self, budget: float, choices: Sequence[Asks], samples: Array) -> Point:
        sent = sum(self.outcomes.bytes_of(i, asks) for i, asks in enumerate(choices))
        matched = [self.outcomes.matched(i, asks) for i, asks in enumerate(choices)]
        figures = self.outcomes.judge.figures(matched)
        return Point(
            budget=budget,
            share=sent / self.base_bytes,
            sent_bytes=sent,
            asks=sum(map(len, choices)),
            map50_95=estimate(samples),
            map50=figures.map50,
            f1=figures.f1,
            recovered=_finite(self.recovered(samples)),
        )


def run_study(
    outcomes: Outcomes,
    calibration: Outcomes | None,
    policies: Sequence[Policy],
    plan: Plan,
    notes: Sequence[str] = (),
) -> Replay:
    """Judges all policies and both oracles.

    Args:
        outcomes: of the material.
        calibration: of the material on which dials are set; None takes folds.
        policies: at least one of our own.
        plan: what is studied.
        notes: what the report is to say was left out, and why.
    """
    scale = _Scale(outcomes, plan)
    shares = sorted({*plan.budgets, *BETWEEN})
    folds = folds_of(outcomes, calibration)
    drawn = []
    for policy in watched(list(policies), "policies"):
        rows = choose_within(policy, outcomes, folds, shares)
        named: _Named = (policy.name, policy.about, "own" if policy.own else "baseline")
        drawn.append(scale.draw(named, dict(zip(shares, rows, strict=True))))
    oracles = _oracles(scale, plan, shares)
    bundles = outcomes.answers.edge_bundle, outcomes.answers.cloud_bundle
    return Replay(
        material=_source(outcomes),
        calibration=None if calibration is None else _source(calibration),
        edge=_model(bundles[0]),
        cloud=_model(bundles[1]),
        levels=plan.levels,
        base_level=BASE_LEVEL,
        base_bytes=scale.base_bytes,
        budgets=plan.budgets,
        resamples=plan.resamples,
        seed=plan.seed,
        utility_edge=estimate(scale.edge),
        utility_cloud=estimate(scale.cloud),
        gap=estimate(scale.cloud - scale.edge),
        curves=tuple(one.curve for one in [*oracles, *drawn]),
        leads=_leads(scale, drawn, plan.budgets),
        losses=_losses(scale, oracles, drawn, plan.budgets),
        notes=tuple(notes),
    )


def _oracles(scale: _Scale, plan: Plan, shares: Sequence[float]) -> list[_Drawn]:
    """Of any region; then, where crops take part, of the edge's crops alone."""
    levels = tuple(dict.fromkeys([*plan.levels, BASE_LEVEL]))
    budgets = [share * scale.base_bytes for share in shares]
    proposed = None
    if plan.crops:
        choices = Choices.of(scale.outcomes, levels, whole=False, crops=True)
        proposed = choose_best(scale.outcomes, choices, budgets, OWN_CROPS)
    choices = Choices.of(scale.outcomes, levels, whole=True, crops=plan.crops)
    # Who may send anything may also send what the other does.
    anywhere = choose_best(scale.outcomes, choices, budgets, ANY_REGION, also=proposed)
    about = "Knows the labels; may send any frame and crop at any level."
    found = [_drawn_oracle(scale, ANY_REGION, about, shares, anywhere)]
    if proposed is not None:
        about = "Knows the labels; may send the edge's crops alone, at any level."
        found.append(_drawn_oracle(scale, OWN_CROPS, about, shares, proposed))
    return found


def _drawn_oracle(
    scale: _Scale, name: str, about: str, shares: Sequence[float], rows: Sequence[list[Asks]]
) -> _Drawn:
    return scale.draw((name, about, "oracle"), dict(zip(shares, rows, strict=True)))


def _leads(scale: _Scale, drawn: Sequence[_Drawn], budgets: Sequence[float]) -> tuple[Lead, ...]:
    """Ours beside the best baseline at the same bytes: a budget that was missed is no lead."""
    rivals = [one for one in drawn if one.curve.kind == "baseline"]
    leads = []
    for own in drawn:
        if own.curve.kind != "own":
            continue
        for budget in budgets:
            share = own.curve.at(budget).share
            rival = max(rivals, key=lambda one: float(scale.at_share(one, share)[0]))
            mine = scale.samples(own.rows[budget])
            theirs = scale.at_share(rival, share, resampled=True)
            leads.append(
                Lead(
                    policy=own.curve.name,
                    budget=budget,
                    share=share,
                    rival=rival.curve.name,
                    map50_95=estimate(mine - theirs),
                    recovered=_finite(scale.recovered(mine) - scale.recovered(theirs)),
                )
            )
    return tuple(leads)


def _losses(
    scale: _Scale, oracles: Sequence[_Drawn], drawn: Sequence[_Drawn], budgets: Sequence[float]
) -> tuple[Loss, ...]:
    """What both oracles reach beyond ours with the bytes that ours took."""
    if len(oracles) < 2:
        return ()
    losses = []
    for own in drawn:
        if own.curve.kind != "own":
            continue
        for budget in budgets:
            point = own.curve.at(budget)
            anywhere, proposed = (float(scale.at_share(o, point.share)[0]) for o in oracles)
            losses.append(
                Loss(
                    policy=own.curve.name,
                    budget=budget,
                    share=point.share,
                    proposals=anywhere - proposed,
                    score=proposed - (point.map50_95.value or 0.0),
                )
            )
    return tuple(losses)


def _finite(samples: Array) -> Estimate:
    """An estimate of what may not be a number, which then is unknown."""
    if not np.isfinite(samples[0]):
        return Estimate(value=None)
    if not np.isfinite(samples).all():
        return Estimate(value=float(samples[0]))
    return estimate(samples)


def _source(outcomes: Outcomes) -> Source:
    material = outcomes.material
    return Source(
        name=material.name,
        digest=material.digest,
        frames=len(material.frames),
        groups=len(material.groups),
        lost_frames=material.lost,
        objects=int(outcomes.judge.objects.sum()),
        reference="cloud" if material.split is None else "labels",
    )


def _model(bundle: Bundle) -> Model:
    return Model(name=bundle.info.name, version=bundle.info.version, digest=bundle.digest)
