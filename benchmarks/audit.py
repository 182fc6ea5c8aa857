"""How often the interval of the audit holds the rate of silent errors that there really is.

    nice -n 10 python -m benchmarks.audit [--runs 100] [--work FOLDER] [--json FILE]

The edge plays labelled lines alone and keeps every track and every empty place. The lines are then
told to the real sampler as a day of which some hours are three times as busy as the others, run
after run with another seed; drawn units are judged, some answers get lost, and the estimate at the
end of the day is held against the rate of everything that was kept. Tracks are judged twice, by the
labels and by the cloud model (`--cloud`); places by the labels. The coverage is to be at least
93 of 100 at 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.kept import WORK, KeptFrame, KeptLine, KeptTrack, play
from edge_node.config import CropSettings
from edge_node.logic.audit import AuditSampler
from edge_node.logic.audit_estimate import AuditEstimate, Draw, RateEstimate, Stratum
from edge_node.values import Effect, Finding, Standing
from foundation.errors import EXIT_OK
from foundation.escalations import Region
from foundation.frames import Boxes
from reference_line.optics import FRAME_HEIGHT, FRAME_WIDTH

SEEDS = (301, 302, 303)
FRAMES = 2700
RATES_PER_H = (6.0, 30.0, 120.0)
DAY_S = 86_400.0
BUSY = 3.0
LOST_SHARE = 0.2
FIGURES = (*(stratum.value for stratum in Stratum), "misses", "overall")
IDS_PER_LINE = 1_000_000
_STANDING = Standing(True, True, 0, 1.0, 0, 1.0, "")
WRONG = {
    Stratum.REPORTED: Finding(Effect.REFUTED, 0, -1, _STANDING),
    Stratum.DISMISSED: Finding(Effect.CONFIRMED, 0, 0, _STANDING),
    Stratum.EMPTY: Finding(Effect.ADDED, -1, 0, _STANDING),
}
RIGHT: dict[Stratum, Finding] = {
    Stratum.REPORTED: Finding(Effect.CONFIRMED, 0, 0, _STANDING),
    Stratum.DISMISSED: Finding(Effect.REFUTED, 0, -1, _STANDING),
    Stratum.EMPTY: Finding(Effect.CONFIRMED, 0, 0, _STANDING),
}
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame, when it was, and the tracks that ended with it, by ids unique in the day."""

    now_ns: int
    frame: KeptFrame
    ended: tuple[tuple[int, KeptTrack], ...]


class Tally:
    """What was kept in one run, and how much of it is wrong."""

    def __init__(self) -> None:
        self.kept = dict.fromkeys(Stratum, 0)
        self.wrong = dict.fromkeys(Stratum, 0)

    def add(self, stratum: Stratum, *, wrong: bool) -> None:
        """Counts a unit."""
        self.kept[stratum] += 1
        self.wrong[stratum] += wrong

    def rates(self) -> dict[str, float]:
        """The true rates, by the names in `FIGURES`."""
        groups: dict[str, Sequence[Stratum]] = {stratum.value: [stratum] for stratum in Stratum}
        groups["misses"] = [Stratum.DISMISSED, Stratum.EMPTY]
        groups["overall"] = list(Stratum)
        return {
            name: sum(self.wrong[s] for s in strata) / max(1, sum(self.kept[s] for s in strata))
            for name, strata in groups.items()
        }


def tell_day(lines: Sequence[KeptLine]) -> list[Moment]:
    """The lines one after another, every second one faster, so that the sampler has to follow."""
    paces = [BUSY if number % 2 else 1.0 for number in range(len(lines))]
    frame_s = DAY_S / sum(len(line.frames) / pace for line, pace in zip(lines, paces, strict=True))
    moments, now_s = [], 0.0
    for number, (line, pace) in enumerate(zip(lines, paces, strict=True)):
        ends: dict[int, list[tuple[int, KeptTrack]]] = {}
        for track in line.tracks:
            last = min(track.ended_at, len(line.frames) - 1)
            ends.setdefault(last, []).append((number * IDS_PER_LINE + track.track_id, track))
        for sequence, frame in enumerate(line.frames):
            now_s += frame_s / pace
            moments.append(Moment(round(now_s * 1e9), frame, tuple(ends.get(sequence, ()))))
    return moments


