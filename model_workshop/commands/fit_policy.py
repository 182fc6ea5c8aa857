"""`model-workshop fit-policy`: fits what asking a cloud model gains, into the edge bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.outputs import check_output

if TYPE_CHECKING:
    from model_workshop.policy.fitting import PolicyFit

HELP = "fit what asking the cloud gains"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path, help="edge bundle that was observed")
    parser.add_argument("observations", type=Path, help="written by hardcase-replay --observe")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument(
        "--class-cost",
        default="flat",
        metavar="flat|balanced|LABEL=COST,...",
        help="how much each class matters; balanced: less, the more common it is (default: flat)",
    )
    parser.add_argument(
        "--rule",
        choices=("measured", "learned", "variance"),
        default="measured",
        help="measured takes what gained more on held-out groups (default)",
    )
    parser.add_argument(
        "--risk",
        type=Path,
        help="JSON of doubts, wrong, groups and group_count, to calibrate promised risks on",
    )
    add_gate_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.gating.gate import write_admitted
    from model_workshop.policy.bundles import class_costs_of, put_policy, read_risk
    from model_workshop.policy.fitting import GROUPS_MIN, fit_policy
    from model_workshop.policy.observations import check_learnable, read_observations

    check_output(arguments.out)
    bundle = Bundle.open(arguments.bundle)
    gate = open_gate(arguments, reference=bundle)
    observations = read_observations(arguments.observations)
    check_learnable(observations, arguments.observations, groups_min=GROUPS_MIN)
    risk = read_risk(arguments.risk) if arguments.risk else None
    fit = fit_policy(
        observations,
        class_costs=class_costs_of(arguments.class_cost, observations),
        learned={"measured": None, "learned": True, "variance": False}[arguments.rule],
    )
    fitted = put_policy(bundle, fit, observations, risk=risk)
    written = write_admitted(fitted, arguments.out, gate)
    _print(fit)
    print(f"{arguments.out}: {written.info.name}, {written.digest[:12]}")


def _print(fit: PolicyFit) -> None:
    from model_workshop.policy.fitting import BUDGETS

    print("share of the greatest gain reached on held-out groups, at shares of the bytes")
    width = max(map(len, fit.held_out))
    print(f"  {'':<{width}}  " + "  ".join(f"{share:>6.0%}" for share in BUDGETS))
    for name, reached in fit.held_out.items():
        print(f"  {name:<{width}}  " + "  ".join(f"{value:>6.1%}" for value in reached))
    model = fit.model
    print(
        f"taken: {model.rule}, {len(model.levels)} levels, crops keep {model.crop_share:g} and "
        f"frames {model.frame_share:g} of the gain"
    )
