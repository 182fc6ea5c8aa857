"""`model-workshop import`: makes a bundle of a public ONNX detector or classifier."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.gating.arguments import add_gate_arguments, open_gate
from model_workshop.importing.layouts import Family
from model_workshop.importing.preparations import Preparation
from model_workshop.outputs import check_output

HELP = "make a bundle of a public ONNX detector or classifier"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    families, preparations = [str(one) for one in Family], [str(one) for one in Preparation]
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--labels", type=Path, help="class names, one a line; else its metadata's")
    parser.add_argument("--family", choices=families, help="layout; recognized where absent")
    parser.add_argument("--pixels", choices=preparations, help="preparation; else the layout's")
    parser.add_argument("--size", type=_size, help="WIDTHxHEIGHT, for a model that takes any")
    parser.add_argument("--name", help="of the bundle; the file's name where absent")
    parser.add_argument("--license", default="unknown", help="what the model may be used under")
    parser.add_argument("--smoke", type=Path, help="picture that shows something it knows")
    add_gate_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.manifest import NAME_LENGTH_MAX
    from model_workshop.datasets import read_picture
    from model_workshop.gating.gate import write_admitted
    from model_workshop.importing.families import import_model, read_labels

    check_output(arguments.out)
    name = arguments.name or arguments.model.stem
    if not 0 < len(name) <= NAME_LENGTH_MAX:
        raise ConfigError(
            f"The bundle's name has {len(name)} characters",
            remedy=f"Give one of {NAME_LENGTH_MAX} at most (--name)",
        )
    gate = open_gate(arguments)
    bundle = import_model(
        arguments.model,
        Family(arguments.family) if arguments.family else None,
        read_labels(arguments.labels) if arguments.labels else None,
        name=name,
        license_name=arguments.license,
        smoke_pixels=read_picture(arguments.smoke) if arguments.smoke else None,
        preparation=Preparation(arguments.pixels) if arguments.pixels else None,
        size=arguments.size,
    )
    bundle = write_admitted(bundle, arguments.out, gate)
    print(bundle.info.model_card.description)
    print(
        f"{arguments.out}: {bundle.info.name}, {len(bundle.labels)} classes, {bundle.digest[:12]}"
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 640x480")
    return int(match[1]), int(match[2])
