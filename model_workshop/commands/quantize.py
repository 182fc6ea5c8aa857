"""`model-workshop quantize`: makes a bundle's model INT8."""

from __future__ import annotations

import argparse
from pathlib import Path

from model_workshop.outputs import refuse_existing

HELP = "make a bundle's model INT8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path, help="a float bundle")
    parser.add_argument("--images", type=Path, required=True, help="32 or more to calibrate with")
    parser.add_argument("--fit", type=Path, help="split on which to fit score calibration anew")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.quantization.bundles import quantize_bundle

    refuse_existing(arguments.out)
    source = Bundle.open(arguments.bundle)
    quantized = quantize_bundle(source, arguments.images, fit=arguments.fit)
    quantized.write(arguments.out)
    share = len(quantized.model) / len(source.model)
    print(f"{arguments.out}: {len(quantized.model):,} bytes, {share:.0%} of the float model")
    if arguments.fit is None:
        print("INT8 moves scores: score calibration was reset; give --fit SPLIT to fit it anew")
