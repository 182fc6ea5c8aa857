"""What finds the defects that the edge never tracked: a lower floor, gaps, change.

    nice -n 10 python -m benchmarks.missed [--bundle BUNDLE] [--seeds 301 302] [--frames 2700]
        [--json FILE]

The edge's bundle looks at every frame of the reference line, with a floor far below its own. The
same detections then go through the tracker with ever lower floors, and through the policy and each
trigger, all as the frame lane has them. A defect is *missed* when no confirmed track that reached
the low end of its class's band lay on it, whatever its class. Asking costs nothing here and answers
at once, so the figures are what a trigger could find and how many places it asks about for it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.adapters.model import raw_floor, score_limits
from edge_node.config import CropSettings, PolicySettings, TrackSettings
from edge_node.logic.aim import BudgetAim
from edge_node.logic.background import Abstention, Background, ChangeRules
from edge_node.logic.cells import small_picture
from edge_node.logic.gaps import GapRules, find_gaps, mark_asked
from edge_node.logic.plan import Planner
from edge_node.logic.policy import Policy
from edge_node.logic.rows import Floats, Rows
from edge_node.logic.spending import Ledger, Limits
from edge_node.logic.track import Tracker
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.ports import ScoreLimits
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.frames import Boxes, Detections
from foundation.gains import LevelCosts, variance_gains
from foundation.geometry import crop_region, iou_matrix
from reference_line.board import BOARD_PITCH_PX
from reference_line.evaluation import IOU_MIN, run_truth
from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH
from reference_line.truth import FrameTruth

BUNDLE = Path("reference_line/bundles/edge-reference")
FLOORS = (0.2, 0.1, 0.05, 0.02, 0.01)
KEPT_SCORE = 0.005
DETECTIONS_MAX = 300
GAPS = {
    "gap of 3 looks, confirmed tracks": GapRules(),
    "gap of 5 looks, confirmed tracks": GapRules(missed_min=5),
    "gap of 3 looks, from 2 detections": GapRules(detections_min=2),
    "gap of 3 looks, from 1 detection": GapRules(detections_min=1),
}
NS_PER_FRAME = 33_333_333
_POLICY = PolicySettings(encode_share=16.0)
_GREY = np.full((FRAME_HEIGHT, FRAME_WIDTH, 3), 128, np.uint8)
_CROP = CropSettings()


@dataclass(frozen=True, slots=True)
class Look:
    """One frame as it was seen: all candidates with calibrated scores, the picture, the truth."""

    detections: Detections
    picture: Floats
    truth: FrameTruth


@dataclass(frozen=True, slots=True)
class Asked:
    """A place that was asked about: the frame, the box in it, what asked."""

    sequence: int
    box: Boxes
    why: str


def look_at_line(bundle: Bundle, line: Line, frames: int) -> list[Look]:
    """Every frame of the line, with a floor far below the bundle's own."""
    floor = {"score_floor": 0.01, "detections_max": DETECTIONS_MAX}
    postprocess = bundle.info.postprocess.model_copy(update=floor)
    lowest = replace(bundle, info=bundle.info.model_copy(update={"postprocess": postprocess}))
    raw = raw_floor(lowest, np.full(len(bundle.labels), KEPT_SCORE, np.float32))
    postprocess = postprocess.model_copy(update={"score_floor": raw})
    lowest = replace(bundle, info=bundle.info.model_copy(update={"postprocess": postprocess}))
    detector = Detector.open(lowest)
    looks = []
    pixels = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    for index in range(frames):
        line.frame(index, pixels)
        found = detector.detect(pixels)
        found = found.with_scores(bundle.calibration.apply(found, bundle.labels))
        looks.append(Look(found, small_picture(pixels), line.truth(index)))
    return looks


def follow(looks: Sequence[Look], start: Floats) -> Iterator[tuple[int, Tracker, Rows]]:
    """The tracker over the frames: sequence, tracker, and the confirmed tracks that ended."""
    tracker = Tracker(TrackSettings(), start)
    for sequence, look in enumerate(looks):
        tracker.advance(sequence)
        tracker.observe(look.detections)
        yield sequence, tracker, tracker.retire(FRAME_WIDTH, FRAME_HEIGHT)


