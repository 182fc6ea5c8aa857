"""The command `model-workshop`: train, quantize, evaluate, import, inspect."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foundation.errors import EXIT_CONFIG, EXIT_OK, ConfigError, HardcaseError

_EXTRAS = {"torch": "train", "onnx": "workshop", "pycocotools": "workshop"}


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="model-workshop", description="Prepares detectors off-line and writes bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands.add_parser("train", help="train a detector on a COCO-format dataset"))
    _add_quantize(commands.add_parser("quantize", help="make a bundle's model INT8"))
    evaluate = commands.add_parser("evaluate", help="COCO mAP and best F1 of a bundle")
    evaluate.add_argument("bundle", type=Path)
    evaluate.add_argument("split", type=Path, help="directory with images/ and instances.json")
    evaluate.add_argument("--threads", type=int, default=1)
    _add_import(commands.add_parser("import", help="make a bundle of a public ONNX detector"))
    inspect = commands.add_parser("inspect", help="verify a bundle and print what it says")
    inspect.add_argument("bundle", type=Path)
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="directory with train/, val/ and test/")
    parser.add_argument("--kind", choices=("frame", "crop"), default="frame")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints; resumes")
    parser.add_argument("--minutes", type=float, default=50.0, help="budget of the whole training")
    parser.add_argument("--epochs", type=int, default=1_000_000, help="budget in passes")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=20261120)
    parser.add_argument("--proposer", type=Path, help="frame bundle that asks; needed for crop")


def _add_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="a float bundle")
    parser.add_argument("--images", type=Path, required=True, help="32 or more to calibrate with")
    parser.add_argument("--fit", type=Path, help="split on which to fit score calibration anew")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--family", choices=("yolox", "yolov8"), required=True)
    parser.add_argument("--labels", type=Path, required=True, help="class names, one a line")
    parser.add_argument("--out", type=Path, required=True, help="bundle to write")
    parser.add_argument("--name", help="of the bundle; the file's name where absent")
    parser.add_argument("--license", default="unknown", help="what the model may be used under")
    parser.add_argument("--smoke", type=Path, help="picture that shows something it knows")


def _run_train(arguments: argparse.Namespace) -> None:
    from foundation.bundle import Bundle
    from model_workshop.recipe import cloud_recipe, edge_recipe, finish, train_recipe
    from model_workshop.training import TrainingPlan

    _refuse_existing(arguments.out)
    if arguments.kind == "crop" and arguments.proposer is None:
        raise ConfigError(
            "A crop model is asked where a frame model is not sure",
            remedy="Give the frame model's bundle (--proposer)",
        )
    plan = TrainingPlan(
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    recipe = edge_recipe(plan) if arguments.kind == "frame" else cloud_recipe(plan)
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    train_recipe(recipe, arguments.dataset, arguments.work, proposer=proposer)
    script = f"model-workshop train --kind {arguments.kind} --seed {arguments.seed}"
    bundle = finish(recipe, arguments.dataset, arguments.work, proposer=proposer, script=script)
    bundle.write(arguments.out)
    print(arguments.out)


def _run_quantize(arguments: argparse.Namespace) -> None:
    from foundation.bundle import Bundle
    from model_workshop.quantize_bundle import quantize_bundle

    _refuse_existing(arguments.out)
    source = Bundle.open(arguments.bundle)
    quantized = quantize_bundle(source, arguments.images, fit=arguments.fit)
    quantized.write(arguments.out)
    share = len(quantized.model) / len(source.model)
    print(f"{arguments.out}: {len(quantized.model):,} bytes, {share:.0%} of the float model")
    if arguments.fit is None:
        print("INT8 moves scores: score calibration was reset; give --fit SPLIT to fit it anew")


def _run_evaluate(arguments: argparse.Namespace) -> None:
    from foundation.bundle import Bundle
    from model_workshop.datasets import read_split
    from model_workshop.evaluate import evaluate

    bundle = Bundle.open(arguments.bundle)
    figures = evaluate(bundle, read_split(arguments.split), threads=arguments.threads)
    print(
        f"{bundle.info.name} {bundle.info.version} on {figures.images} images of {arguments.split}"
    )
    print(f"mAP50-95 {100 * figures.map50_95:.1f}   mAP50 {100 * figures.map50:.1f}")
    best = figures.best
    print(
        f"best F1 {best.f1:.3f} at score {best.threshold:.3f} "
        f"(precision {best.precision:.3f}, recall {best.recall:.3f}; class and IoU 0.33)"
    )
    for label, value in figures.class_map50.items():
        print(f"  AP50 {100 * value:5.1f}  {label}")


def _run_import(arguments: argparse.Namespace) -> None:
    from model_workshop.datasets import read_picture
    from model_workshop.public_models import Family, import_model, read_labels

    _refuse_existing(arguments.out)
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


def _run_inspect(arguments: argparse.Namespace) -> None:
    from foundation.bundle import Bundle
    from model_workshop.inspection import describe

    print(describe(Bundle.open(arguments.bundle)))


def _refuse_existing(path: Path) -> None:
    """Says before hours of work what writing the bundle would say after them."""
    if path.exists():
        raise ConfigError(f"{path} exists", remedy="Remove it or choose another path")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    commands = {
        "train": _run_train,
        "quantize": _run_quantize,
        "evaluate": _run_evaluate,
        "import": _run_import,
        "inspect": _run_inspect,
    }
    try:
        commands[arguments.command](arguments)
    except HardcaseError as error:
        print(f"model-workshop: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"model-workshop: {arguments.command} needs {error.name}. "
            f"Install it: pip install 'hardcase[{extra}]'.",
            file=sys.stderr,
        )
        return EXIT_CONFIG
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
