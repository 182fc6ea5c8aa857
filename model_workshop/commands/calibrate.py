"""`model-workshop calibrate`: fits what a bundle's scores are worth, on the outputs that ship."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.outputs import check_output

if TYPE_CHECKING:
    from model_workshop.calibration.bundles import ErrorTable
    from model_workshop.calibration.fitting import ScoreFit
    from model_workshop.evaluation.figures import Estimate

HELP = "fit what a bundle's scores are worth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("split", type=Path, help="held-out images to fit on")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--check", type=Path, help="another split, to measure the error on as well")
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks, for a crop model")
    parser.add_argument("--keep-thresholds", action="store_true", help="fit the calibration only")
    parser.add_argument("--threads", type=int, default=1)
    add_gate_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.calibration.bundles import calibrate_bundle
    from model_workshop.datasets import check_disjoint, read_split
    from model_workshop.gating.gate import write_admitted

    check_output(arguments.out)
    bundle = Bundle.open(arguments.bundle)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    gate = open_gate(arguments, reference=bundle, proposer=proposer, threads=arguments.threads)
    split = read_split(arguments.split)
    if gate is not None:
        check_disjoint(split, gate.split)
    result = calibrate_bundle(
        bundle,
        split,
        check=read_split(arguments.check) if arguments.check else None,
        proposer=proposer,
        keep_thresholds=arguments.keep_thresholds,
        threads=arguments.threads,
    )
    for table in result.tables:
        _print_errors(table, result.fit)
    _print_fallbacks(result.fit)
    written = write_admitted(result.bundle, arguments.out, gate)
    if written.policy is not bundle.policy:
        print("its policy was fitted on other scores and is left out: model-workshop fit-policy")
    default = written.thresholds.default
    print(
        f"thresholds {'kept' if arguments.keep_thresholds else 'fitted on single images'}: report "
        f"{default.report:g}, escalate {default.escalate_low:g} to {default.escalate_high:g}"
    )
    print(f"{arguments.out}: {written.info.name}, {written.digest[:12]}")


def _print_errors(table: ErrorTable, fit: ScoreFit) -> None:
    how = {
        "cross_fitted": "each image judged by a fit to others",
        "check": "other images than those of the fit",
    }[table.role]
    print(f"calibration error on {table.split.directory} ({how}), with its 95 % interval")
    # A class that borrows has too few detections for an error of its own, too.
    hits = {label: n for label, n in table.hits.items() if label not in (*fit.pooled, *fit.raw)}
    width = max(map(len, hits))
    print(f"  {'class':<{width}}  right  {'raw':>21}  {'before':>21}  {'after':>21}")
    for label, count in hits.items():
        cells = (_cell(part[label]) for part in (table.raw, table.before, table.after))
        print(f"  {label:<{width}}  {count:>5}  " + "  ".join(f"{cell:>21}" for cell in cells))


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "no detection"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _print_fallbacks(fit: ScoreFit) -> None:
    if fit.pooled:
        print(
            "too few right detections for a fit of their own, so they borrow that of all classes "
            f"together: {', '.join(fit.pooled)}"
        )
    if fit.raw:
        print(f"too few right detections in all classes: raw scores stay for {', '.join(fit.raw)}")
