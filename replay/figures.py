"""What a replay says: the values that the table, the JSON file and the page share.

Utilities are shares in 0..1. The *gap recovered* is (U - U_edge) / (U_cloud - U_edge) and is never
clipped: a fused result can be better than the cloud's own. What is not known is null, never 0: so
is every share of a gap that is not above 0, and every interval where there is but one group.
"""

from __future__ import annotations

from typing import Literal

import pydantic

from foundation.settings import Settings
from model_workshop.evaluation.figures import Estimate


class Point(Settings):
    """A policy at one budget."""

    budget: float
    """Share of the base bytes that calibration was asked to keep within."""
    share: float
    """Share of the base bytes that the material really took."""
    sent_bytes: int
    asks: int
    map50_95: Estimate
    map50: float
    f1: float
    recovered: Estimate


class Curve(Settings):
    """A policy at all budgets."""

    name: str
    about: str
    kind: Literal["own", "baseline", "oracle"]
    points: tuple[Point, ...]
    area: float | None
    """Mean of the gap recovered over all shares of bytes (APGR); chance has 0.5."""
    share_for_half: float | None
    """Least share of bytes that recovers 50 % of the gap."""
    share_for_most: float | None
    """Least share of bytes that recovers 90 % of the gap."""

    def at(self, budget: float) -> Point:
        """The point of a budget."""
        return next(point for point in self.points if point.budget == budget)


class Lead(Settings):
    """One of our policies beside the best baseline with the same bytes, paired."""

    policy: str
    budget: float
    share: float
    """Bytes that the policy really took at that budget. The baseline's utility is read at these,
    straight between its points."""
    rival: str
    """The baseline with the highest utility there, on this very material."""
    map50_95: Estimate
    """Difference of utilities."""
    recovered: Estimate
    """Difference of the gap recovered."""


class Loss(Settings):
    """Where a budget's utility is left."""

    policy: str
    budget: float
    share: float
    """Bytes that the policy really took at that budget; oracles are read at these."""
    proposals: float
    """Oracle of any region less oracle of the edge's crops: what the edge does not propose."""
    score: float
    """Oracle of the edge's crops less the policy: what the policy does not choose well. Below 0
    where a policy gains more by whole frames than the oracle by crops."""


class Source(Settings):
    """Material that was replayed."""

    name: str
    digest: str
    frames: int
    groups: int
    lost_frames: int
    objects: int
    reference: Literal["labels", "cloud"]
    """What results are judged by; `cloud`: what the cloud reports of the frames as recorded."""


class Model(Settings):
    """A bundle that took part."""

    name: str
    version: str
    digest: str


class Replay(Settings):
    """Everything that a replay found."""

    format: Literal["hardcase-replay/1"] = "hardcase-replay/1"
    material: Source
    calibration: Source | None
    """Null: groups of the material took turns in setting the dials."""
    edge: Model
    cloud: Model
    levels: tuple[str, ...]
    base_level: str
    base_bytes: int
    budgets: tuple[float, ...]
    """Those of the tables; curves have more points."""
    resamples: int
    seed: int
    utility_edge: Estimate
    utility_cloud: Estimate
    gap: Estimate
    curves: tuple[Curve, ...] = pydantic.Field(min_length=1)
    leads: tuple[Lead, ...]
    losses: tuple[Loss, ...]
    notes: tuple[str, ...] = ()
    """What was left out of the replay and why, in sentences."""

    @property
    def unstable(self) -> bool:
        """Whether the gap is too small to be divided by."""
        return (self.gap.value or 0.0) < GAP_MIN

    def curve(self, name: str) -> Curve:
        """The curve of a policy."""
        return next(curve for curve in self.curves if curve.name == name)


GAP_MIN = 0.02
"""Below two points of mAP a share of the gap says little; look at utilities."""
