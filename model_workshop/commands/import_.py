"""`model-workshop import`: makes a bundle of a public ONNX detector."""

from __future__ import annotations

import argparse
from pathlib import Path

from model_workshop.outputs import refuse_existing

HELP = "make a bundle of a public ONNX detector"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--family", choices=("yolox", "yolov8"), required=True)
    parser.add_argument("--labels", type=Path, required=True, help="class names, one a line")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--name", help="of the bundle; the file's name where absent")
    parser.add_argument("--license", default="unknown", help="what the model may be used under")
    parser.add_argument("--smoke", type=Path, help="picture that shows something it knows")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from model_workshop.datasets import read_picture
    from model_workshop.importing.families import Family, import_model, read_labels

    refuse_existing(arguments.out)
    bundle = import_model(
        arguments.model,
        Family(arguments.family),
        read_labels(arguments.labels),
        name=arguments.name or arguments.model.stem,
        license_name=arguments.license,
        smoke_pixels=read_picture(arguments.smoke) if arguments.smoke else None,
    )
    bundle.write(arguments.out)
    print(
        f"{arguments.out}: {bundle.info.name}, {len(bundle.labels)} classes, {bundle.digest[:12]}"
    )
