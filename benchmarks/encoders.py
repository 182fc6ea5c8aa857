"""What a crop costs to send and to compress: encoder efforts, levels, and the interpreter lock.

    python -m benchmarks.encoders [--images FOLDER] [--rounds N] [--crops N] [--json FILE]
        [--cloud BUNDLE] [--images-max N]

Pictures are crops of 192 px around defects of the rendered reference line and, with `--images`,
crops of the same size from the middle of a folder's images and a few of its images whole. All ways
are tried on a picture before the next picture's turn.

Efforts are compared at equal quality of the result, for the formats' quality scales differ: each
is run at several qualities, and the bytes are those at equal PSNR, averaged over the range that it
shares with the effort that ships for WebP. PSNR stands for accuracy here because it needs no model.
Milliseconds are processor time of the encoding thread, which other programs disturb least. With
`--cloud` a detector judges some efforts of AVIF on the folder's images: `encoders_seen`.

Levels are what an edge node may choose: bytes, milliseconds to shrink and compress and to
decompress, and PSNR of the result enlarged again.

At last a Python thread counts as fast as it can beside the encoders, and its longest pause is set
against the duration of one encoding; a call that is known to hold the lock shows what that would
look like.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.encoders_efforts import efforts
from benchmarks.encoders_seen import print_seen, try_detector
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image
from foundation.levels import Level, encode_at
from reference_line.line import Line

CROP_PX = 192
WHOLE = 4
LINE_SEED = 4
QUALITIES = (20, 35, 50, 65, 80)
BASE = "webp method 6"
LEVELS = (
    *("jpeg85", "webp80", "webp50", "webp20"),
    *("avif70", "avif55", "avif45", "avif30"),
    *("webp80@0.5", "webp50@0.5", "avif55@0.5", "avif45@0.5", "avif30@0.5", "avif45@0.25"),
)
SWITCH_INTERVAL_S = 0.0005


@dataclass
class Cost:
    """What one way came to over pictures and rounds."""

    size_bytes: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)

    @property
    def mean_bytes(self) -> float:
        """Bytes a picture."""
        return statistics.fmean(self.size_bytes)

    @property
    def psnr_db(self) -> float:
        """Of the mean squared error of all pictures."""
        return float(10 * np.log10(255**2 / max(1e-9, statistics.fmean(self.errors))))

    def figures(self) -> dict[str, float]:
        """For the table and the file."""
        found = {
            "bytes": self.mean_bytes,
            "psnr_db": self.psnr_db,
            "encode_ms_p50": statistics.median(self.encode_ms),
            "encode_ms_p95": float(np.percentile(self.encode_ms, 95)),
        }
        if self.decode_ms:
            found["decode_ms_p50"] = statistics.median(self.decode_ms)
        return found


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the milliseconds of this thread's processor time it took."""
    begun_s = time.thread_time()
    result = call()
    return result, 1e3 * (time.thread_time() - begun_s)


def error(pixels: Pixels, other: Pixels) -> float:
    """Mean squared difference."""
    return float(np.square(pixels.astype(np.float32) - other).mean())


def try_efforts(pictures: Sequence[Pixels], rounds: int) -> dict[str, dict[int, Cost]]:
    """Every effort at every quality."""
    ways = efforts()
    costs = {name: {quality: Cost() for quality in QUALITIES} for name in ways}
    for number in range(rounds):
        for pixels in pictures:
            for quality in QUALITIES:
                for name, encode in ways.items():
                    data, spent_ms = timed(partial(encode, pixels, quality))
                    cost = costs[name][quality]
                    cost.encode_ms.append(spent_ms)
                    if number == 0:
                        seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                        cost.size_bytes.append(len(data))
                        cost.errors.append(error(pixels, np.asarray(seen, np.uint8)))
    return costs


