"""What fusing a verdict costs the frame lane, and what watching the opinions costs a frame.

    python -m benchmarks.decide [--rounds N] [--json FILE]

Two scenes side by side, in turns: a crop as most are, with a handful of tracks, and a crop of
the whole scene with every track in it. Each round builds the scene anew, asks, and fuses. Times are
CPU time of the one thread, in milliseconds, so that other work on the machine does not count as
ours; the share of the frame lane's wall-clock time is larger where that waits for a processor.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.config import FusionSettings, TrackSettings
from edge_node.logic.policy import Decision
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.reconsider import evidence_changed, overrule
from edge_node.logic.rows import Floats
from edge_node.logic.spending import Reservation
from edge_node.logic.track import Tracker
from edge_node.values import Cause, Ending, EscalationOutcome, Reason
from foundation.escalations import Answer, LabelledBoxes, Region, Verdict
from foundation.frames import Detections

WIDTH, HEIGHT = 1280, 960
LABELS = ("missing hole", "mouse bite", "open", "short", "spur", "spurious copper")
FRAMES = 6
WARMUP_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Scene:
    """A crop, how many tracks it shows, and how many boxes come back."""

    name: str
    region: Region
    tracks: int
    tracks_in_crop: int
    boxes: int


SCENES = (
    Scene("usual crop", Region(0, 0, 192, 192), tracks=50, tracks_in_crop=4, boxes=5),
    Scene("whole scene", Region(0, 0, WIDTH, HEIGHT), tracks=50, tracks_in_crop=50, boxes=30),
)


def grid(count: int, region: Region, rng: np.random.Generator) -> Floats:
    """Centres (count, 2) of objects that lie apart in a region."""
    side = max(1, int(np.ceil(np.sqrt(count))))
    cells = rng.permutation(side * side)[:count]
    cell = np.array([region.width / side, region.height / side], np.float32)
    places = np.stack([cells % side, cells // side], axis=1).astype(np.float32)
    corner = np.array([region.x1, region.y1], np.float32)
    return corner + cell * (places + np.float32(0.5))


def boxes_at(centres: Floats, side: float) -> Floats:
    """Boxes (N, 4) of one side around centres (N, 2)."""
    half = np.float32(side / 2)
    return np.concatenate([centres - half, centres + half], axis=1)


class Round:
    """One scene, set up so that each part of the work can be timed once."""

    def __init__(self, scene: Scene, number: int) -> None:
        rng = np.random.default_rng(number)
        inside = grid(scene.tracks_in_crop, scene.region, rng)
        lower_half = Region(0, HEIGHT // 2, WIDTH, HEIGHT)
        outside = grid(scene.tracks - scene.tracks_in_crop, lower_half, rng)
        boxes = boxes_at(np.concatenate([inside, outside]), 14)
        ids = rng.integers(0, len(LABELS), len(boxes)).astype(np.int32)
        found = Detections(boxes, np.full(len(boxes), 0.4, np.float32), ids)
        self.tracker = Tracker(TrackSettings(), np.full(len(LABELS), 0.2, np.float32))
        for sequence in range(FRAMES):
            self.tracker.advance(sequence)
            self.tracker.observe(found)
        self.reconciler = Reconciler(
            self.tracker, FusionSettings(), "cam", LABELS, np.full(len(LABELS), 0.5, np.float32)
        )
        self._scene = scene
        seen = min(scene.boxes - 1, scene.tracks_in_crop)
        added = inside[:1] + np.float32(30)
        theirs = np.concatenate([inside[:seen] + rng.normal(0, 1, (seen, 2)), added])
        names = tuple(LABELS[index] for index in rng.integers(0, len(LABELS), seen + 1))
        self._answer = LabelledBoxes(
            boxes_at(theirs, 15).astype(np.float32), np.full(seen + 1, 0.9, np.float32), names
        )

    def ask(self) -> None:
        """One decision becomes a question."""
        self.reconciler.ask(
            Decision(
                self._scene.region, 0, (0, 1), Reason.UNCERTAIN, 0.4, 0.4, Reservation(4000.0)
            ),
            level="webp80",
            escalation_id="q",
            sequence=FRAMES - 1,
            captured_at_ns=1,
            expires_at_ns=2,
            frame_size=(WIDTH, HEIGHT),
        )

    def fuse(self) -> None:
        """Its verdict is joined to the tracks."""
        verdict = Verdict("q", Answer(self._answer), "digest")
        self.reconciler.end(Ending("q", EscalationOutcome.ANSWERED, Cause.NONE, 1, verdict))

    def watch(self) -> None:
        """What every frame costs: doubt about what stands."""
        overrule(self.tracker.rows)
        evidence_changed(self.tracker.rows)


PARTS: dict[str, Callable[[Round], None]] = {
    "ask, per escalation": Round.ask,
    "fuse, per verdict": Round.fuse,
    "watch, per frame": Round.watch,
}


def measure(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of CPU time by scene, part and quantile."""
    spent: dict[tuple[str, str], list[float]] = {}
    gc.disable()
    for number in range(WARMUP_ROUNDS + rounds):
        for scene in SCENES:
            one = Round(scene, number)
            for part, work in PARTS.items():
                started_s = time.thread_time()
                work(one)
                taken_s = time.thread_time() - started_s
                if number >= WARMUP_ROUNDS:
                    spent.setdefault((scene.name, part), []).append(1e3 * taken_s)
        gc.collect(0)
    gc.enable()
    return {
        scene.name: {part: quantiles(spent[scene.name, part]) for part in PARTS} for scene in SCENES
    }


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    """The median and the 99th percentile."""
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50": round(float(p50), 4), "p99": round(float(p99), 4)}


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    print(f"{'':<22}" + "".join(f"{scene.name:>26}" for scene in SCENES))
    print(f"{'CPU ms':<22}" + f"{'p50':>13}{'p99':>13}" * len(SCENES))
    for part in PARTS:
        cells = (figures[scene.name][part] for scene in SCENES)
        print(f"{part:<22}" + "".join(f"{c['p50']:>13.3f}{c['p99']:>13.3f}" for c in cells))
    if arguments.json is not None:
        document: dict[str, Any] = {"rounds": arguments.rounds, "cpu_milliseconds": figures}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
