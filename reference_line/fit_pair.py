"""What is fitted on lines into the shipped bundles: `python -m reference_line.fit_pair --help`.

After `train_pair`, in this order: the edge's thresholds, the cloud's, the edge's policy. It needs
no training library. docs/models.md has the figures it gave.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from foundation.bundle import Bundle
from foundation.manifest import Thresholds
from model_workshop.assemble import assemble
from reference_line.demo_plan import BUNDLES
from reference_line.evaluation import Claim, edge_claims
from reference_line.fit_asking import fit_policy_of_edge
from reference_line.track_thresholds import (
    BAND_LOW,
    FRAMES,
    TEST_SEEDS,
    VALIDATION_SEEDS,
    LineRun,
    above,
    cloud_claims,
    fit_cloud,
    fit_edge,
    recall_by_size,
    run_line,
    total_score,
)

_SIDE_BY_SIDE = 2
"""Edge nodes that run at the same time: each uses little more than one core."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.fit_pair")
    parser.add_argument(
        "step",
        choices=("edge", "cloud", "policy"),
        help="edge, cloud: thresholds of that bundle; policy: what asking that cloud gains, into "
        "the edge bundle",
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for runs of the edge")
    parser.add_argument("--bundles", type=Path, default=BUNDLES, help="where the bundles are")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.step == "policy":
        set_policy(arguments.bundles, arguments.work)
    else:
        set_thresholds(arguments.step, arguments.bundles, arguments.work)
    return 0


def set_thresholds(part: str, bundles: Path, work: Path) -> None:
    """Fits a bundle's thresholds on validation lines and reports what they give on other lines."""
    edge_path, cloud_path = (bundles / name for name in ("edge-reference", "cloud-reference"))
    if part == "edge":
        edge = _with_band_from(Bundle.open(edge_path), BAND_LOW)
        replace(edge_path, edge)
        fitted = fit_edge(edge, _runs(edge_path, VALIDATION_SEEDS, work))
        replace(edge_path, _carded(edge, fitted, {}))
        return
    edge, cloud = Bundle.open(edge_path), Bundle.open(cloud_path)
    fitted = fit_cloud(cloud, _runs(edge_path, VALIDATION_SEEDS, work))
    runs = _runs(edge_path, TEST_SEEDS, work)
    limits = edge.thresholds.default
    detections_min = runs[0].settings.tracks.min_detections
    seen = [
        edge_claims(run.records.tracks, edge.thresholds, detections_min=detections_min)
        for run in runs
    ]
    asked = above(cloud_claims(cloud, runs), fitted.default.report)
    figures = {
        "per_defect": {
            "lines": list(TEST_SEEDS),
            "frames": FRAMES * len(TEST_SEEDS),
            "edge_alone": {"threshold": limits.report, **_figures(seen, runs)},
            "cloud_on_every_proposal": _figures(asked, runs),
            "proposals": sum(len(run.records.tracks) for run in runs),
        }
    }
    # A policy names this cloud, so the cloud cannot name an edge that has one.
    parent = dataclasses.replace(edge, policy=None).digest
    parented = dataclasses.replace(
        cloud,
        info=cloud.info.model_copy(
            update={"model_card": cloud.info.model_card.model_copy(update={"parents": (parent,)})}
        ),
    )
    replace(cloud_path, _carded(parented, fitted, figures))
    print(json.dumps(figures, indent=1))


def set_policy(bundles: Path, work: Path) -> None:
    """Fits what asking gains on the validation lines, and puts it into the edge bundle."""
    edge_path, cloud_path = (bundles / name for name in ("edge-reference", "cloud-reference"))
    edge, fit = fit_policy_of_edge(edge_path, cloud_path, work)
    replace(edge_path, edge)
    for name, reached in fit.held_out.items():
        print(f"{name}: {reached}")


def _runs(edge: Path, seeds: tuple[int, ...], work: Path) -> list[LineRun]:
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(lambda seed: run_line(edge, seed, work / f"line-{seed}"), seeds))


def _with_band_from(bundle: Bundle, low: float) -> Bundle:
    """The bundle with a band that begins there.

    Tracks begin where the band does, so what is fitted on tracks is fitted after this. The score
    floor stays where training put it: detections weaker still prolong tracks of nothing.
    """
    default = bundle.thresholds.default.model_copy(update={"escalate_low": low})
    thresholds = bundle.thresholds.model_copy(update={"default": default})
    return _carded(bundle, thresholds, {})


def _carded(bundle: Bundle, thresholds: Thresholds, figures: Mapping[str, Any]) -> Bundle:
    """The bundle with other thresholds, its smoke test still within them, and more figures."""
    card = bundle.info.model_card
    update = {"model_card": card.model_copy(update={"figures": {**card.figures, **figures}})}
    info = bundle.info.model_copy(update=update)
    return assemble(
        info,
        bundle.model,
        bundle.smoke.pixels,
        calibration=bundle.calibration,
        thresholds=thresholds,
    )


def _figures(claims: Sequence[Sequence[Claim]], runs: Sequence[LineRun]) -> dict[str, Any]:
    score = total_score(claims, runs)
    return {
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "f1": round(score.f1, 4),
        "recall_by_size": recall_by_size(claims, runs),
    }


def replace(path: Path, bundle: Bundle) -> None:
    """Writes a bundle where another one may be."""
    if path.exists():
        shutil.rmtree(path)
    bundle.write(path)


if __name__ == "__main__":
    raise SystemExit(main())
