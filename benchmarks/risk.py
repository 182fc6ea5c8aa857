"""How often a promised risk holds on boards that its threshold was not chosen on.

    nice -n 10 python -m benchmarks.risk [--splits 100] [--work FOLDER] [--json FILE]

The edge plays labelled lines alone. From the tracks of the first lines its doubt about a track is
fitted; the boards of the others are split at random into calibration and test, split after split.
On each calibration half the threshold is chosen for every target, and the mean loss of the test
half's boards is held against alpha. A promise in expectation is about the mean over the splits, and
single ones break it; with 95 % confidence at least 95 of 100 splits have to hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.kept import WORK, KeptLine, KeptTrack, play
from edge_node.logic.risk import Promise, RiskTarget, calibrate, kept_losses
from foundation.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from model_workshop.evaluation.calibrate import fit_knots

DOUBT_SEEDS = (301, 302)
SEEDS = tuple(range(303, 310))
FRAMES = 2700
ALPHAS = (0.05, 0.1, 0.15)
CALIBRATION_SHARE = 0.7
Array = npt.NDArray[np.float64]
Knots = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """The probability that the edge is wrong about a track, by what it does with it."""

    reported: Knots
    dismissed: Knots

    def of(self, track: KeptTrack) -> float:
        """The doubt about one track."""
        knots = self.reported if track.reported else self.dismissed
        there = float(np.interp(track.score, *np.array(knots).T))
        return 1 - there if track.reported else there


@dataclass(frozen=True, slots=True)
class Units:
    """Tracks with their doubts and their boards, numbered over all lines."""

    doubts: Array
    wrong: npt.NDArray[np.bool_]
    boards: npt.NDArray[np.int64]
    board_count: int

    def on(self, boards: npt.NDArray[np.intp]) -> Units:
        """Those on some boards, which are numbered anew."""
        number = np.full(self.board_count, -1, np.int64)
        number[boards] = np.arange(len(boards))
        chosen = number[self.boards] >= 0
        return Units(
            self.doubts[chosen], self.wrong[chosen], number[self.boards[chosen]], len(boards)
        )


def fit_doubt(tracks: Sequence[KeptTrack]) -> Doubt:
    """Fits the share of tracks that are what the edge takes them for, or hides, by their score.

    Raises:
        ConfigError: too few tracks.
    """
    knots = []
    for reported in (True, False):
        chosen = [track for track in tracks if track.reported is reported]
        scores = np.array([track.score for track in chosen], np.float32)
        there = np.array([track.wrong is not reported for track in chosen], np.bool_)
        knots.append(fit_knots(scores, there))
    if not all(knots):
        raise ConfigError(
            f"{len(tracks)} tracks are too few to fit a doubt to",
            remedy="Play more or longer lines for it",
        )
    return Doubt(*knots)


def gather(lines: Sequence[KeptLine], doubt: Doubt) -> Units:
    """All tracks of some lines."""
    tracks: list[KeptTrack] = []
    boards: list[int] = []
    first = 0
    for line in lines:
        tracks += line.tracks
        boards += [first + track.board for track in line.tracks]
        first += line.boards
    return Units(
        np.array([doubt.of(track) for track in tracks]),
        np.array([track.wrong for track in tracks], np.bool_),
        np.array(boards, np.int64),
        first,
    )


def measure(units: Units, target: RiskTarget, splits: int) -> dict[str, Any]:
    """Risk and share kept on the test halves of random splits; why not, where it is refused."""
    calibration_size = round(CALIBRATION_SHARE * units.board_count)
    risks, kept, thresholds = [], [], []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(units.board_count)
        test = units.on(order[calibration_size:])
        own = units.on(order[:calibration_size])
        try:
            chosen = calibrate(
                own.doubts, own.wrong, own.boards, group_count=own.board_count, target=target
            )
        except ConfigError as error:
            return {"refused": str(error)}
        losses = kept_losses(
            test.doubts,
            test.wrong,
            test.boards,
            np.array([chosen.threshold]),
            group_count=test.board_count,
        )
        risks.append(float(losses.mean()))
        kept.append(float(np.mean(test.doubts < chosen.threshold)))
        thresholds.append(chosen.threshold)
    return {
        "splits": splits,
        "held": int(np.sum(np.array(risks) <= target.alpha)),
        "mean_risk": round(float(np.mean(risks)), 5),
        "highest_risk": round(max(risks), 5),
        "kept": round(float(np.mean(kept)), 4),
        "threshold": round(float(np.median(thresholds)), 4),
    }


def _print(target: RiskTarget, figures: dict[str, Any]) -> None:
    start = f"{target.alpha:>6.0%}  {target.promise:<12}"
    if "refused" in figures:
        print(f"{start}{figures['refused']}")
        return
    print(
        f"{start}{figures['held']:>4} of {figures['splits']}{figures['mean_risk']:>11.2%}"
        f"{figures['highest_risk']:>10.2%}{figures['kept']:>9.1%}{figures['threshold']:>11.3f}"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.risk")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--doubt-lines", type=int, nargs="+", default=list(DOUBT_SEEDS))
    parser.add_argument("--lines", type=int, nargs="+", default=list(SEEDS), help="their seeds")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each line")
    parser.add_argument("--alpha", type=float, nargs="+", default=list(ALPHAS))
    parser.add_argument("--work", type=Path, default=WORK, help="where played lines are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args(argv)
    first, others = (
        [play(seed, arguments.frames, arguments.work) for seed in seeds]
        for seeds in (arguments.doubt_lines, arguments.lines)
    )
    try:
        doubt = fit_doubt([track for line in first for track in line.tracks])
    except ConfigError as error:
        print(f"risk: {error}", file=sys.stderr)
        return EXIT_CONFIG
    units = gather(others, doubt)
    calibration = round(CALIBRATION_SHARE * units.board_count)
    print(
        f"{len(units.doubts)} tracks on {units.board_count} boards, {calibration} of them for "
        f"calibration; {units.wrong.mean():.1%} of the tracks are wrong if all are kept"
    )
    print(f"{'alpha':>6}  {'promise':<12}{'held':>11}{'mean risk':>11}", end="")
    print(f"{'highest':>10}{'kept':>9}{'below':>11}")
    report: dict[str, Any] = {
        "tracks": len(units.doubts),
        "boards": units.board_count,
        "calibration_boards": calibration,
        "wrong": round(float(units.wrong.mean()), 5),
        "targets": [],
    }
    for alpha in arguments.alpha:
        for promise in Promise:
            target = RiskTarget(alpha, promise)
            figures = measure(units, target, arguments.splits)
            report["targets"].append({"alpha": alpha, "promise": promise.value, **figures})
            _print(target, figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
