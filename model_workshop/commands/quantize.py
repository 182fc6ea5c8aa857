"""`model-workshop quantize`: makes a bundle's model INT8, and says what that costs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.outputs import check_output

HELP = "make a bundle's model INT8, and say what that costs"
_LOSS_MAX_POINTS = 1.0


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
    from model_workshop.datasets import check_disjoint, read_split
    from model_workshop.gating.gate import write_admitted
    from model_workshop.quantization.bundles import Mode, Request, quantize_bundle
    from model_workshop.quantization.pictures import picture_files

    check_output(arguments.out)
    loss_max = _loss_max(arguments)
    source = Bundle.open(arguments.bundle)
    gate = open_gate(arguments, reference=source)
    request = Request(
        arguments.images,
        Mode(arguments.mode),
        evaluate=read_split(arguments.evaluate) if arguments.evaluate else None,
        loss_max=loss_max,
        fit=read_split(arguments.fit) if arguments.fit else None,
    )
    if gate is not None:
        # What helped to make the model does not judge it.
        for split in filter(None, (request.evaluate, request.fit)):
            check_disjoint(split, gate.split)
        check_disjoint(gate.split, images=picture_files(request.images))
    quantized = quantize_bundle(source, request, say=lambda line: print(f"... {line}"))
    print("\n".join(quantized.report.lines()))
    written = write_admitted(quantized.bundle, arguments.out, gate)
    print(f"{arguments.out}: {written.info.name}, {written.digest[:12]}")
    if arguments.fit is None:
        reset = "score calibration was reset, and with it thresholds: INT8 moves scores"
        state = reset if source.calibration.knots else "scores are not calibrated"
        print(f"{state}; give --fit SPLIT to fit them")
    if source.policy is not None:
        print("its policy was fitted on other scores and is left out: model-workshop fit-policy")


def _loss_max(arguments: argparse.Namespace) -> float:
    """The greatest loss of mAP50-95 in 0..1."""
    points: float | None = arguments.loss_max
    if points is None:
        return _LOSS_MAX_POINTS / 100
    if arguments.evaluate is None:
        raise ConfigError(
            "--loss-max is given without a split to hold it on", remedy="Give --evaluate SPLIT"
        )
    if not 0 <= points < math.inf:
        raise ConfigError(f"--loss-max is {points}", remedy="Give points of 0 or more")
    return points / 100
