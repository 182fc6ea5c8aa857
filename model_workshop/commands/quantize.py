"""`model-workshop quantize`: makes a bundle's model INT8, and says what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path

from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.outputs import check_output

HELP = "make a bundle's model INT8, and say what that costs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path, help="a float bundle")
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="32 to 128 images of the model's domain: three quarters calibrate, the others compare",
    )
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument(
        "--evaluate", type=Path, metavar="SPLIT", help="split on which the loss is held"
    )
    parser.add_argument(
        "--loss-max",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="of mAP50-95 on that split (default 1.0); layers stay float until it is held",
    )
    parser.add_argument(
        "--fit", type=Path, metavar="SPLIT", help="split on which to fit score calibration anew"
    )
    parser.add_argument(
        "--mode",
        choices=("static", "dynamic"),
        default="static",
        help="static (default): weights and activations, what makes convolutions faster; dynamic: "
        "only the weights of matrix products, for models that are large because of them "
        "(transformers): smaller, seldom faster; static serves convolutions better",
    )
    add_gate_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.datasets import read_split
    from model_workshop.gating.gate import write_admitted
    from model_workshop.quantization.bundles import Mode, Request, quantize_bundle

    check_output(arguments.out)
    source = Bundle.open(arguments.bundle)
    gate = open_gate(arguments, reference=source)
    request = Request(
        arguments.images,
        Mode(arguments.mode),
        evaluate=read_split(arguments.evaluate) if arguments.evaluate else None,
        loss_max=arguments.loss_max / 100,
        fit=read_split(arguments.fit) if arguments.fit else None,
    )
    quantized = quantize_bundle(source, request, say=lambda line: print(f"... {line}"))
    print("\n".join(quantized.report.lines()))
    written = write_admitted(quantized.bundle, arguments.out, gate)
    print(f"{arguments.out}: {written.info.name}, {written.digest[:12]}")
    if arguments.fit is None:
        print("INT8 moves scores: score calibration was reset; give --fit SPLIT to fit it anew")