def audit_day(
    moments: Sequence[Moment], seed: int, audits_per_h: float, *, by_cloud: bool
) -> tuple[AuditEstimate, dict[str, float]]:
    """One run: the estimate at the end of the day, and the truth about all that was kept."""
    sampler = AuditSampler(
        audits_per_h=audits_per_h,
        window_s=DAY_S,
        place_side_px=CropSettings().side_min_px,
        seed=str(seed),
        camera="line",
    )
    luck = np.random.default_rng(seed)
    tally = Tally()

    def end(draw: Draw | None, stratum: Stratum, *, wrong: bool) -> None:
        tally.add(stratum, wrong=wrong)
        if draw is None:
            return
        if luck.random() < LOST_SHARE:
            sampler.lose(draw)
        else:
            sampler.answer(draw, [WRONG[stratum] if wrong else RIGHT[stratum]])

    for number, moment in enumerate(moments):
        for unit, track in moment.ended:
            stratum = Stratum.REPORTED if track.reported else Stratum.DISMISSED
            wrong = track.wrong_for_cloud if by_cloud else track.wrong
            draw = sampler.draw_track(unit, reported=track.reported, now_ns=moment.now_ns)
            end(draw, stratum, wrong=bool(wrong))
        place = sampler.empty_place(number, moment.frame.tracked, FRAME_WIDTH, FRAME_HEIGHT)
        if place is not None and not by_cloud:
            draw = sampler.draw_place(number, place, moment.now_ns)
            end(draw, Stratum.EMPTY, wrong=holds_whole(place, moment.frame.defects))
    return sampler.estimate(moments[-1].now_ns), tally.rates()


def holds_whole(place: Region, boxes: Boxes) -> bool:
    """Whether any of the boxes (N, 4) lies whole in the place."""
    low = np.array([place.x1, place.y1], np.float32)
    high = np.array([place.x2, place.y2], np.float32)
    inside = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
    return bool(inside.any())


def estimates_by_name(estimate: AuditEstimate) -> dict[str, RateEstimate]:
    """By the names in `FIGURES`."""
    of_strata = {stratum.value: rate for stratum, rate in estimate.strata.items()}
    return {**of_strata, "misses": estimate.misses, "overall": estimate.overall}


def measure(
    moments: Sequence[Moment], audits_per_h: float, runs: int, *, by_cloud: bool
) -> dict[str, dict[str, float]]:
    """Coverage and width of the intervals by figure."""
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in FIGURES}
    for seed in range(runs):
        estimate, truth = audit_day(moments, seed, audits_per_h, by_cloud=by_cloud)
        for name, found in estimates_by_name(estimate).items():
            if found.kept == 0 or found.rate.point is None:
                continue
            rate, true = found.rate, truth[name]
            held = rate.low <= true <= rate.high
            rows[name].append(
                (true, found.rate.point, rate.low, rate.high, held, found.answered, found.kept)
            )
    return {name: _summary(np.array(values, np.float64)) for name, values in rows.items() if values}


def _summary(values: Array) -> dict[str, float]:
    true, point, low, high, held, answered, kept = values.T
    return {
        "kept": round(float(kept.mean()), 1),
        "audits": round(float(answered.mean()), 1),
        "true_rate": round(float(true.mean()), 5),
        "mean_estimate": round(float(point.mean()), 5),
        "mean_low": round(float(low.mean()), 5),
        "mean_high": round(float(high.mean()), 5),
        "covered": int(held.sum()),
        "runs": len(values),
    }


def _print(title: str, figures: dict[str, dict[str, float]]) -> None:
    print(title)
    print(f"  {'':<10}{'kept':>8}{'audits':>8}{'true':>9}{'estimate':>9}{'interval':>18}  covered")
    for name, row in figures.items():
        interval = f"{row['mean_low']:.2%} to {row['mean_high']:.2%}"
        print(
            f"  {name:<10}{row['kept']:>8.0f}{row['audits']:>8.0f}{row['true_rate']:>9.2%}"
            f"{row['mean_estimate']:>9.2%}{interval:>18}  {row['covered']:.0f} of {row['runs']:.0f}"
        )


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--runs", type=int, default=100, help="seeds of the lottery")
    parser.add_argument("--lines", type=int, nargs="+", default=list(SEEDS), help="seeds of lines")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each line")
    parser.add_argument("--audits-per-h", type=float, nargs="+", default=list(RATES_PER_H))
    parser.add_argument("--cloud", action="store_true", help="judge tracks by the cloud as well")
    parser.add_argument("--work", type=Path, default=WORK, help="where played lines are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args(argv)
    lines = [
        play(seed, arguments.frames, arguments.work, cloud=arguments.cloud)
        for seed in arguments.lines
    ]
    moments = tell_day(lines)
    report: dict[str, Any] = {"lines": arguments.lines, "frames": arguments.frames, "judges": {}}
    for judge in ("labels", "cloud") if arguments.cloud else ("labels",):
        for rate in arguments.audits_per_h:
            figures = measure(moments, rate, arguments.runs, by_cloud=judge == "cloud")
            report["judges"].setdefault(judge, {})[f"{rate:g}"] = figures
            _print(f"{rate:g} audits an hour, judged by the {judge}", figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
