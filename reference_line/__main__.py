"""Command line of the reference line: ``reference-line demo``, ``export`` and ``preview``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2

from reference_line.dataset import ExportPlan, Look, export_dataset
from reference_line.preview import build_mosaic


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative; give 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too small; give 1 or more")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{value:g} s is no duration for it; give 1 to 86400")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="reference-line", description="A synthetic PCB inspection line that knows its truth."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write COCO datasets, split by board")
    export.add_argument("--out", type=Path, required=True, help="folder to write")
    export.add_argument("--seed", type=_count, default=0, help="the line's seed")
    export.add_argument("--boards-train", type=_count, default=150)
    export.add_argument("--boards-val", type=_count, default=25)
    export.add_argument("--boards-test", type=_count, default=25)
    export.add_argument("--frames-per-board", type=_positive, default=4)
    export.add_argument(
        "--look",
        type=Look,
        choices=tuple(Look),
        default=Look.COLOUR,
        help="what the camera sees, or its black-and-white scan with hand-drawn defects",
    )
    export.add_argument("--workers", type=_positive, default=1, help="rendering processes")
    preview = commands.add_parser("preview", help="draw a mosaic of frames and defects")
    preview.add_argument("--out", type=Path, required=True, help="picture to write (.png or .jpg)")
    preview.add_argument("--seed", type=_count, default=0, help="the line's seed")
    demo = commands.add_parser("demo", help="run both services on the line and judge the run")
    demo.add_argument("--duration-s", type=_duration, default=60.0, help="how long the camera runs")
    demo.add_argument("--seed", type=_count, default=101, help="the line's seed")
    demo.add_argument("--summary", type=Path, help="write the figures, as JSON, here too")
    demo.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for what is made")
    demo.add_argument("--no-video", action="store_true", help="make no annotated video")
    demo.add_argument("--no-escalator", action="store_true", help="run the edge alone")
    demo.add_argument("--bundles", type=Path, help="folder with another pair of bundles")
    return parser


def _run_export(arguments: argparse.Namespace) -> None:
    boards = (arguments.boards_train, arguments.boards_val, arguments.boards_test)
    plan = ExportPlan(arguments.seed, boards, arguments.frames_per_board, arguments.look)
    total = sum(boards)
    progress = export_dataset(arguments.out, plan, workers=arguments.workers)
    for done, split in enumerate(progress, start=1):
        if done % 20 == 0 or done == total:
            print(f"{done}/{total} boards ({split})", flush=True)


def _run_preview(arguments: argparse.Namespace) -> None:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.out), build_mosaic(arguments.seed)):
        raise OSError(f"cannot write {arguments.out}")
    print(arguments.out)


def _run_demo(arguments: argparse.Namespace) -> int:
    from foundation.supervision import exit_code_of
    from reference_line.demo import DemoOptions, run_demo

    options = DemoOptions(
        duration_s=arguments.duration_s,
        seed=arguments.seed,
        out=arguments.out,
        summary=arguments.summary,
        bundles=arguments.bundles,
        with_video=not arguments.no_video,
        with_escalator=not arguments.no_escalator,
    )
    return exit_code_of(lambda: run_demo(options))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.command == "demo":
        return _run_demo(arguments)
    try:
        if arguments.command == "export":
            _run_export(arguments)
        else:
            _run_preview(arguments)
    except (OSError, cv2.error) as error:
        print(f"reference-line: {error}. Give an --out that can be written.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
