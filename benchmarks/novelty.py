"""How well novelty tells other frames from ordinary ones, and what trusting scores less is worth.

    nice -n 10 python -m benchmarks.novelty [--bundle BUNDLE] [--frames 240] [--data FOLDER]
        [--json FILE]

The reference line: fitted on frames of two lines, tried on a third, as they are and spoilt in
several ways. With the data folder also photographs: fitted on COCO's calibration pictures, tried on
others, by a public model whose scores are not calibrated. For each way of spoiling: the AUROC of
the p-value against the ordinary frames that were not fitted on, the share of frames at or below a
p-value of 0.01 and 0.05, and, where there is truth, the Brier score of the detections' scores as
they are and tempered. Ordinary frames should have the shares 0.01 and 0.05.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge_node.adapters.model import BundleModel
from edge_node.config import DetectorSettings, EdgeSettings
from edge_node.logic.cells import small_picture
from edge_node.logic.novelty import (
    NoveltyModel,
    NoveltyRules,
    describe_frame,
    fit_novelty,
    temper,
)
from foundation.detector import Detector
from foundation.frames import Detections, Pixels, Scores
from foundation.geometry import iou_matrix
from model_workshop.importing.families import import_model
from model_workshop.importing.labels import read_labels
from reference_line.evaluation import IOU_MIN
from reference_line.line import Line
from reference_line.truth import FrameTruth

BUNDLE = Path("reference_line/bundles/edge-reference")
DATA = Path("../shared/data")
FIT_SEEDS, TEST_SEED = (401, 402), 403
STRIDE = 19
"""Frames between two that are looked at: 114 px, so that every board is seen in many places."""
ORDINARY = "ordinary"

Array = npt.NDArray[np.float64]
Detect = Callable[[Pixels], Detections]


def _noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 25, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _half_covered(pixels: Pixels) -> Pixels:
    covered = pixels.copy()
    covered[:, : pixels.shape[1] // 2] = 12
    return covered


def _scaled(*gains: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.clip(pixels * np.array(gains), 0, 255).astype(np.uint8)


def _blurred(spread_px: float) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(cv2.GaussianBlur(pixels, (0, 0), spread_px), np.uint8)


WAYS: Mapping[str, Callable[[Pixels], Pixels]] = {
    ORDINARY: lambda pixels: pixels,
    "slightly darker (x 0.9)": _scaled(0.9, 0.9, 0.9),
    "dark (x 0.4)": _scaled(0.4, 0.4, 0.4),
    "overexposed (x 1.6)": _scaled(1.6, 1.6, 1.6),
    "slightly blurred (1 px)": _blurred(1.0),
    "blurred (3 px)": _blurred(3.0),
    "noise (25 levels)": _noisy,
    "colour cast": _scaled(1.25, 1.0, 0.75),
    "lens half covered": _half_covered,
    "lens covered": lambda pixels: np.full_like(pixels, 12),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame with its truth, where there is one."""

    pixels: Pixels
    truth: FrameTruth | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the edge made of frames: p-values (N,), and all detections with whether each is right.

    Attributes:
        p_values: (N,) of the frames.
        scores: (M,) calibrated, of all detections of all frames.
        of_frame: (M,) p-value of each detection's frame.
        right: (M,) bool; empty where there is no truth.
    """

    p_values: Array
    scores: Scores
    of_frame: Array
    right: npt.NDArray[np.bool_]


def line_frames(seed: int, count: int) -> Iterator[Shown]:
    """Frames of a line, some way apart."""
    line = Line(seed)
    for index in range(0, count * STRIDE, STRIDE):
        yield Shown(line.frame(index), line.truth(index))


def photographs(folder: Path) -> Iterator[Shown]:
    """The pictures of a folder, in order of their names."""
    for path in sorted(folder.glob("*.jpg")):
        pixels = cv2.imread(str(path))
        if pixels is not None:
            yield Shown(np.asarray(pixels, np.uint8))


def describe(pixels: Pixels, found: Detections) -> Array:
    """The features of one frame."""
    return describe_frame(found.scores, small_picture(pixels), pixels)


def look(
    shown: Sequence[Shown], way: Callable[[Pixels], Pixels], detect: Detect, model: NoveltyModel
) -> Seen:
    """Runs the edge's model on spoilt frames."""
    p_values, scores, of_frame, right = [], [], [], []
    for frame in shown:
        pixels = way(frame.pixels)
        found = detect(pixels)
        p_values.append(model.score(describe(pixels, found)))
        if frame.truth is not None:
            scores.append(found.scores)
            of_frame.append(np.full(len(found), p_values[-1]))
            right.append(is_right(found, frame.truth))
    nothing = [np.zeros(0)]
    return Seen(
        np.array(p_values),
        np.concatenate(scores or nothing).astype(np.float32),
        np.concatenate(of_frame or nothing),
        np.concatenate(right or nothing).astype(np.bool_),
    )


def is_right(found: Detections, truth: FrameTruth) -> npt.NDArray[np.bool_]:
    """Which detections (N,) are the best one on a defect of their class."""
    right = np.zeros(len(found), np.bool_)
    overlaps = iou_matrix(found.boxes, truth.boxes)
    overlaps[found.class_ids[:, None] != truth.class_ids] = 0
    taken = np.zeros(len(truth), np.bool_)
    for position in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, 0, overlaps[position])
        if len(free) and free.max() >= IOU_MIN:
            taken[free.argmax()] = right[position] = True
    return right


def auroc(novel: Array, ordinary: Array) -> float:
    """The chance that a novel frame has the smaller p-value, ties counting half."""
    smaller = (novel[:, None] < ordinary).mean()
    return float(smaller + (novel[:, None] == ordinary).mean() / 2)


