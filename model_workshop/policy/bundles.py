"""Puts a fitted policy into an edge bundle, and reads what is given beside the observations."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.gains import GainModel, RiskUnits
from foundation.pool import Pool
from foundation.settings import parse_settings
from model_workshop.policy.fitting import BUDGETS, PolicyFit, balanced_costs
from model_workshop.policy.observations import Observations


def class_costs_of(text: str, observations: Observations) -> Mapping[str, float]:
    """What `flat`, `balanced` or a list of label=cost means.

    Raises:
        ConfigError: it means nothing, or names a label that the bundle does not have.
    """
    if text == "flat":
        return {}
    if text == "balanced":
        return balanced_costs(observations)
    costs = {}
    for pair in text.split(","):
        label, _, cost = pair.partition("=")
        try:
            value = float(cost)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise ConfigError(
                f"{pair!r} is no class cost",
                remedy="Write flat, balanced, or LABEL=COST,... with costs of 0 or more",
            )
        costs[label.strip()] = value
    for label in sorted(set(costs) - set(observations.labels)):
        raise ConfigError(
            f"The bundle has no label {label!r}",
            remedy=f"Choose from {', '.join(observations.labels)}",
        )
    return costs


def read_risk(path: Path) -> RiskUnits:
    """The units on which promised risks are calibrated.

    Raises:
        ConfigError: the file is absent or no such thing.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The risk units {path} cannot be read: {error}",
            remedy="Give a JSON object of doubts, wrong, groups and group_count",
        ) from error
    return parse_settings(document, RiskUnits, origin=str(path))


def put_policy(
    bundle: Bundle,
    fit: PolicyFit,
    observations: Observations,
    *,
    risk: RiskUnits | None = None,
    pool: Pool | None = None,
) -> Bundle:
    """The bundle with its policy.

    Args:
        bundle: the edge bundle.
        fit: what asking gains.
        observations: what it was fitted on.
        risk: what a promised risk is calibrated on.
        pool: how both opinions are joined.

    Raises:
        ConfigError: the observations are of another bundle's scores or labels.
    """
    meta = observations.meta
    if meta["edge_scores"] != bundle.scores_digest or observations.labels != bundle.labels:
        raise ConfigError(
            f"The observations are of other scores than those of {bundle.info.name}: "
            f"{str(meta['edge_scores'])[:12]}, not {bundle.scores_digest[:12]}",
            remedy="Observe with the very bundle that is to carry the policy",
        )
    figures = {
        "budgets": BUDGETS,
        "held_out": dict(fit.held_out),
        "material": meta["material"],
        "material_digest": meta["material_digest"],
        "reference": meta["reference"],
        "units": len(observations.unit_group),
        "proposals": len(observations.score),
    }
    fields = {name: getattr(fit.model, name) for name in GainModel.model_fields}
    fields |= {"ordinary": meta.get("ordinary"), "risk": risk, "pool": pool, "figures": figures}
    model = GainModel(**fields)
    return dataclasses.replace(bundle, policy=model)
