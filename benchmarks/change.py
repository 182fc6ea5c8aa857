"""In what share of real frames something has changed that nothing detected explains.

    nice -n 10 python -m benchmarks.change [--data FOLDER] [--frames 400] [--draw FOLDER]
        [--json FILE]

Footage of fixed cameras goes through the background model twice side by side: as if nothing had
been detected, and with the tracks of a public detector as explanation. The first says what change
alone would find, the second what is left to ask about. Left out where there is no data folder.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_node.adapters.sources.video import VideoSource
from edge_node.config import SourceSettings, TrackSettings
from edge_node.logic.background import Abstention, Background, Change, ChangeRules
from edge_node.logic.cells import small_picture
from edge_node.logic.track import Tracker
from foundation.clock import SystemClock
from foundation.detector import Detector
from foundation.frames import Pixels
from model_workshop.importing.families import import_model
from model_workshop.importing.labels import read_labels

DATA = Path("../shared/data")
FOOTAGE = ("car-detection.mp4", "bottle-detection.mp4")
SCORE_START = 0.3
DRAW_EVERY = 40


def frames_of(path: Path, frames: int) -> Iterator[Pixels]:
    """The first frames of a file."""
    stop = threading.Event()
    settings = SourceSettings(uri=str(path), pace="unpaced")
    with VideoSource(settings, SystemClock()) as video:
        for _ in range(frames):
            capture = video.read(stop)
            if capture is None:
                return
            yield capture.pixels


def opened(models: Path) -> Detector:
    """The public detector."""
    bundle = import_model(
        models / "yolox_nano.onnx",
        labels=read_labels(models / "coco80_names.txt"),
        name="yolox-nano",
        license_name="Apache-2.0",
    )
    return Detector.open(bundle)


def count(said: Counter[str], change: Change) -> None:
    """Adds one frame."""
    if change.abstained is not Abstention.NONE:
        said[change.abstained] += 1
        return
    said["looked"] += 1
    said["frames_with_places"] += bool(len(change.boxes))
    said["places"] += len(change.boxes)


def draw(pixels: Pixels, change: Change, path: Path) -> None:
    """Writes a picture of the places."""
    shown = pixels.copy()
    for box, strength in zip(change.boxes.astype(int).tolist(), change.strengths, strict=True):
        cv2.rectangle(shown, box[:2], box[2:], (0, 0, 255), 2)
        cv2.putText(shown, f"{strength:.2f}", (box[0], box[1] + 14), 0, 0.5, (0, 255, 255), 1)
    cv2.imwrite(str(path), shown)


def measure(
    path: Path, detector: Detector, frames: int, folder: Path | None
) -> dict[str, dict[str, int]]:
    """Counts of both ways, and the questions where each place is asked about once."""
    tracker = Tracker(TrackSettings(), np.full(80, SCORE_START, np.float32))
    no_boxes = np.zeros((0, 4), np.float32)
    blind, explained, asking = (Background(ChangeRules()) for _ in range(3))
    said: dict[str, Counter[str]] = {"blind": Counter(), "explained": Counter()}
    for sequence, pixels in enumerate(frames_of(path, frames)):
        tracker.advance(sequence)
        tracker.observe(detector.detect(pixels))
        tracker.retire(pixels.shape[1], pixels.shape[0])
        picture, boxes = small_picture(pixels), tracker.rows["box"]
        moves = tracker.scene_moves
        count(said["blind"], blind.observe(picture, no_boxes, scene_moves=False))
        change = explained.observe(picture, boxes, scene_moves=moves)
        count(said["explained"], change)
        news = asking.observe(picture, boxes, scene_moves=moves)
        for box in news.boxes:
            said["explained"]["asked"] += 1
            asking.dismiss(box)
        if folder is not None and len(change.boxes) and sequence % DRAW_EVERY == 0:
            draw(pixels, change, folder / f"{path.stem}-{sequence}.png")
    return {way: dict(counts) for way, counts in said.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="footage and public models")
    parser.add_argument("--frames", type=int, default=400, help="of each file")
    parser.add_argument("--draw", type=Path, help="write pictures of places there")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args()
    if not (arguments.data / "footage").is_dir():
        print(f"left out, there is no data at {arguments.data}")
        return
    if arguments.draw is not None:
        arguments.draw.mkdir(parents=True, exist_ok=True)
    detector = opened(arguments.data / "models")
    report = {}
    for name in FOOTAGE:
        path = arguments.data / "footage" / name
        report[name] = measure(path, detector, arguments.frames, arguments.draw)
        for way, counts in report[name].items():
            share = counts.get("frames_with_places", 0) / max(1, counts.get("looked", 0))
            rest = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
            print(f"{name:<22}{way:<11}{share:>6.1%} of frames with places ({rest})", flush=True)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
