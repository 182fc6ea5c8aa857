"""The frontier of a public pair of detectors on COCO: accuracy recovered against bytes sent.

    python -m benchmarks.frontier [--data DIR] [--work DIR] [--out DIR] [--resamples N]

From public models and pictures to the tables of docs/frontier.md, in the commands that an operator
would use: import both detectors, make the small one INT8 too, observe on calibration pictures what
asking gains, fit a policy for each edge, and replay every policy over labelled pictures that had no
part in it. The dials of all policies are set on the calibration pictures, which have no labels.
Once more, at fewer levels, crops are asked about as well, which tells both oracles apart. The
answers of both models are remembered in --work; the first run takes about an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from foundation.errors import EXIT_FAILURE, EXIT_OK
from model_workshop.__main__ import main as workshop
from replay.__main__ import main as replay
from replay.charts import classes, frontier
from replay.figures import Curve, Replay

LEVELS = (
    *("avif30@0.5", "avif45@0.5", "avif55@0.5", "avif60@0.5", "avif50@0.6"),
    *("avif40@0.7", "avif45@0.7", "avif60@0.7", "avif50", "avif65"),
)
BUDGETS = (0.02, 0.05, 0.07, 0.08, 0.085, 0.09, 0.1, 0.125, 0.15, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5)
CROP_LEVELS = ("avif45@0.5", "avif60@0.5", "avif60@0.7", "avif65")
"""Few, where crops are asked about too: each is an answer of the cloud at each level."""
CROP_BUDGETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
_DRAWN = ("all frames, best codec", "frames, p(1-p)", "frames, IBT", "frames at random")
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #555; } .grid { stroke: #ddd; fill: none; }
path.level { stroke: #888; fill: none; }
.curve { fill: none; stroke: currentColor; stroke-width: 2; }
.dot { fill: none; stroke: currentColor; stroke-width: 5; stroke-linecap: round; }
.whisker { fill: none; stroke: currentColor; opacity: .4; }
.oracle .curve { stroke-dasharray: 6 5; }
.own .curve { stroke-width: 3; } .own.n0 { color: #0f8f73; } .own.n1 { color: #d1483f; }
.oracle { color: #8a8f98; } .baseline.n0 { color: #3f8fdc; } .baseline.n1 { color: #d98a1f; }
.baseline.n2 { color: #c2478f; } .baseline.n3 { color: #7a5bd0; } svg { background: #fff; }
"""
GOALS = {0.1: 0.70, 0.2: 0.85, 0.3: 0.95}
"""Gap recovered, by realised share of the bytes of all frames as JPEG 85."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the study; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("out/frontier-work"))
    parser.add_argument("--out", type=Path, default=Path("out/frontier"))
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args(argv)
    if not (arguments.data / "models" / "yolov8s_640.onnx").exists():
        print(f"no models in {arguments.data}: give --data, a folder as its README describes it")
        return EXIT_OK
    try:
        cloud = _imported(arguments, "yolov8s_640", "cloud")
        edge = _imported(arguments, "yolox_nano", "edge-float")
        quantized = _quantized(arguments, edge)
        tables = {path.name: _studied(arguments, path, cloud) for path in (edge, quantized)}
        with_crops = _studied_with_crops(arguments, edge, cloud)
    except RuntimeError as error:
        print(f"stopped: {error}", file=sys.stderr)
        return EXIT_FAILURE
    _summarize(tables)
    _summarize_losses(with_crops)
    for name, study in tables.items():
        plot = arguments.out / f"frontier-{name}.svg"
        plot.write_text(draw(study), encoding="utf-8")
    summary = {name: _readings(study) for name, study in tables.items()}
    path = arguments.out / "frontier.json"
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"{path}, with a page and a plot for each edge beside it")
    return EXIT_OK


def _imported(arguments: argparse.Namespace, model: str, name: str) -> Path:
    """A bundle of a public model, imported unless it has been."""
    out: Path = arguments.work / name
    if not out.exists():
        models = arguments.data / "models"
        labels = models / "coco80_names.txt"
        _run(workshop, "import", models / f"{model}.onnx", "--labels", labels, "--out", out)
    return out


def _quantized(arguments: argparse.Namespace, edge: Path) -> Path:
    out: Path = arguments.work / "edge-int8"
    if not out.exists():
        images = arguments.data / "coco_calibration" / "images"
        _run(workshop, "quantize", edge, "--images", images, "--out", out)
    return out


def _studied(arguments: argparse.Namespace, edge: Path, cloud: Path) -> Replay:
    """Observes, fits and replays with one edge."""
    work, data = arguments.work, arguments.data
    seen, fitted = work / f"{edge.name}.npz", work / f"{edge.name}-policy"
    out: Path = arguments.out / edge.name
    shared = ("--cloud", cloud, "--levels", ",".join(LEVELS), "--frames-only", "--work", work)
    if not fitted.exists():
        _run(replay, data / "coco_calibration", "--edge", edge, *shared, "--observe", seen)
        # Mean average precision counts classes alike.
        _run(workshop, "fit-policy", edge, seen, "--out", fitted, "--class-cost", "balanced")
    dials = ("--calibration", data / "coco_calibration", "--resamples", arguments.resamples)
    budgets = ("--budget-share", *BUDGETS)
    _run(replay, data / "coco_val", "--edge", fitted, *shared, *dials, "--out", out, *budgets)
    return Replay.model_validate_json((out / "replay.json").read_text(encoding="utf-8"))


def _studied_with_crops(arguments: argparse.Namespace, edge: Path, cloud: Path) -> Replay:
    """Replays with crops, too: what the edge does not propose is told from what it ranks badly.

    Parts of the pictures take turns in setting the dials.
    """
    fitted, out = arguments.work / f"{edge.name}-policy", arguments.out / f"{edge.name}-crops"
    bundles = ("--edge", fitted, "--cloud", cloud, "--levels", ",".join(CROP_LEVELS))
    folders = ("--work", arguments.work, "--resamples", arguments.resamples, "--out", out)
    budgets = ("--budget-share", *CROP_BUDGETS)
    _run(replay, arguments.data / "coco_val", *bundles, *folders, *budgets)
    return Replay.model_validate_json((out / "replay.json").read_text(encoding="utf-8"))


def _run(command: Callable[[list[str]], int], *words: object) -> None:
    texts = [str(word) for word in words]
    print("$", "model-workshop" if command is workshop else "hardcase-replay", *texts, flush=True)
    status = command(texts)
    if status != EXIT_OK:
        raise RuntimeError(f"the command ended with {status}")


def recovered_at(curve: Curve, share: float) -> float | None:
    """Gap recovered at a realised share of the bytes, between the curve's points; null: none."""
    points = sorted(
        (point.share, point.recovered.value)
        for point in curve.points
        if point.recovered.value is not None
    )
    shares, values = np.array([(0.0, 0.0), *points]).T
    if share > shares[-1]:
        return None
    return round(float(np.interp(share, shares, values)), 4)


