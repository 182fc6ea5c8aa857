"""What a detector still sees in images that were compressed, by how hard the encoder tried.

PSNR weighs every pixel alike, a detector does not, and what an encoder does with its bytes can
please one and not the other. So the detector judges itself: what it sees in the image after
shrinking, encoding and decoding is set against what it sees in the untouched image.

An effort's agreement over its bytes is a curve; two efforts are compared at equal bytes, in the
range that both curves span, for at one quality they differ in both. All efforts are tried on an
image before the next image's turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from benchmarks.encoders_efforts import AVIF_SEEN, Encoder, avif_efforts, avif_shipped
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.escalations import Encoding
from foundation.frames import Detections, Pixels
from foundation.images import decode_image
from model_workshop.datasets import read_picture
from model_workshop.quantization.agreement import agreement

SCALE = 0.7
QUALITIES = (35, 60)


def try_detector(folder: Path, images_max: int, path: Path) -> dict[str, Any]:
    """What a bundle still sees in images of a folder, spread over it, by effort of AVIF."""
    paths = sorted(folder.iterdir())
    chosen = np.linspace(0, len(paths) - 1, min(images_max, len(paths))).round().astype(int)
    images = (read_picture(paths[index]) for index in chosen.tolist())
    untouched, found = see(images, avif_efforts(AVIF_SEEN), Detector.open(Bundle.open(path)))
    return summarize_seen(found, untouched, avif_shipped())


class Seeing(Protocol):
    """What finds things in an image: a detector."""

    def detect(self, pixels: Pixels) -> Detections:
        """Detections in the image's own pixels."""
        ...


@dataclass
class Seen:
    """What one effort came to at one quality, one entry an image.

    Attributes:
        size_bytes: of the encoded image.
        encode_ms: processor time of the encoding thread.
        detections: in the decoded image, boxes in pixels of the untouched one.
    """

    size_bytes: list[int] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    detections: list[Detections] = field(default_factory=list)

    def point(self, untouched: Sequence[Detections], chosen: Sequence[int]) -> tuple[float, float]:
        """Log of the mean bytes, and agreement, over some of the images."""
        return (
            float(np.log(statistics.fmean(self.size_bytes[i] for i in chosen))),
            agreement([untouched[i] for i in chosen], [self.detections[i] for i in chosen]),
        )


Curve = Mapping[int, Seen]


def see(
    images: Iterable[Pixels], ways: Mapping[str, Encoder], detector: Seeing
) -> tuple[list[Detections], dict[str, dict[int, Seen]]]:
    """What is seen in every image, untouched and by every way to write AVIF at every quality."""
    untouched: list[Detections] = []
    found = {name: {quality: Seen() for quality in QUALITIES} for name in ways}
    for pixels in images:
        height, width = pixels.shape[:2]
        untouched.append(detector.detect(pixels))
        size = round(width * SCALE), round(height * SCALE)
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        enlarge = np.array([width / size[0], height / size[1]] * 2, np.float32)
        for quality in QUALITIES:
            for name, encode in ways.items():
                begun_s = time.thread_time()
                data = encode(small, quality)
                seen = found[name][quality]
                seen.encode_ms.append(1e3 * (time.thread_time() - begun_s))
                seen.size_bytes.append(len(data))
                decoded = decode_image(data, Encoding.AVIF, side_min_px=1, pixels_max=small.size)
                there = detector.detect(decoded)
                seen.detections.append(
                    Detections(there.boxes * enlarge, there.scores, there.class_ids)
                )
    return untouched, found


def at_equal_bytes(
    way: Sequence[tuple[float, float]], base: Sequence[tuple[float, float]]
) -> float | None:
    """How much more a way agrees than another, the mean over the bytes that both can have.

    Args:
        way: points of log bytes and agreement, joined by straight lines.
        base: those of the other.

    Returns:
        None where they share less than a tenth of a factor of e in bytes.
    """
    first, second = (np.array(sorted(curve)).T for curve in (way, base))
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    if high - low < 0.1:
        return None
    at = np.linspace(low, high, 100)
    return float((np.interp(at, *first) - np.interp(at, *second)).mean())


def advantage(
    way: Curve, base: Curve, untouched: Sequence[Detections]
) -> tuple[float, float] | None:
    """How much more a way agrees than another at equal bytes, and the standard error of that.

    The error is the jackknife's, over images; both ways were tried on the same. None where there
    are fewer than two, or the ways are too far apart in bytes.
    """

    def over(chosen: Sequence[int]) -> float | None:
        first, second = (
            [seen.point(untouched, chosen) for seen in curve.values()] for curve in (way, base)
        )
        return at_equal_bytes(first, second)

    everything = range(len(untouched))
    if len(everything) < 2:
        return None
    value = over(everything)
    without = [over([i for i in everything if i != left]) for left in everything]
    known = [one for one in without if one is not None]
    if value is None or len(known) < len(without):
        return None
    return value, float(np.sqrt((len(known) - 1) * np.var(known)))


def summarize_seen(
    found: Mapping[str, Curve], untouched: Sequence[Detections], base: str
) -> dict[str, Any]:
    """For the table and the file."""
    everything = range(len(untouched))
    efforts = {}
    for name, curve in found.items():
        beside = None if name == base else advantage(curve, found[base], untouched)
        efforts[name] = {
            "advantage_at_equal_bytes": beside and beside[0],
            "standard_error": beside and beside[1],
            "qualities": {
                quality: {
                    "bytes": statistics.fmean(seen.size_bytes),
                    "agreement": seen.point(untouched, everything)[1],
                    "encode_ms_p50": statistics.median(seen.encode_ms),
                    "encode_ms_p95": float(np.percentile(seen.encode_ms, 95)),
                }
                for quality, seen in curve.items()
            },
        }
    return {"images": len(untouched), "scale": SCALE, "base": base, "efforts": efforts}


def print_seen(document: Mapping[str, Any]) -> None:
    """Prints the figures for a person."""
    print(f"\nwhat a detector still sees, {document['images']} images at {document['scale']:g}")
    print(
        f"{'effort':28}{'at equal bytes':>18}{'quality':>9}{'bytes':>9}{'agrees':>9}{'ms p50':>9}"
    )
    for name, effort in document["efforts"].items():
        gained, error = effort["advantage_at_equal_bytes"], effort["standard_error"]
        beside = "-" if gained is None else f"{gained:+.3f} ± {error:.3f}"
        for quality, one in effort["qualities"].items():
            print(
                f"{name:28}{'base' if name == document['base'] else beside:>18}{quality:9}"
                f"{one['bytes']:9.0f}{one['agreement']:9.3f}{one['encode_ms_p50']:9.1f}"
            )
