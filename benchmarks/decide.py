"""What deciding costs the frame lane, and what fusing a verdict costs it.

    python -m benchmarks.decide [--rounds N] [--json FILE]

Fifty tracks, in two scenes of the policy side by side: as most frames are, where most tracks have
been answered or are out of the band and five are worth less than a byte costs; and the
worst, where all fifty may be asked about for the first time and eight are. Fusion beside it: a crop
as most are, with a handful of tracks, and a crop of the whole scene with every track in it; and a
usual frame before which a usual verdict has come. A verdict is judged on the event loop, all else
is done by the frame lane. The lookout and the audit are listed apart, and `all of it` is the sum of
what one frame paid for. Times are CPU time of the one thread, in milliseconds, so that other work
on the machine does not count as ours; the share of the frame lane's wall-clock time is larger where
that waits for a processor.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.config import (
    CropSettings,
    FusionSettings,
    MissedSettings,
    PolicySettings,
    TrackSettings,
)
from edge_node.logic.aim import OUTBIDS, BudgetAim
from edge_node.logic.audit import AuditSampler
from edge_node.logic.fuse import judge
from edge_node.logic.lookout import Lookout
from edge_node.logic.plan import Ask, Planner
from edge_node.logic.policy import Decision, Policy
from edge_node.logic.reconcile import Reconciler
from edge_node.logic.reconsider import overrule
from edge_node.logic.reporting import Reporting
from edge_node.logic.rows import Floats, observed_boxes
from edge_node.logic.spending import Ledger, Limits, Reservation
from edge_node.logic.track import Tracker
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.values import Cause, Ending, EscalationOutcome, Question, Reason
from foundation.escalations import Answer, LabelledBoxes, Region, Verdict
from foundation.frames import Detections
from foundation.gains import LevelCosts, variance_gains

WIDTH, HEIGHT = 1280, 960
LABELS = ("missing hole", "mouse bite", "open", "short", "spur", "spurious copper")
FRAMES = 6
WARMUP_ROUNDS = 20
TRACKS, OPEN, ANSWERED = 50, 5, 30
SETTLING_FRAMES = 9
RULES = FusionSettings()
LEVELS = ("webp80", "webp80/96", "webp80/56", "webp80/40")
NS_PER_FRAME = 33_333_333
PIXELS = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


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


def decision_about(region: Region) -> Decision:
    """To ask about the first two tracks with this crop."""
    crop = Ask(region, 0, np.array([0, 1]), 0.4, 4000, 3736, 1.0, 0.002)
    return Decision(crop, (0, 1), Reason.UNCERTAIN, 0.4, Reservation(4000.0))


def ask(reconciler: Reconciler, decision: Decision, sequence: int) -> Question:
    """Opens a question about a frame."""
    return reconciler.ask(
        decision,
        level="webp80",
        escalation_id="q",
        sequence=sequence,
        captured_at_ns=1,
        expires_at_ns=2,
        frame_size=(WIDTH, HEIGHT),
    )


def answered(question: Question, found: LabelledBoxes) -> Ending:
    """The verdict, judged."""
    verdict, judged = Verdict("q", Answer(found), "digest"), judge(question, found, RULES)
    return Ending("q", EscalationOutcome.ANSWERED, Cause.NONE, 1, verdict, judged)


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
        reporting = Reporting(np.full(len(LABELS), 0.5, np.float32))
        self.reconciler = Reconciler(self.tracker, RULES, "cam", LABELS, reporting)
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
        decision = decision_about(self._scene.region)
        self._question = ask(self.reconciler, decision, FRAMES - 1)

    def judge(self) -> None:
        """Its verdict is read where it arrives, on the event loop."""
        self._ending = answered(self._question, self._answer)

    def fuse(self) -> None:
        """It is joined to the tracks, on the frame lane."""
        self.reconciler.end(self._ending)


class Crowd:
    """Fifty tracks in a frame, and everything that decides about them."""

    def __init__(self, scene: str, number: int) -> None:
        rng = np.random.default_rng(number)
        boxes = boxes_at(grid(TRACKS, Region(0, 0, WIDTH, HEIGHT), rng), 14)
        ids = rng.integers(0, len(LABELS), TRACKS).astype(np.int32)
        scores = rng.uniform(0.3, 0.7, TRACKS).astype(np.float32)
        ample = scene == "worst"
        if not ample:
            scores[OPEN:] = 0.95
        found = Detections(boxes, scores, ids)
        self._low = np.full(len(LABELS), 0.2, np.float32)
        self.tracker = Tracker(TrackSettings(), self._low)
        for sequence in range(FRAMES):
            self.tracker.advance(sequence)
            self.tracker.observe(found)
        answered = np.arange(OPEN, OPEN + ANSWERED)
        if not ample:
            self.tracker.rows["answered"][answered] = True
            self.tracker.rows["cloud_label"][answered] = 0
        settings = PolicySettings(encode_share=16.0)
        gains = variance_gains([LevelCosts(level=level) for level in LEVELS])
        limits = Limits(1e9, 1e9, 1e3, 1e3) if ample else Limits(1e3, 64e3, 1e3, 1e3)
        aim = BudgetAim(settings, Ledger(limits))
        if not ample:
            dear = np.full(400, 50.0)
            aim.learn(dear, np.full(400, 4e3), np.full(400, 0.002), FRAMES * NS_PER_FRAME)
            while isinstance(aim.reserve(OUTBIDS, 4e3, 0.002, FRAMES * NS_PER_FRAME), Reservation):
                pass
        self._sampler = AuditSampler(
            audits_per_h=60.0, window_s=86_400.0, place_side_px=192, seed="s", camera="cam"
        )
        self._policy = Policy(
            settings,
            gains,
            Planner(gains, CropSettings()),
            aim,
            Worth(settings, np.ones(len(LABELS), np.float32)),
            (
                self._low,
                np.full(len(LABELS), 0.8, np.float32),
                np.full(len(LABELS), 0.5, np.float32),
            ),
            self._sampler.foresees,
        )
        reporting = Reporting(np.full(len(LABELS), 0.5, np.float32))
        self._reconciler = Reconciler(self.tracker, RULES, "cam", LABELS, reporting)
        self._lookout = Lookout(
            MissedSettings(), CropSettings(), self._low, None, whole_frames=False
        )
        self._sequence = FRAMES
        self._scores = scores
        self._fused = False

    def decide(self) -> None:
        """The policy over one frame that has been looked at, and the doubt about what stands."""
        now_ns = self._sequence * NS_PER_FRAME
        rows, view = self.tracker.rows, View(self._sequence, now_ns, now_ns, PIXELS)
        busy, self._fused = self._fused or self._lookout.looked, False
        overrule(rows)
        self._policy.consider(rows, view, rows["score"], busy=busy)

    def ask(self) -> None:
        """A crop around four tracks that lie near each other is asked about, and answered."""
        boxes = observed_boxes(self.tracker.rows)
        nearest = np.abs(boxes - boxes[0]).max(axis=1).argsort(kind="stable")[:4]
        left, top = np.maximum(boxes[nearest, :2].min(axis=0) - 40, 0).astype(int).tolist()
        right, bottom = (boxes[nearest, 2:].max(axis=0) + 40).astype(int).tolist()
        region = Region(left, top, min(right, WIDTH), min(bottom, HEIGHT))
        decision = decision_about(region)
        question = ask(self._reconciler, decision, self._sequence - 1)
        added = boxes[nearest[:1]] + np.float32(30)
        theirs = np.concatenate([boxes[nearest] + np.float32(1), added])
        found = LabelledBoxes(theirs, np.full(5, 0.9, np.float32), (LABELS[0],) * 5)
        self._ending = answered(question, found)

    def fuse(self) -> None:
        """The verdict is joined to the tracks before the next frame."""
        self._reconciler.end(self._ending)
        self._fused = True

    def look(self) -> None:
        """The lookout over the next frame; one in four is looked at closely."""
        self._sequence += 1
        rows, busy = self.tracker.rows, self._fused
        list(self._lookout.look(rows, PIXELS, self._scores, scene_moves=False, busy=busy))

    def audit(self) -> None:
        """The lottery of one frame: its empty place."""
        now_ns = self._sequence * NS_PER_FRAME
        boxes = observed_boxes(self.tracker.rows)
        place = self._sampler.empty_place(self._sequence, boxes, WIDTH, HEIGHT)
        if place is not None:
            self._sampler.draw_place(self._sequence, place, now_ns)


FUSION: dict[str, Callable[[Round], None]] = {
    "ask, per escalation": Round.ask,
    "judge, per verdict": Round.judge,
    "fuse, per verdict": Round.fuse,
}
FRAME: dict[str, Callable[[Crowd], None]] = {
    "lookout": Crowd.look,
    "policy": Crowd.decide,
    "audit": Crowd.audit,
}
ANSWERED_FRAME = {"fusion": Crowd.fuse, **FRAME}
Figures = dict[str, dict[str, dict[str, float]]]


class Stopwatch:
    """Adds up what pieces of work take, by scene and part."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], list[float]] = {}

    def time(self, scene: str, part: str, work: Callable[[], None], *, counts: bool) -> float:
        """Does a piece of work and says what it took; while warming up it does not count."""
        started_ns = time.thread_time_ns()
        work()
        taken_ms = (time.thread_time_ns() - started_ns) / 1e6
        if counts:
            self.note(scene, part, taken_ms)
        return taken_ms

    def note(self, scene: str, part: str, taken_ms: float) -> None:
        """What a piece of work took."""
        self._spent.setdefault((scene, part), []).append(taken_ms)

    def time_frame(
        self, scene: str, parts: dict[str, Callable[[Crowd], None]], crowd: Crowd, *, counts: bool
    ) -> None:
        """Does all that one frame pays for, and notes parts and sums."""
        taken = {
            part: self.time(scene, part, partial(work, crowd), counts=counts)
            for part, work in parts.items()
        }
        if counts and "fusion" in taken:
            self.note(scene, "fusion and policy", taken["fusion"] + taken["policy"])
        if counts:
            self.note(scene, "all of it", sum(taken.values()))

    def figures(self) -> Figures:
        """Milliseconds by scene, part and quantile."""
        found: Figures = {}
        for (scene, part), taken in self._spent.items():
            least, p50, p99 = np.percentile(taken, [0, 50, 99]).round(4).tolist()
            found.setdefault(scene, {})[part] = {"least": least, "p50": p50, "p99": p99}
        return found


