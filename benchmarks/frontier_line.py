"""The frontier of the reference line: F1 per physical defect against the bytes that leave the site.

    nice -n 10 python -m benchmarks.frontier_line [--frames 2700] [--work FOLDER] [--json FILE]
        [--svg FILE]

Held-out boards, as video, each defect counted once. Rules about tracks are the edge node's own
frame lane with another table of gains; rules about whole frames choose among the same frames, and
their verdicts are read by the same fusion. One run has the same models, frames, cloud answers and
count of bytes (serialized escalations and their framing) for all. Dials of rules stand where the
validation lines put them, budgets of the frame lane are set so that rate and burst together cannot
exceed them; shares are of what was really sent. The cloud runs on what is decoded, always. Audits,
which are drawn by lot and buy no accuracy, are off.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.frontier_parts.counting import (
    SAMPLES,
    Counts,
    Resamples,
    area,
    f1_of,
    share_for,
)
from benchmarks.frontier_parts.curves import frame_curves, not_once_curve, track_curves
from benchmarks.frontier_parts.drawing import draw
from benchmarks.frontier_parts.systems import LEVELS, Curve, Frontier
from foundation.errors import EXIT_OK
from reference_line.demo_plan import BUNDLES
from reference_line.fit_asking import ask_everything
from reference_line.recorded_line import RecordedLine, record_line
from reference_line.track_thresholds import TEST_SEEDS, VALIDATION_SEEDS
from replay.recorded_lane import RecordedCloud

WORK = Path(tempfile.gettempdir()) / "hardcase-frontier-line"
BUDGETS = (0.0001, 0.0002, 0.0005, 0.001, 0.003, 0.01)
"""Shares of all frames as JPEG 85."""
LOOKS_EVERY = (180, 90)
"""Frames apart at which the cloud sees each place of the belt once or twice at least."""
_AREA_END = 0.01
_WANTED = (0.5, 0.9)
_NAME = 42


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures; tables are printed as they come."""
    budgets = sorted(arguments.budgets)
    frontier = Frontier(
        arguments.edge, arguments.cloud, arguments.work, arguments.lines, arguments.frames
    )
    edge = frontier.edge_alone()
    looks = {every: frontier.everything(every) for every in LOOKS_EVERY}
    cloud = max((counts for counts, _ in looks.values()), key=lambda c: float(f1_of(c.sum(axis=0))))
    report: dict[str, Any] = {
        "lines": arguments.lines,
        "frames": arguments.frames,
        "boards": len(edge),
        "defects": int(edge.sum(axis=0)[[0, 2]].sum()),
        "samples": SAMPLES,
        "all_frames_jpeg85_bytes": round(frontier.jpeg_bytes),
        "edge": {"digest": frontier.edge.digest, **_score(edge)},
        "cloud": {"digest": frontier.cloud.digest, **_score(cloud)},
        "cloud_on_everything": {
            str(every): {"bytes": round(sent), **_score(counts)}
            for every, (counts, sent) in looks.items()
        },
        "every_proposal": {level: _every_proposal(frontier, level) for level in LEVELS},
    }
    _print_levels(report)
    validation = [
        record_line(arguments.edge, seed, arguments.frames, arguments.work)
        for seed in arguments.validation
    ]
    _print_head(budgets)
    report["curves"] = []
    for curve in _curves(frontier, validation, arguments.edge, budgets):
        row = describe(frontier, curve, edge, cloud)
        _print_curve(row, budgets)
        report["curves"].append(row)
    return report


def _curves(
    frontier: Frontier, validation: Sequence[RecordedLine], edge: Path, budgets: Sequence[float]
) -> Iterator[Curve]:
    """All systems, the product's own first."""
    yield from track_curves(frontier, budgets)
    yield from frame_curves(frontier, validation, budgets)
    asked = [ask_everything(line, edge, RecordedCloud(frontier.cloud)) for line in validation]
    yield not_once_curve(frontier, asked, budgets)
    for any_region in (False, True):
        yield frontier.oracle(budgets, any_region=any_region)


