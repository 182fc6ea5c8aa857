"""`model-workshop evaluate`: how good bundles are on a split, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from foundation.errors import ConfigError
from model_workshop.outputs import check_apart, check_output

HELP = "how good bundles are on a split: by kind of object, with intervals, side by side"
_DIMENSIONS = ("size", "contrast", "crowding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line."""
    parser.add_argument(
        "bundles", type=Path, nargs="+", metavar="BUNDLE", help="the first is the reference"
    )
    parser.add_argument("split", type=Path, help="directory with images/ and instances.json")
    parser.add_argument(
        "--proposer",
        type=Path,
        metavar="BUNDLE",
        help="frame bundle at whose proposals all others are asked, for crop models",
    )
    parser.add_argument(
        "--cut",
        action="append",
        default=[],
        metavar="DIMENSION=EDGE,...",
        help="cut size, contrast or crowding at these edges instead of at quantiles of the split, "
        "such as size=5,6.5,8",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures")
    parser.add_argument("--threads", type=int, default=1, help="of one inference")


def run(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    from foundation.bundle import Bundle
    from model_workshop.datasets import read_split
    from model_workshop.evaluation.detecting import find
    from model_workshop.evaluation.measure import Grounds, Options, measure, side_by_side
    from model_workshop.evaluation.terminal import open_console, print_evaluation, progress

    options = Options(edges=_edges(arguments.cut))
    check_apart(arguments.json, arguments.html)
    for path in (arguments.json, arguments.html):
        if path is not None and not path.is_file():  # a report of yesterday may be replaced
            check_output(path)
    bundles = [Bundle.open(path) for path in arguments.bundles]
    proposer = Bundle.open(arguments.proposer) if arguments.proposer else None
    split = read_split(arguments.split)
    console = open_console()
    grounds = Grounds.prepare(split, options)
    measured = []
    for bundle in bundles:
        watch = progress(console, f"{bundle.info.name} {bundle.info.version}")
        found = find(bundle, split, proposer=proposer, threads=arguments.threads, watch=watch)
        measured.append(measure(bundle, found, grounds))
    evaluation = side_by_side(measured, grounds, options)
    print_evaluation(evaluation, console)
    if arguments.json is not None:
        _write(arguments.json, evaluation.model_dump_json(indent=1))
    if arguments.html is not None:
        from model_workshop.evaluation.page import render_page

        _write(arguments.html, render_page(evaluation, measured, grounds))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}", remedy="Choose another") from error


def _edges(cuts: list[str]) -> dict[str, tuple[float, ...]]:
    """`size=5,6.5,8` as edges by dimension."""
    edges = {}
    for cut in cuts:
        dimension, _, numbers = cut.partition("=")
        try:
            values = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            values = ()
        if dimension not in _DIMENSIONS or not values or list(values) != sorted(set(values)):
            raise ConfigError(
                f"--cut {cut} is not understood",
                remedy=f"Write one of {', '.join(_DIMENSIONS)}, =, and rising numbers: "
                "--cut size=5,6.5,8",
            )
        edges[dimension] = values
    return edges
