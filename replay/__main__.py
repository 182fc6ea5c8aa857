"""The command `hardcase-replay`: what a budget buys, before it is bought."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

from foundation.errors import EXIT_CONFIG, EXIT_OK, ConfigError, HardcaseError

LEVELS = ("avif30@0.35", "avif30@0.5", "avif45@0.5", "avif45@0.7", "avif60@0.7", "avif60")
_EXIT_INTERRUPTED = 130
_DESCRIPTION = """\
Replays recorded material through an edge and a cloud bundle and says, for every policy, how much of
the gap between both models a budget of bytes recovers.

Both models run once; their answers are kept in --work, so a run that was stopped goes on where it
was, and another run over the same material is quick."""
_EXAMPLE = """\
example:
  hardcase-replay data/line_val --edge edge.bundle --cloud cloud.bundle \\
      --calibration recording.mp4 --levels avif45@0.5,avif60@0.7 --out replay-out"""


def build_parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(
        prog="hardcase-replay",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "material", type=Path, help="a labelled split, a folder of images or a video file"
    )
    parser.add_argument("--edge", type=Path, required=True, metavar="BUNDLE", help="what asks")
    parser.add_argument("--cloud", type=Path, required=True, metavar="BUNDLE", help="what answers")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="MATERIAL",
        help="other material on which every policy's dial is set; without it parts of the material "
        "take turns",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="a gain model, policy.json of a bundle"
    )
    parser.add_argument(
        "--levels",
        default=",".join(LEVELS),
        help="how crops may be cut and compressed, with commas (default: %(default)s)",
    )
    parser.add_argument(
        "--budget-share",
        type=_share,
        nargs="+",
        metavar="SHARE",
        help="budgets as shares of all frames as JPEG 85 (default: 0.01 0.02 0.05 0.1 0.2 0.3 0.5)",
    )
    parser.add_argument(
        "--observe",
        type=Path,
        metavar="FILE",
        help="write what asking bought at every proposal, for `model-workshop fit-policy`, only",
    )
    _add_reading(parser)
    parser.add_argument("--resamples", type=_positive, default=1000, help="of the bootstrap")
    parser.add_argument(
        "--work", type=Path, default=Path("replay-work"), help="folder that remembers answers"
    )
    parser.add_argument("--out", type=Path, default=Path("replay-out"), help="folder for reports")
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Declares how material is read."""
    parser.add_argument(
        "--frames-only", action="store_true", help="ask about whole frames alone, which is quicker"
    )
    parser.add_argument(
        "--group",
        type=_expression,
        metavar="REGEX",
        help="images whose names, folders included, have the same (group) are resampled together: "
        "a board, a camera",
    )
    parser.add_argument("--images-max", type=_positive, help="take this many frames, evenly spread")
    parser.add_argument("--step", type=_positive, default=10, help="take each STEPth video frame")
    parser.add_argument(
        "--block-s",
        type=_duration,
        default=10.0,
        help="seconds of video that are resampled together",
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        _run(arguments)
    except HardcaseError as error:
        print(f"hardcase-replay: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        print(
            "hardcase-replay: it needs rich. Install it: pip install 'hardcase[workshop]'.",
            file=sys.stderr,
        )
        return EXIT_CONFIG
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("hardcase-replay: interrupted; run it again to go on", file=sys.stderr)
        return _EXIT_INTERRUPTED
    return EXIT_OK


def _run(arguments: argparse.Namespace) -> None:
    from edge_node.config import CropSettings
    from foundation.bundle import Bundle
    from foundation.clock import SystemClock
    from replay.answers import Answers
    from replay.curve import SHARES
    from replay.material import Reading, read_material
    from replay.observe import write_observations
    from replay.outcomes import Outcomes
    from replay.page import render_page
    from replay.planned import own_policies
    from replay.policies import baselines
    from replay.study import Plan, run_study
    from replay.terminal import print_replay

    plan = Plan(
        budgets=tuple(sorted(set(arguments.budget_share or SHARES))),
        levels=_levels(arguments.levels),
        crops=not arguments.frames_only,
        resamples=arguments.resamples,
    )
    reading = Reading(
        frames_max=arguments.images_max,
        group=arguments.group,
        step=arguments.step,
        block_s=arguments.block_s,
    )
    edge, cloud = Bundle.open(arguments.edge), Bundle.open(arguments.cloud)
    crop = CropSettings()
    _prepare(arguments.out, arguments.observe)
    with Answers(arguments.work / "answers.sqlite", edge, cloud, SystemClock()) as answers:
        material = read_material(arguments.material, arguments.work, reading)
        if arguments.observe is not None:
            outcomes = Outcomes(answers, material, crop)
            arrays = write_observations(arguments.observe, outcomes, plan.levels, crops=plan.crops)
            seen, units = arrays["gain"].shape[0], arrays["unit_frame"].shape[0]
            print(f"{arguments.observe}: {seen} proposals in {units} frames and crops")
            return
        policies, notes = own_policies(
            answers, arguments.policy, plan.levels, crop, crops=plan.crops
        )
        calibration = None
        if arguments.calibration is not None:
            other = read_material(arguments.calibration, arguments.work, reading)
            calibration = Outcomes(answers, other, crop)
        outcomes = Outcomes(answers, material, crop)
        policies += baselines(plan.levels, crops=plan.crops)
        replay = run_study(outcomes, calibration, policies, plan, notes)
    _write(arguments.out / "replay.json", replay.model_dump_json(indent=1))
    _write(arguments.out / "replay.html", render_page(replay))
    print_replay(replay)


def _levels(text: str) -> tuple[str, ...]:
    from foundation.levels import Level

    return tuple(dict.fromkeys(str(Level.parse(part.strip())) for part in text.split(",")))


def _prepare(out: Path, observe: Path | None) -> None:
    """Says now, not after hours, that what is asked for cannot be written."""
    if observe is not None and observe.is_dir():
        raise ConfigError(
            f"--observe {observe} is a folder", remedy="Name the file that is to be written"
        )
    folder = out if observe is None else observe.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error}", remedy="Choose another --out"
        ) from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error}", remedy="Choose another --out"
        ) from error


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; give more than 0, at most 1")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} s is no duration for it; give 0 to 86400")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; give 1 or more")
    return value


def _expression(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no expression: {error}") from error


if __name__ == "__main__":
    raise SystemExit(main())
