"""`model-workshop inspect`: verifies a bundle and prints what it says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "verify a bundle and print what it says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.inspection import as_document, describe

    bundle = Bundle.open(arguments.bundle)
    if arguments.json:
        print(json.dumps(as_document(bundle), indent=1, sort_keys=True))
    else:
        print(describe(bundle))
