"""By what the frame lane decides what to ask, from bundle and settings, checked at the start.

Opens the budget that the cameras of a machine share, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pydantic

from edge_node.config import CropSettings, EdgeSettings, NodeBudgetSettings, PolicySettings
from edge_node.logic.aim import Aim, BudgetAim, RateAim, RiskAim
from edge_node.logic.budget import check_budget
from edge_node.logic.novelty import NoveltyModel
from edge_node.logic.risk import Promise, RiskTarget, calibrate
from edge_node.logic.spending import Budget, Ledger, Limits
from edge_node.ports import AskingRules, ScoreLimits
from foundation.bundle import Bundle
from foundation.errors import ConfigError, IntegrityError
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel, LevelCosts, variance_gains
from foundation.levels import Level

DEFAULT_LEVELS = ("webp80",)
OpenNode = Callable[[Path, Limits, Ledger], AbstractContextManager[Budget]]
_HEADROOM = 0.1
"""Of the burst of bytes, what is left to crops that turn out larger than predicted."""


def gain_model_of(bundle: Bundle, crop: CropSettings) -> GainModel:
    """The bundle's gain model, or p(1 - p) where it has none, with the levels of the settings.

    Raises:
        ConfigError: the settings name a level that the bundle's gain model was not fitted on.
    """
    if bundle.policy is None:
        levels = crop.levels or DEFAULT_LEVELS
        return variance_gains([LevelCosts(level=level) for level in levels])
    known = bundle.policy.parsed_levels
    wanted = tuple(Level.parse(text) for text in crop.levels)
    for level in wanted:
        if level not in known:
            raise ConfigError(
                f"crop.levels names {level}, on which the policy of the bundle "
                f"{bundle.info.name} was not fitted",
                remedy=f"Choose from {', '.join(map(str, known))}, or fit the policy anew",
            )
    return bundle.policy.with_levels(wanted) if wanted else bundle.policy


@contextmanager
def open_rules(
    settings: EdgeSettings,
    bundle: Bundle,
    limits: ScoreLimits,
    open_node: OpenNode | None = None,
) -> Iterator[AskingRules]:
    """The rules of one camera, for as long as its node's budget is open.

    Args:
        settings: Of the edge node.
        bundle: The edge bundle, verified.
        limits: Its score limits, with what the settings override.
        open_node: Opens the budget of the machine in a folder, with its limits and the camera's
            own ledger; None where cameras share none.

    Raises:
        ConfigError: a budget could never pay for one crop, the settings speak of labels or levels
            that the bundle does not know, a risk cannot be promised, or the node's budget cannot
            be opened.
        IntegrityError: the bundle's policy is not what it should be.
    """
    policy = _policy_of_fresh(settings)
    gains = gain_model_of(bundle, settings.crop)
    for label in sorted(set(policy.class_cost) - set(bundle.labels)):
        raise ConfigError(
            f"policy.class_cost names the label {label!r}, which the bundle {bundle.info.name} "
            "does not have",
            remedy=f"Choose from {', '.join(bundle.labels)}",
        )
    costs = [
        policy.class_cost.get(label, float(own))
        for label, own in zip(bundle.labels, gains.class_costs(bundle.labels), strict=True)
    ]
    smallest = _smallest_bytes(gains, settings.crop)
    check_limits("policy", policy, smallest)
    ordinary = None
    if gains.ordinary is not None:
        try:
            ordinary = NoveltyModel.model_validate(gains.ordinary)
        except pydantic.ValidationError as error:
            raise IntegrityError(
                f"The policy of the bundle {bundle.info.name} says of ordinary frames what is not "
                f"understood: {error.errors()[0]['msg']}",
                remedy="Fit it anew with `model-workshop fit-policy`",
            ) from error
    with _open_budget(policy, smallest, open_node) as budget:
        aim = make_aim(policy, budget, gains, bundle.info.name)
        yield AskingRules(limits, gains, np.array(costs, np.float32), aim, ordinary)


def make_aim(policy: PolicySettings, budget: Budget, gains: GainModel, bundle: str) -> Aim:
    """What the settings aim at.

    Raises:
        ConfigError: a risk cannot be promised with what the bundle's policy was fitted on.
    """
    if policy.aim == "budget":
        return BudgetAim(policy, budget)
    if policy.aim == "rate":
        return RateAim(policy, budget)
    if gains.risk is None:
        raise ConfigError(
            f"policy.aim is risk, but the bundle {bundle} has nothing to calibrate a risk on",
            remedy="Fit its policy with `model-workshop fit-policy`, or aim at a budget",
        )
    units = gains.risk
    threshold = calibrate(
        np.array(units.doubts),
        np.array(units.wrong, np.bool_),
        np.array(units.groups, np.int64),
        group_count=units.group_count,
        target=RiskTarget(policy.risk.alpha, Promise(policy.risk.promise)),
    )
    return RiskAim(policy, budget, threshold)


def check_limits(
    section: str, limits: PolicySettings | NodeBudgetSettings, smallest: float
) -> None:
    """Refuses budgets of a section of the settings that could not pay for one small escalation.

    Raises:
        ConfigError: one of them could not.
    """
    largest = smallest / (1 - _HEADROOM)
    name = f"{section}.uplink_bytes"
    check_budget(name, limits.uplink_bytes_per_s, limits.uplink_bytes_burst, largest)
    check_budget(f"{section}.requests", limits.requests_per_s, limits.requests_burst, 1.0)


@contextmanager
def _open_budget(
    policy: PolicySettings, smallest: float, open_node: OpenNode | None
) -> Iterator[Budget]:
    own = Ledger(_limits(policy))
    if not policy.node.folder:
        yield own
        return
    if open_node is None:
        raise ConfigError(
            "policy.node.folder is set, where no budget is shared",
            remedy="Leave it empty but for the edge node itself",
        )
    check_limits("policy.node", policy.node, smallest)
    with open_node(Path(policy.node.folder), _limits(policy.node), own) as shared:
        yield shared


def _policy_of_fresh(settings: EdgeSettings) -> PolicySettings:
    """The policy with the bytes that are left to it where a backlog has its share of them."""
    if not settings.spool.folder:
        return settings.policy
    left = 1 - settings.spool.backlog_share
    return settings.policy.model_copy(
        update={
            "uplink_bytes_per_s": settings.policy.uplink_bytes_per_s * left,
            "uplink_bytes_burst": settings.policy.uplink_bytes_burst * left,
        }
    )


def _limits(settings: PolicySettings | NodeBudgetSettings) -> Limits:
    return Limits(
        bytes_per_s=settings.uplink_bytes_per_s,
        bytes_burst=settings.uplink_bytes_burst,
        requests_per_s=settings.requests_per_s,
        requests_burst=settings.requests_burst,
        bytes_headroom=settings.uplink_bytes_burst * _HEADROOM,
    )


def _smallest_bytes(gains: GainModel, crop: CropSettings) -> float:
    """Bytes of the smallest crop at the cheapest level."""
    sides = gains.sides_px(crop.side_min_px)[:, None]
    image = float(gains.image_bytes(sides**2, 1.0).min())
    return image + FRAMING_BYTES + PROPOSAL_BYTES
