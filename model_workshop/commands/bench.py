"""`model-workshop bench`: how fast a bundle runs here, on what, and how it should be run.

Exits with 78 where a provider that is here, or was named, does not take the whole graph.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.outputs import check_apart, check_output

HELP = "time a bundle, provider by provider, and choose how to run it here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--providers",
        metavar="LIST",
        help="such as cpu,openvino; by default cpu and what is here of openvino, cuda, tensorrt",
    )
    parser.add_argument("--threads", metavar="LIST", help="such as 1,2; powers of two by default")
    parser.add_argument("--reference", type=Path, help="another bundle to time beside, one thread")
    parser.add_argument("--images", type=Path, help="pictures on which outputs are compared")
    parser.add_argument("--samples", type=int, default=1000, help="runs of each configuration")
    parser.add_argument("--warm-up", type=int, default=50, metavar="RUNS", help="runs before them")
    parser.add_argument("--no-pin", action="store_true", help="let the system place the threads")
    parser.add_argument(
        "--sustain-minutes",
        type=int,
        default=0,
        metavar="M",
        help="run the chosen configuration so long; minute 1 against the last",
    )
    parser.add_argument(
        "--tuning", type=Path, metavar="YAML", help="write what edge-node is to use"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from model_workshop.benchmarking.benchmark import Wishes, run_benchmark
    from model_workshop.benchmarking.report import describe, to_document, to_tuning, write_json

    check_apart(arguments.tuning, arguments.json)
    for path in filter(None, (arguments.tuning, arguments.json)):
        check_output(path)
    _check_counts(arguments)
    wishes = Wishes(
        providers=arguments.providers.split(",") if arguments.providers else None,
        threads=_numbers(arguments.threads) if arguments.threads else None,
        reference=arguments.reference,
        images=arguments.images,
        samples=arguments.samples,
        warm_up_runs=arguments.warm_up,
        pin=not arguments.no_pin,
        sustain_minutes=arguments.sustain_minutes,
    )
    found = run_benchmark(arguments.bundle, wishes, lambda line: print(line, file=sys.stderr))
    print(describe(found))
    if arguments.json:
        write_json(to_document(found), arguments.json)
    found.check(declared=wishes.providers is not None)
    if arguments.tuning and found.chosen is not None:
        to_tuning(found, found.chosen).write(arguments.tuning)
        print(f"{arguments.tuning}: for detector.tuning in the settings of edge-node")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--threads {text} is no list of numbers", remedy="Write 1,2") from None


def _check_counts(arguments: argparse.Namespace) -> None:
    for name, least in (("samples", 1), ("warm_up", 0)):
        if getattr(arguments, name) < least:
            raise ConfigError(
                f"--{name.replace('_', '-')} is {getattr(arguments, name)}",
                remedy=f"Give {least} or more",
            )
    if arguments.sustain_minutes < 0 or arguments.sustain_minutes == 1:
        raise ConfigError(
            f"--sustain-minutes is {arguments.sustain_minutes}",
            remedy="Give 2 or more, so that there is a last minute beside the first",
        )
