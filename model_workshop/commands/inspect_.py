"""`model-workshop inspect`: verifies a bundle and prints what it says."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "verify a bundle and print what it says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.inspection import describe

    print(describe(Bundle.open(arguments.bundle)))