def bytes_at_equal_psnr(way: Mapping[int, Cost], base: Mapping[int, Cost]) -> float | None:
    """Bytes of a way over those of another, the mean ratio over the PSNR that both reach.

    The area between the two curves of log bytes over PSNR, joined by straight lines.
    """
    curves = [
        (
            np.array([cost.psnr_db for cost in curve.values()]),
            np.log([cost.mean_bytes for cost in curve.values()]),
        )
        for curve in (way, base)
    ]
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if high - low < 0.5:
        return None
    at = np.linspace(low, high, 100)
    first, second = (np.interp(at, x, y) for x, y in curves)
    return float(np.exp((first - second).mean()))


def summarize(costs: Mapping[str, Mapping[int, Cost]]) -> dict[str, dict[str, Any]]:
    """An effort's time over all qualities, and its bytes beside those of WebP."""
    summary = {}
    for name, curve in costs.items():
        spent = [value for cost in curve.values() for value in cost.encode_ms]
        summary[name] = {
            "bytes_ratio": bytes_at_equal_psnr(curve, costs[BASE]),
            "encode_ms_p50": statistics.median(spent),
            "encode_ms_p95": float(np.percentile(spent, 95)),
            "qualities": {quality: cost.figures() for quality, cost in curve.items()},
        }
    return summary


def try_levels(pictures: Sequence[Pixels], rounds: int) -> dict[str, dict[str, float]]:
    """Every level of the list."""
    levels = [Level.parse(text) for text in LEVELS]
    costs = {str(level): Cost() for level in levels}
    for number in range(rounds):
        for pixels in pictures:
            height, width = pixels.shape[:2]
            for level in levels:
                cost = costs[str(level)]
                data, spent_ms = timed(partial(encode_at, pixels, level))
                cost.encode_ms.append(spent_ms)
                decode = partial(decode_image, side_min_px=1, pixels_max=pixels.size)
                seen, spent_ms = timed(partial(decode, data, level.encoding))
                cost.decode_ms.append(spent_ms)
                if number == 0:
                    cost.size_bytes.append(len(data))
                    large = cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR)
                    cost.errors.append(error(pixels, np.asarray(large, np.uint8)))
    return {name: cost.figures() for name, cost in costs.items()}