def tracks_above(looks: Sequence[Look], start: Floats, low: Floats) -> Rows:
    """The confirmed tracks whose best score reached `low` (classes,)."""
    tables = []
    for sequence, tracker, gone in follow(looks, start):
        tables.append(gone)
        if sequence == len(looks) - 1:
            tables.append(tracker.end_all())
    ended = np.concatenate(tables)
    chosen: Rows = ended[ended["best_score"] >= low[ended["edge_label"]]]
    return chosen


def defects_at(box: Boxes, truth: FrameTruth) -> list[int]:
    """The defects that a box (4,) lies on."""
    overlaps = iou_matrix(box[None], truth.boxes)[0]
    return [int(one) for one in truth.defect_ids[overlaps >= IOU_MIN]]


def defects_shown(box: Boxes, truth: FrameTruth) -> list[int]:
    """The defects that lie whole in the crop around a box (4,)."""
    region = crop_region(
        box,
        margin=_CROP.margin,
        side_min_px=_CROP.side_min_px,
        frame_width=FRAME_WIDTH,
        frame_height=FRAME_HEIGHT,
    )
    boxes = truth.boxes
    whole = (boxes[:, 0] >= region.x1) & (boxes[:, 1] >= region.y1)
    whole &= (boxes[:, 2] <= region.x2) & (boxes[:, 3] <= region.y2)
    return [int(one) for one in truth.defect_ids[whole]]


def _policy(limits: ScoreLimits) -> Policy:
    """The frame lane's policy where asking costs nothing and no bundle says what it gains."""
    gains = variance_gains([LevelCosts(level="webp80")])
    ledger = Ledger(Limits(1e9, 1e9, 10_000.0, 10_000.0))
    return Policy(
        _POLICY,
        gains,
        Planner(gains, _CROP),
        BudgetAim(_POLICY, ledger),
        Worth(_POLICY, np.ones(len(limits.low), np.float32)),
        (limits.low, limits.high, limits.report),
        lambda _: False,
    )


def ask(looks: Sequence[Look], limits: ScoreLimits, rules: GapRules | None) -> list[Asked]:
    """What the policy asks about, and, with rules, what gaps ask about beside it."""
    policy = _policy(limits)
    asked = []
    for sequence, tracker, _ in follow(looks, limits.start):
        rows = tracker.rows
        now_ns = (sequence + 1) * NS_PER_FRAME
        for decision in policy.consider(rows, View(sequence, now_ns, now_ns, _GREY), rows["score"]):
            first = decision.asked[0]
            asked.append(Asked(sequence, rows["box"][first].copy(), "policy"))
            rows["answered"][list(decision.asked)] = True
        if rules is not None:
            size = {"frame_width": FRAME_WIDTH, "frame_height": FRAME_HEIGHT}
            gaps = find_gaps(rows, limits.low, rules, **size, looks=0)
            mark_asked(rows, gaps.positions)
            asked += [Asked(sequence, box, "gap") for box in gaps.boxes]
    return asked


def watch_background(looks: Sequence[Look], limits: ScoreLimits) -> dict[str, int]:
    """Frames by what the background model said: why nothing, or that there were places."""
    background = Background(ChangeRules())
    said: Counter[str] = Counter()
    for sequence, tracker, _ in follow(looks, limits.start):
        change = background.observe(
            looks[sequence].picture, tracker.rows["box"], scene_moves=tracker.scene_moves
        )
        if change.abstained is not Abstention.NONE:
            said[change.abstained] += 1
        else:
            said["places" if len(change.boxes) else "unchanged"] += 1
    return dict(said)


