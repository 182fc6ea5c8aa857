"""What the triggers cost the frame lane for each frame of 1280 by 960 pixels.

    python -m benchmarks.triggers [--rounds 300] [--json FILE]

CPU time of the thread, so that other programs disturb little; the least and the median of the
rounds, in microseconds. The frames are one frame of the reference line with a camera's noise, held
still; in some of them something is there that no track explains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_node.logic.background import Background, ChangeRules
from edge_node.logic.cells import small_picture
from edge_node.logic.gaps import GapRules, find_gaps
from edge_node.logic.novelty import FEATURES, describe_frame, fit_novelty
from edge_node.logic.rows import Floats, Rows, new_rows
from foundation.frames import Pixels
from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH

TRACKS = 50
CLASSES = 6
_FRAMES = 4
_SETTLED_FRAMES = 40


def still_frames(seed: int, *, with_thing: bool) -> list[Pixels]:
    """A few frames of the same scene."""
    scene = Line(seed).frame(200).astype(np.int16)
    if with_thing:
        scene[300:420, 500:680] = 255 - scene[300:420, 500:680]
        scene[700:780, 900:1000] = 20
    random = np.random.default_rng(seed)
    noise = [random.normal(0, 3, scene.shape).round().astype(np.int16) for _ in range(_FRAMES)]
    return [np.clip(scene + one, 0, 255).astype(np.uint8) for one in noise]


def table(lost: int) -> Rows:
    """A table of tracks, some of them in a gap."""
    random = np.random.default_rng(0)
    rows = new_rows(TRACKS, CLASSES)
    rows["box"][:, :2] = random.uniform(100, 800, (TRACKS, 2))
    rows["box"][:, 2:] = rows["box"][:, :2] + 12
    rows["seen_box"] = rows["box"]
    rows["edge_label"] = 0
    rows["score"] = rows["best_score"] = 0.5
    rows["detections"], rows["last_sequence"] = 10, 12
    rows["missed"][:lost] = rows["coasted"][:lost] = 3
    return rows


def costs(rounds: int) -> dict[str, tuple[float, float]]:
    """Least and median microseconds, by what is done."""
    usual, changed = (still_frames(1, with_thing=thing) for thing in (False, True))
    no_boxes = np.zeros((0, 4), np.float32)
    learned = Background(ChangeRules())
    pictures = [small_picture(one) for one in usual]
    for number in range(ChangeRules().learn_frames + _SETTLED_FRAMES):
        learned.observe(pictures[number % _FRAMES], no_boxes, scene_moves=False)
    turn = itertools.count()

    def observe(frames: list[Floats]) -> None:
        learned.observe(frames[next(turn) % _FRAMES], no_boxes, scene_moves=False)

    scores = np.random.default_rng(0).uniform(0, 1, TRACKS).astype(np.float32)
    model = fit_novelty(np.random.default_rng(0).normal(size=(200, len(FEATURES))))
    low = np.full(CLASSES, 0.3, np.float32)
    none, five = table(0), table(5)
    rules = GapRules()
    size = {"frame_width": FRAME_WIDTH, "frame_height": FRAME_HEIGHT, "looks": 0}
    other = [small_picture(one) for one in changed]
    work: dict[str, Callable[[], object]] = {
        "small picture": lambda: small_picture(usual[next(turn) % _FRAMES]),
        "background, nothing changed": lambda: observe(pictures),
        "background, two places": lambda: observe(other),
        f"gaps, none of {TRACKS} tracks lost": lambda: find_gaps(none, low, rules, **size),
        f"gaps, 5 of {TRACKS} tracks lost": lambda: find_gaps(five, low, rules, **size),
        "novelty": lambda: model.score(describe_frame(scores, pictures[0], usual[0])),
    }
    return {name: measured(do, rounds) for name, do in work.items()}


def measured(do: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Least and median CPU microseconds of some rounds, once things have settled."""
    for _ in range(ChangeRules().hold_frames):
        do()
    spent = []
    for _ in range(rounds):
        begun_ns = time.thread_time_ns()
        do()
        spent.append((time.thread_time_ns() - begun_ns) / 1000)
    return min(spent), statistics.median(spent)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    found = costs(arguments.rounds)
    print(f"{'CPU microseconds a frame':<34}{'least':>8}{'median':>8}")
    for name, (least, median) in found.items():
        print(f"{name:<34}{least:>8.0f}{median:>8.0f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