def pauses(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """A counting thread's longest pause beside a call, and the call's duration: medians.

    Where both are alike, the call holds the interpreter lock; what is left without it are the
    system's pauses.
    """
    longest_ms, durations_ms = [], []
    for _ in range(repeats):
        stop, started = threading.Event(), threading.Event()
        longest_s = [0.0]

        def count(stop: threading.Event, started: threading.Event, longest_s: list[float]) -> None:
            last_s = time.perf_counter()
            started.set()
            while not stop.is_set():
                now_s = time.perf_counter()
                longest_s[0] = max(longest_s[0], now_s - last_s)
                last_s = now_s

        thread = threading.Thread(target=count, args=(stop, started, longest_s))
        thread.start()
        started.wait()
        begun_s = time.perf_counter()
        call()
        durations_ms.append(1e3 * (time.perf_counter() - begun_s))
        stop.set()
        thread.join()
        longest_ms.append(1e3 * longest_s[0])
    return {
        "longest_pause_ms": statistics.median(longest_ms),
        "duration_ms": statistics.median(durations_ms),
    }


def try_lock(pixels: Pixels, repeats: int) -> dict[str, dict[str, float]]:
    """Every encoding and decoding that ships, beside a thread that counts."""
    calls: dict[str, Callable[[], object]] = {"known to hold it": lambda: 3**600_000}
    for encoding in Encoding:
        calls[f"encode {encoding}"] = partial(encode_image, pixels, encoding, 80)
        decode = partial(decode_image, side_min_px=1, pixels_max=pixels.size)
        calls[f"decode {encoding}"] = partial(decode, encode_image(pixels, encoding, 80), encoding)
    return {name: pauses(call, repeats) for name, call in calls.items()}


def pictures_of(folder: Path | None, crops: int) -> dict[str, list[Pixels]]:
    """The pictures by kind."""
    kinds = {"line crops": line_crops(crops)}
    if folder is not None:
        images = [cv2.imread(str(path)) for path in sorted(folder.iterdir())[: 2 * crops]]
        large = [np.asarray(i, np.uint8) for i in images if i is not None]
        large = [image for image in large if min(image.shape[:2]) >= CROP_PX]
        middles = [(image.shape[1] / 2, image.shape[0] / 2) for image in large]
        kinds["image crops"] = [
            crop(image, *middle) for image, middle in zip(large, middles, strict=True)
        ][:crops]
        kinds["whole images"] = large[:WHOLE]
    return kinds


def line_crops(count: int) -> list[Pixels]:
    """Crops around one defect each, from frames far apart."""
    line = Line(LINE_SEED)
    found: list[Pixels] = []
    index = 0
    while len(found) < count:
        boxes = line.truth(index).boxes
        if len(boxes):
            x1, y1, x2, y2 = boxes[len(found) % len(boxes)].tolist()
            found.append(crop(line.frame(index), (x1 + x2) / 2, (y1 + y2) / 2))
        index += 7
    return found


def crop(pixels: Pixels, x: float, y: float) -> Pixels:
    """The crop around a point, moved to lie inside."""
    left, top = (
        int(min(max(0, at - CROP_PX / 2), side - CROP_PX))
        for at, side in ((x, pixels.shape[1]), (y, pixels.shape[0]))
    )
    return np.ascontiguousarray(pixels[top : top + CROP_PX, left : left + CROP_PX])


def print_tables(document: Mapping[str, Any]) -> None:
    """Prints the figures for a person."""
    for kind, found in document["pictures"].items():
        print(f"\n{kind}: {found['count']}")
        print(f"{'effort':28}{'bytes at equal PSNR':>20}{'ms p50':>9}{'p95':>9}")
        for name, effort in found["efforts"].items():
            ratio = effort["bytes_ratio"]
            print(
                f"{name:28}{'-' if ratio is None else f'{ratio:.3f}':>20}"
                f"{effort['encode_ms_p50']:9.2f}{effort['encode_ms_p95']:9.2f}"
            )
        print(f"\n{'level':28}{'bytes':>11}{'PSNR dB':>9}{'ms p50':>9}{'p95':>9}{'decode':>9}")
        for name, level in found["levels"].items():
            print(
                f"{name:28}{level['bytes']:11.0f}{level['psnr_db']:9.2f}"
                f"{level['encode_ms_p50']:9.2f}{level['encode_ms_p95']:9.2f}"
                f"{level['decode_ms_p50']:9.2f}"
            )
    print(f"\n{'beside a counting thread':28}{'its longest pause, ms':>24}{'duration, ms':>15}")
    for name, lock in document["lock"].items():
        print(f"{name:28}{lock['longest_pause_ms']:24.2f}{lock['duration_ms']:15.2f}")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, help="a folder of images")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--crops", type=int, default=16, help="pictures of each kind")
    parser.add_argument("--cloud", type=Path, help="a detector's bundle, to judge the images by")
    parser.add_argument("--images-max", type=int, default=32, help="that it is shown")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.cloud and not options.images:
        parser.error("--cloud judges images: give a folder of them (--images)")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    cv2.setNumThreads(1)
    kinds = pictures_of(options.images, options.crops)
    document: dict[str, Any] = {
        "pictures": {
            kind: {
                "count": len(pictures),
                "efforts": summarize(try_efforts(pictures, options.rounds)),
                "levels": try_levels(pictures, options.rounds),
            }
            for kind, pictures in kinds.items()
        },
        "lock": try_lock(Line(LINE_SEED).frame(0), 4 * options.rounds + 1),
    }
    print_tables(document)
    if options.cloud:
        document["seen"] = try_detector(options.images, options.images_max, options.cloud)
        print_seen(document["seen"])
    if options.json:
        options.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