def measure(bundle: Bundle, seed: int, frames: int) -> dict[str, Any]:
    """All counts of one line."""
    line = Line(seed)
    looks = look_at_line(bundle, line, frames)
    limits = score_limits(bundle, PolicySettings(), TrackSettings())
    counted = set(run_truth(line, frames - 1, ()).defects)
    usual = tracks_above(looks, limits.start, limits.low)
    missed = counted - _tracked(usual, looks)
    detected = _best_scores(looks)
    result: dict[str, Any] = {
        "boards": frames * line.settings.speed_px / BOARD_PITCH_PX,
        "defects": len(counted),
        "missed": len(missed),
        "tracks": len(usual),
        "floors": {},
        "triggers": {},
        "background": watch_background(looks, limits),
    }
    for floor in FLOORS:
        start = np.full(len(bundle.labels), floor, np.float32)
        tracks = tracks_above(looks, start, start)
        scores = np.concatenate([look.detections.scores for look in looks])
        result["floors"][str(floor)] = {
            "proposals": int(np.count_nonzero(scores >= floor)),
            "tracks": len(tracks),
            "detected": sum(detected.get(one, 0.0) >= floor for one in missed),
            "tracked": len(missed & _tracked(tracks, looks)),
        }
    policy = ask(looks, limits, None)
    free = missed & _shown(policy, looks)
    result["policy"] = {"asked": len(policy), "shown": len(free)}
    for name, rules in GAPS.items():
        gaps = [one for one in ask(looks, limits, rules) if one.why == "gap"]
        on = [defects_at(one.box, looks[one.sequence].truth) for one in gaps]
        result["triggers"][name] = {
            "asked": len(gaps),
            "on_a_defect": sum(bool(ids) for ids in on),
            "found": len(missed & {one for ids in on for one in ids}),
            "shown": len((missed & _shown(gaps, looks)) - free),
        }
    return result


def _tracked(tracks: Rows, looks: Sequence[Look]) -> set[int]:
    """The defects on which a track lay in the frame of its best score."""
    return {
        defect
        for track in tracks
        for defect in defects_at(track["best_box"], looks[int(track["best_sequence"])].truth)
    }


def _shown(asked: Sequence[Asked], looks: Sequence[Look]) -> set[int]:
    """The defects that any crop shows whole."""
    return {defect for one in asked for defect in defects_shown(one.box, looks[one.sequence].truth)}


def _best_scores(looks: Sequence[Look]) -> dict[int, float]:
    """By defect the best score of any candidate that ever lay on it, whatever its class."""
    best: dict[int, float] = {}
    for look in looks:
        if len(look.detections) == 0 or len(look.truth) == 0:
            continue
        on = iou_matrix(look.truth.boxes, look.detections.boxes) >= IOU_MIN
        top = np.where(on, look.detections.scores, 0).max(axis=1)
        for defect, score in zip(look.truth.defect_ids.tolist(), top.tolist(), strict=True):
            best[defect] = max(best.get(defect, 0.0), score)
    return best


def summed(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same tree with every count summed over the lines."""
    total: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in results for key in one):
        values = [one[key] for one in results if key in one]
        total[key] = summed(values) if isinstance(values[0], dict) else sum(values)
    return total


def show(total: dict[str, Any], frames: int) -> None:
    """Prints the tables."""
    boards, missed = total["boards"], total["missed"]
    print(
        f"{total['defects']} defects on {boards:.1f} boards, of which the edge misses {missed}; "
        f"it tracks {total['tracks'] / boards:.1f} places a board that reach its band"
    )
    print(f"\n{'floor':>6}{'a frame':>10}{'tracks a board':>16}{'detected':>10}{'tracked':>9}")
    for floor, row in total["floors"].items():
        print(
            f"{floor:>6}{row['proposals'] / frames:>10.1f}{row['tracks'] / boards:>16.1f}"
            f"{row['detected']:>7}/{missed}{row['tracked']:>6}/{missed}"
        )
    print(f"\n{'trigger':<36}{'asked a board':>14}{'on a defect':>13}{'missed':>9}{'shown':>8}")
    policy = total["policy"]
    print(f"{'policy':<36}{policy['asked'] / boards:>14.1f}{'':>13}{'':>9}{policy['shown']:>8}")
    for name, row in total["triggers"].items():
        share = row["on_a_defect"] / max(1, row["asked"])
        print(
            f"{name:<36}{row['asked'] / boards:>14.1f}{share:>12.0%} {row['found']:>6}/{missed}"
            f"{row['shown']:>8}"
        )
    print("shown: missed defects that lie whole in the crops; of a gap, beyond the policy's crops")
    said = ", ".join(f"{count} {name}" for name, count in sorted(total["background"].items()))
    print(f"\nbackground, frames: {said}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="edge bundle")
    parser.add_argument("--seeds", type=int, nargs="+", default=[301, 302], help="of the lines")
    parser.add_argument("--frames", type=int, default=2700, help="of each line")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    by_seed = {seed: measure(bundle, seed, arguments.frames) for seed in arguments.seeds}
    total = summed(list(by_seed.values()))
    show(total, arguments.frames * len(by_seed))
    if arguments.json is not None:
        document = {"total": total, "by_seed": by_seed, "frames": arguments.frames}
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
