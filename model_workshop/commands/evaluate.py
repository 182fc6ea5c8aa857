"""`model-workshop evaluate`: how good a bundle is on a split."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "COCO mAP and best F1 of a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("split", type=Path, help="directory with images/ and instances.json")
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.datasets import read_split
    from model_workshop.evaluation.coco import evaluate

    bundle = Bundle.open(arguments.bundle)
    figures = evaluate(bundle, read_split(arguments.split), threads=arguments.threads)
    print(
        f"{bundle.info.name} {bundle.info.version} on {figures.images} images of {arguments.split}"
    )
    print(f"mAP50-95 {100 * figures.map50_95:.1f}   mAP50 {100 * figures.map50:.1f}")
    best = figures.best
    print(
        f"best F1 {best.f1:.3f} at score {best.threshold:.3f} "
        f"(precision {best.precision:.3f}, recall {best.recall:.3f}; class and IoU 0.33)"
    )
    for label, value in figures.class_map50.items():
        print(f"  AP50 {100 * value:5.1f}  {label}")
