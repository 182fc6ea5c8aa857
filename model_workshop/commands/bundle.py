"""`model-workshop bundle`: writes a bundle from the parts that a person has."""

from __future__ import annotations

import argparse
from pathlib import Path

from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.outputs import check_output

HELP = "write a bundle from its parts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("model", type=Path, help="the ONNX file, as it shall run")
    parser.add_argument("info", type=Path, help="the manifest's fields, YAML")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write; .zip or a folder")
    parser.add_argument("--calibration", type=Path, help="calibration.json; raw scores if absent")
    parser.add_argument("--thresholds", type=Path, help="thresholds.json; moderate ones if absent")
    parser.add_argument("--smoke", type=Path, help="picture that shows something it knows")
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks, for a crop model")
    add_gate_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.assemble import assemble_parts
    from model_workshop.datasets import read_picture
    from model_workshop.gating.gate import write_admitted
    from model_workshop.importing.families import draw_street

    check_output(arguments.out)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    gate = open_gate(arguments, proposer=proposer)
    bundle = assemble_parts(
        arguments.model,
        arguments.info,
        read_picture(arguments.smoke) if arguments.smoke else draw_street(),
        calibration=arguments.calibration,
        thresholds=arguments.thresholds,
    )
    written = write_admitted(bundle, arguments.out, gate)
    print(f"{arguments.out}: {written.info.name}, {written.digest}")
