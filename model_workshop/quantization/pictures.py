"""The pictures that a quantization is calibrated with and compared on, checked before use.

Every fourth one is held out: ranges come from the others, and variants are compared on it. All go
into the model through `foundation.detector`, so calibration sees exactly the pixels of inference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError, RejectedError
from foundation.frames import Detections
from model_workshop.datasets import content_digest, read_picture
from model_workshop.quantization.agreement import agreement
from model_workshop.quantization.static import Tensor

IMAGES_MIN = 16
IMAGES_MAX = 128
_HELD_OUT_EVERY = 4
_SEEN_SHARE_MIN = 0.1
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_REMEDY = (
    f"Give {2 * IMAGES_MIN} or more different images as the model will see them in service, with "
    "the things that it was trained to find"
)


@dataclass(frozen=True)
class CalibrationPictures:
    """Pictures, and what the float model finds in them.

    Attributes:
        directory: where they lie.
        paths: image files, no two of the same content.
        found: detections of the float model in each.
        seen: (N,) whether it finds something that it would report.
    """

    directory: Path
    paths: tuple[Path, ...]
    found: tuple[Detections, ...]
    seen: tuple[bool, ...]

    @property
    def digest(self) -> str:
        """Names the contents; see `content_digest`."""
        return content_digest(self.paths, self.directory)

    @property
    def held_out(self) -> list[int]:
        """Indices of the pictures that variants are compared on."""
        return list(range(0, len(self.paths), _HELD_OUT_EVERY))

    @property
    def calibrating(self) -> list[int]:
        """Indices of the pictures that ranges come from."""
        return [i for i in range(len(self.paths)) if i % _HELD_OUT_EVERY]

    def probes(self, count: int) -> list[int]:
        """Indices of up to `count` calibrating pictures in which the float model finds something.

        Evenly spread; arbitrary ones where it finds something only in those held out.
        """
        showing = [i for i in self.calibrating if self.seen[i]] or self.calibrating
        return [showing[i] for i in _spread(len(showing), count)]

    def agreement_of(self, bundle: Bundle, chosen: Sequence[int]) -> float:
        """How far a version of the float model agrees with it about some of the pictures."""
        detector = Detector.open(bundle)
        found = []
        for index in chosen:
            try:
                found.append(detector.detect(read_picture(self.paths[index])))
            except RejectedError:
                # Numbers that are not finite agree with nothing.
                found.append(Detections.empty())
        return agreement([self.found[index] for index in chosen], found)


class ModelInputs:
    """Pictures as a model takes them, rendered anew each time they are gone through."""

    def __init__(self, detector: Detector, paths: Sequence[Path]) -> None:
        self._detector = detector
        self._paths = paths

    def __iter__(self) -> Iterator[Tensor]:
        """Yields the batch of one for every picture."""
        for path in self._paths:
            yield self._detector.load([read_picture(path)]).input.copy()


def read_calibration_pictures(bundle: Bundle, directory: Path) -> CalibrationPictures:
    """Reads and checks the calibration pictures of a directory, at most 128, evenly spread.

    Args:
        bundle: the float model, which says whether there is anything to see in them.
        directory: image files lie directly in it.

    Raises:
        ConfigError: there are too few different ones, one cannot be read, or the float model finds
            nothing in them: noise and blank frames give ranges that no real image has.
        IntegrityError: the float model fails on one.
    """
    paths = _different(picture_files(directory))
    if len(paths) < IMAGES_MIN:
        raise ConfigError(
            f"{directory} holds {_counted(len(paths))}, too few to calibrate with "
            f"(at least {IMAGES_MIN}; copies do not count)",
            remedy=_REMEDY,
        )
    detector = Detector.open(bundle)
    blank, found = 0, []
    for path in paths:
        pixels = read_picture(path)
        blank += bool(np.ptp(pixels.reshape(-1, 3), axis=0).max() == 0)
        try:
            found.append(detector.detect(pixels))
        except RejectedError as error:
            raise IntegrityError(
                f"The float model fails on {path}: {error.message}",
                remedy="Find out why in float; INT8 would only hide it",
            ) from error
    seen = tuple(_reports_something(bundle, detections) for detections in found)
    if sum(seen) < _SEEN_SHARE_MIN * len(seen):
        empty = f", and {blank} are of one color" if blank else ""
        raise ConfigError(
            f"The float model finds something in {sum(seen)} of {len(seen)} images of {directory}"
            f"{empty}: ranges from such images (noise, blank or foreign ones) fit no others",
            remedy=_REMEDY,
        )
    return CalibrationPictures(directory, tuple(paths), tuple(found), seen)


def picture_files(directory: Path) -> list[Path]:
    """The image files directly in a directory that a quantization uses: at most 128, by name."""
    every = sorted(p for p in directory.glob("*") if p.suffix.lower() in _SUFFIXES)
    return [every[i] for i in _spread(len(every), IMAGES_MAX)]


def _counted(images: int) -> str:
    return {0: "no images", 1: "1 image"}.get(images, f"{images} images")


def _different(paths: Sequence[Path]) -> list[Path]:
    """The files without copies."""
    by_content: dict[bytes, Path] = {}
    for path in paths:
        try:
            by_content.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error}", remedy="Restore it") from error
    return list(by_content.values())


def _reports_something(bundle: Bundle, detections: Detections) -> bool:
    scores = bundle.calibration.apply(detections, bundle.labels)
    thresholds = [bundle.thresholds.of(bundle.labels[i]).report for i in detections.class_ids]
    return bool((scores >= np.array(thresholds, np.float32)).any())


def _spread(available: int, wanted: int) -> list[int]:
    """Up to `wanted` indices, evenly spread."""
    chosen = np.linspace(0, available - 1, min(wanted, available))
    return [int(index) for index in chosen.round()]
