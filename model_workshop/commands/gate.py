"""`model-workshop gate`: holds a bundle against accuracy floors; exits with 1 below them."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "hold a bundle against accuracy floors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("split", type=Path, help="held-out: images/ and instances.json")
    parser.add_argument("--floors", type=Path, required=True, help="floors.yaml")
    parser.add_argument("--reference", type=Path, help="bundle that losses are measured against")
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks, for a crop model")
    parser.add_argument("--threads", type=int, default=1)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.gating.gate import read_gate

    bundle = Bundle.open(arguments.bundle)
    gate = read_gate(
        arguments.floors,
        arguments.split,
        reference=Bundle.open(arguments.reference) if arguments.reference else None,
        proposer=Bundle.open(arguments.proposer) if arguments.proposer else None,
        threads=arguments.threads,
    )
    gate.admit(bundle)
    print(f"{bundle.info.name} {bundle.info.version} holds every floor of {arguments.floors}")