def describe(frontier: Frontier, curve: Curve, edge: Counts, cloud: Counts) -> dict[str, Any]:
    """All figures of a curve, fit for JSON."""
    resamples = Resamples(len(edge))
    points = []
    for point in curve.points:
        recovered = resamples.recovered(edge, point.counts, cloud)
        points.append(
            {
                "budget": point.budget,
                "share": round(point.sent_bytes / frontier.jpeg_bytes, 8),
                "bytes": round(point.sent_bytes),
                "questions": point.questions,
                "f1": round(float(f1_of(point.counts.sum(axis=0))), 4),
                "counts": point.counts.sum(axis=0).tolist(),
                "recovered": _rounded(asdict(recovered)),
                "over_cloud": _rounded(asdict(resamples.ahead(point.counts, cloud))),
            }
        )
    shares = [one["share"] for one in points]
    values = [one["recovered"]["value"] for one in points]
    return {
        "name": curve.name,
        "kind": curve.kind,
        "points": points,
        "apgr": round(area(shares, values, _AREA_END), 4),
        "bytes_for": {f"{wanted:g}": share_for(shares, values, wanted) for wanted in _WANTED},
    }


def _every_proposal(frontier: Frontier, level: str) -> dict[str, Any]:
    point = frontier.every_proposal(level)
    size = point.sent_bytes / max(1, point.questions)
    share = round(point.sent_bytes / frontier.jpeg_bytes, 6)
    return {
        "crops": point.questions,
        "bytes_a_crop": round(size),
        "share": share,
        **_score(point.counts),
    }


def _score(counts: Counts) -> dict[str, Any]:
    total = counts.sum(axis=0)
    names = ("right", "wrong", "missed")
    return {
        "f1": round(float(f1_of(total)), 4),
        **dict(zip(names, total.tolist(), strict=True)),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _print_levels(report: Mapping[str, Any]) -> None:
    print(
        f"{report['defects']} defects on {report['boards']} boards; all frames as JPEG 85 are "
        f"{report['all_frames_jpeg85_bytes'] / 1e6:.1f} MB"
    )
    print(f"edge alone: F1 {report['edge']['f1']:.4f}")
    for every, one in report["cloud_on_everything"].items():
        print(f"cloud on everything, a frame in {every}: F1 {one['f1']:.4f}")
    print(f"\n{'every proposal, at level':<28}{'F1':>8}{'bytes a crop':>14}{'share':>10}")
    for level, one in report["every_proposal"].items():
        print(f"{level:<28}{one['f1']:>8.4f}{one['bytes_a_crop']:>14}{one['share']:>10.3%}")


def _print_head(budgets: Sequence[float]) -> None:
    head = "".join(f"{f'{budget:.2%}':>24}" for budget in budgets)
    print(f"\n{'gap recovered [95 %] @ sent':<{_NAME}}{head}{'APGR':>8}{'50 %':>9}{'90 %':>9}")


def _print_curve(row: Mapping[str, Any], budgets: Sequence[float]) -> None:
    cells = {point["budget"]: point for point in row["points"]}
    text = "".join(f"{_cell(cells.get(budget)):>24}" for budget in budgets)
    wanted = [row["bytes_for"][f"{one:g}"] for one in _WANTED]
    tail = "".join(f"{'-' if one is None else format(one, '.3%'):>9}" for one in wanted)
    print(f"{row['name']:<{_NAME}}{text}{row['apgr']:>8.1%}{tail}", flush=True)


def _cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    one = point["recovered"]
    return f"{one['value']:.0%} [{one['low']:.0%},{one['high']:.0%}]@{point['share']:.3%}"


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier_line")
    parser.add_argument("--frames", type=int, default=1350, help="of each line")
    parser.add_argument("--lines", type=int, nargs="+", default=list(TEST_SEEDS))
    parser.add_argument("--validation", type=int, nargs="+", default=list(VALIDATION_SEEDS))
    parser.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS))
    parser.add_argument("--edge", type=Path, default=BUNDLES / "edge-reference")
    parser.add_argument("--cloud", type=Path, default=BUNDLES / "cloud-reference")
    parser.add_argument("--work", type=Path, default=WORK, help="where detections are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the curves there")
    arguments = parser.parse_args(argv)
    report = run(arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.svg is not None:
        svg = draw(report["curves"], report["edge"]["f1"], report["cloud"]["f1"])
        arguments.svg.write_text(svg, encoding="utf-8")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