def draw(study: Replay) -> str:
    """Gap recovered over bytes as an SVG file that stands alone, with a legend."""
    curves = [c for c in study.curves if c.kind != "baseline" or c.name in _DRAWN]
    ends = ((0.0, "edge alone"), (100.0, "cloud on every frame"))
    plot = frontier(curves, lambda point: point.recovered, "gap recovered, %", ends)
    keys = []
    for row, ((kind, number), curve) in enumerate(zip(classes(curves), curves, strict=True)):
        y = 146 + 18 * row
        keys.append(f'<g class="{kind} n{number}"><path class="curve" d="M66 {y}h24"/></g>')
        keys.append(f'<text x="96" y="{y + 4}">{escape(curve.name)}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {plot[len("<svg ") : plot.index(">") + 1]}'
    body = plot[plot.index(">") + 1 : plot.rindex("</svg>")]
    return f"{head}<style>{_STYLE}</style>{body}{''.join(keys)}</svg>\n"


def _readings(study: Replay) -> dict[str, dict[str, float | None]]:
    return {
        curve.name: {f"{share:g}": recovered_at(curve, share) for share in GOALS}
        for curve in study.curves
    }


def _summarize(tables: dict[str, Replay]) -> None:
    """Gap recovered at realised bytes, of every policy and both edges."""
    for name, study in tables.items():
        print(f"\n{name}: gap recovered in mAP50-95, %, at realised bytes (all frames as JPEG 85)")
        print(f"  {'':<30}" + "".join(f"{share:>8.0%}" for share in GOALS))
        print(f"  {'goal':<30}" + "".join(f"{goal:>8.0%}" for goal in GOALS.values()))
        for curve in study.curves:
            cells = [recovered_at(curve, share) for share in GOALS]
            shown = "".join("       -" if c is None else f"{c:>8.1%}" for c in cells)
            print(f"  {curve.name:<30}{shown}")


def _summarize_losses(study: Replay) -> None:
    """Both oracles, the policy and where the difference is left, in points of mAP50-95."""
    print("\nwith crops: mAP50-95, points, at the bytes that the policy took")
    heads = ("any region", "own crops", "planned", "proposals")
    print(f"  {'bytes':>8}" + "".join(f"{head:>12}" for head in heads) + f"{'score':>8}")
    for loss in study.losses:
        if loss.policy == "planned, gains":
            ours = study.curve(loss.policy).at(loss.budget).map50_95.value or 0.0
            crops = ours + loss.score
            row = (crops + loss.proposals, crops, ours)
            cells = "".join(f"{100 * value:>12.1f}" for value in row)
            left = f"{100 * loss.proposals:>12.1f}{100 * loss.score:>8.1f}"
            print(f"  {loss.share:>8.1%}{cells}{left}")


if __name__ == "__main__":
    sys.exit(main())
