"""The command `model-workshop`: what prepares models off-line, one sub-command each."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from foundation.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK, HardcaseError
from model_workshop.gating.errors import BelowFloorError

_EXIT_INTERRUPTED = 130
"""128 and the number of SIGINT, as shells count."""

_EXTRAS = {
    "torch": "train",
    "torch_pruning": "train",
    "jinja2": "workshop",
    "onnx": "workshop",
    "pycocotools": "workshop",
    "rich": "workshop",
}
"""Which extra brings a module that not every installation has."""

_COMMANDS = {
    "import": "import_",
    "train": "train",
    "distil": "distil",
    "prune": "prune",
    "finetune": "finetune",
    "quantize": "quantize",
    "evaluate": "evaluate",
    "gate": "gate",
    "calibrate": "calibrate",
    "fit-policy": "fit_policy",
    "bundle": "bundle",
    "bench": "bench",
    "inspect": "inspect_",
}
"""Module of `model_workshop.commands` by sub-command, in the order of a model's way."""


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="model-workshop", description="Prepares detectors off-line and writes bundles."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module_name in _COMMANDS.items():
        module = importlib.import_module(f"model_workshop.commands.{module_name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except BelowFloorError as error:
        print(f"model-workshop: {error}", file=sys.stderr)
        return EXIT_FAILURE
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
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` does; nothing is left to flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as error:
        print(f"model-workshop: {str(error) or 'interrupted'}", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
