"""How the shipped pair of bundles was made: `python -m reference_line.train_pair --help`.

One dataset of the line, two recipes of the model workshop. The edge model sees whole frames and
becomes INT8; the cloud model sees native crops, among them those where an edge model was wrong.
docs/models.md has the commands that were run and the figures they gave.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from foundation.bundle import Bundle
from model_workshop.recipe import cloud_recipe, edge_recipe, finish, train_recipe
from model_workshop.training import TrainingPlan

SEED = 20261120
BUNDLES = Path(__file__).parent / "bundles"


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m reference_line.train_pair")
    parser.add_argument("step", choices=("train", "bundle"))
    parser.add_argument("part", choices=("edge", "cloud"))
    parser.add_argument("--data", type=Path, required=True, help="written by reference-line export")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, default=50.0, help="training budget, in total")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--proposer", type=Path, help="edge bundle whose mistakes the cloud sees")
    parser.add_argument("--bundles", type=Path, default=BUNDLES, help="where the bundles go")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    plan = TrainingPlan(minutes=arguments.minutes, threads=arguments.threads, seed=SEED)
    recipe = edge_recipe(plan) if arguments.part == "edge" else cloud_recipe(plan)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    if arguments.step == "train":
        train_recipe(recipe, arguments.data, arguments.work, proposer=proposer)
        return 0
    script = f"python -m reference_line.train_pair, {arguments.part}, seed {SEED}"
    bundle = finish(recipe, arguments.data, arguments.work, proposer=proposer, script=script)
    target = arguments.bundles / recipe.name
    if target.exists():
        shutil.rmtree(target)
    bundle.write(target)
    print(f"{target}: {bundle.info.model_card.figures}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