def unevenness(p_values: Array) -> float:
    """How far the p-values (N,) are from uniform: the Kolmogorov-Smirnov distance."""
    ordered = np.sort(p_values)
    count = len(ordered)
    above = np.arange(1, count + 1) / count - ordered
    below = ordered - np.arange(count) / count
    return float(max(above.max(), below.max()))


def figures(seen: Seen, ordinary: Seen, base_rate: float) -> dict[str, float]:
    """All figures of one way of spoiling."""
    result = {
        "auroc": auroc(seen.p_values, ordinary.p_values),
        "at_0.01": float((seen.p_values <= 0.01).mean()),
        "at_0.05": float((seen.p_values <= 0.05).mean()),
    }
    if len(seen.right):
        rules = NoveltyRules()
        tempered = [
            float(temper(one, p, base_rate=base_rate, rules=rules)[0])
            for one, p in zip(seen.scores[:, None], seen.of_frame.tolist(), strict=True)
        ]
        result["detections"] = len(seen.right) / len(seen.p_values)
        result["mean_score"] = float(seen.scores.mean())
        result["right"] = float(seen.right.mean())
        result["brier"] = float(((seen.scores - seen.right) ** 2).mean())
        result["brier_tempered"] = float(((np.array(tempered) - seen.right) ** 2).mean())
    return result


def measure(
    fitting: Sequence[Iterator[Shown]],
    tried: Sequence[Shown],
    other: Sequence[Shown],
    detect: Detect,
) -> dict[str, Any]:
    """Fits on the first, tries the second in every way, and the third as it is."""
    features, right = [], []
    for stream in fitting:
        for frame in stream:
            found = detect(frame.pixels)
            features.append(describe(frame.pixels, found))
            if frame.truth is not None:
                right.append(is_right(found, frame.truth))
    model = fit_novelty(np.array(features))
    base_rate = float(np.concatenate(right).mean()) if right else 0.0
    ordinary = look(tried, WAYS[ORDINARY], detect, model)
    ways = {}
    for name, way in WAYS.items():
        seen = ordinary if name == ORDINARY else look(tried, way, detect, model)
        ways[name] = figures(seen, ordinary, base_rate)
    if other:
        seen = look(other, WAYS[ORDINARY], detect, model)
        ways["another domain"] = figures(seen, ordinary, base_rate)
    limit = 1.36 * np.sqrt(1 / len(tried) + 1 / len(model.distances))
    return {
        "fitted_on": len(features),
        "tried_on": len(tried),
        "base_rate": base_rate,
        "unevenness": unevenness(ordinary.p_values),
        "unevenness_limit": float(limit),
        "ways": ways,
    }


def measure_line(bundle: Path, frames: int, data: Path) -> dict[str, Any]:
    """The reference line and its bundle; photographs are the other domain."""
    model = BundleModel.open(EdgeSettings(detector=DetectorSettings(bundle=str(bundle))))
    fitting = [line_frames(seed, frames // len(FIT_SEEDS)) for seed in FIT_SEEDS]
    tried = list(line_frames(TEST_SEED, frames // 2))
    return measure(fitting, tried, list(photographs(data / "coco_val" / "images")), model.detect)


def measure_photographs(data: Path) -> dict[str, Any]:
    """Photographs and a public model; frames of the line are the other domain."""
    models = data / "models"
    bundle = import_model(
        models / "yolox_nano.onnx",
        labels=read_labels(models / "coco80_names.txt"),
        name="yolox-nano",
        license_name="Apache-2.0",
    )
    detector = Detector.open(bundle)
    tried = list(photographs(data / "coco_val" / "images"))
    fitting = [photographs(data / "coco_calibration" / "images")]
    # Of a public model's classes none is on the line, so there is no truth about them.
    other = [Shown(one.pixels) for one in line_frames(TEST_SEED, 60)]
    return measure(fitting, tried, other, detector.detect)


def show(name: str, result: dict[str, Any]) -> None:
    """Prints one table."""
    print(
        f"{name}: fitted on {result['fitted_on']} frames, tried on {result['tried_on']}; p-values "
        f"of ordinary frames are {result['unevenness']:.3f} from uniform (5 % of even samples: "
        f"above {result['unevenness_limit']:.3f})"
    )
    print(
        f"{'':<26}{'AUROC':>7}{'p<=.01':>8}{'p<=.05':>8}{'a frame':>9}{'score':>7}{'right':>7}"
        f"{'Brier':>8}{'tempered':>10}"
    )
    for way, row in result["ways"].items():
        text = f"{way:<26}{row['auroc']:>7.3f}{row['at_0.01']:>8.2f}{row['at_0.05']:>8.2f}"
        if "brier" in row:
            text += f"{row['detections']:>9.1f}{row['mean_score']:>7.2f}{row['right']:>7.2f}"
            text += f"{row['brier']:>8.3f}{row['brier_tempered']:>10.3f}"
        print(text)
    print()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="edge bundle of the line")
    parser.add_argument("--frames", type=int, default=240, help="of the line to fit on")
    parser.add_argument("--data", type=Path, default=DATA, help="photographs and public models")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    report = {"line": measure_line(arguments.bundle, arguments.frames, arguments.data)}
    show("reference line", report["line"])
    if (arguments.data / "models" / "yolox_nano.onnx").is_file():
        report["photographs"] = measure_photographs(arguments.data)
        show("photographs", report["photographs"])
    else:
        print(f"photographs: left out, there is no data at {arguments.data}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