def measure(rounds: int) -> Figures:
    """Milliseconds of CPU time by scene, part and quantile."""
    watch = Stopwatch()
    usual = Crowd("usual", 0)
    gc.disable()
    for number in range(WARMUP_ROUNDS + rounds):
        counts = number >= WARMUP_ROUNDS
        for scene in SCENES:
            one = Round(scene, number)
            for part, fuse in FUSION.items():
                watch.time(scene.name, part, partial(fuse, one), counts=counts)
        one_answered = Crowd("usual", number)
        # So many that the verdict falls into every turn of the lookout and the chores.
        for _ in range(SETTLING_FRAMES + number % 8):
            for work in FRAME.values():
                work(one_answered)
        one_answered.ask()
        watch.time_frame("frame with a verdict", ANSWERED_FRAME, one_answered, counts=counts)
        watch.time_frame("usual frame", FRAME, usual, counts=counts)
        watch.time_frame("worst frame", FRAME, Crowd("worst", number), counts=counts)
        gc.collect(0)
    gc.enable()
    return watch.figures()


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    figures = measure(arguments.rounds)
    print(f"{'CPU ms':<40}{'least':>10}{'p50':>10}{'p99':>10}")
    for scene, parts in figures.items():
        for part, cell in parts.items():
            quantiles = "".join(f"{cell[name]:>10.3f}" for name in ("least", "p50", "p99"))
            print(f"{scene + ': ' + part:<40}{quantiles}")
    if arguments.json is not None:
        document: dict[str, Any] = {"rounds": arguments.rounds, "cpu_milliseconds": figures}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
