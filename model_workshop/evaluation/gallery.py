"""The pictures in which a bundle is most wrong, with every box drawn, as data for the page.

Pictures travel inside the page, each once however often it is shown: a place in it is a view of
the same picture. Boxes are in the picture's own pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import encode_image
from model_workshop.evaluation.measure import Grounds, Measured
from model_workshop.evaluation.samples import Judgement
from model_workshop.evaluation.truth import Array

WORST_MAX = 6
_PLACES_MAX = 6
_SIDE_MAX_PX = 1280
_QUALITY = 70
_PLACE_SIDE_MIN_PX = 64
_PLACE_SIDES = 3.0
_SMALL_SHARE = 0.12
"""An error less than this part of the picture's longer side is shown enlarged as well."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A box on a picture: `truth` (found), `hit`, `miss` or `alarm`."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True, slots=True)
class Place:
    """A square part of a picture around an error."""

    x: float
    y: float
    side: float
    words: str

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        return 0 <= x - self.x <= self.side and 0 <= y - self.y <= self.side


@dataclass(frozen=True, slots=True)
class Card:
    """One picture with what a bundle made of it."""

    image_id: int
    file: str
    width: int
    height: int
    found: int
    missed: int
    alarms: int
    failed: bool
    outlines: tuple[Outline, ...]
    places: tuple[Place, ...]


def worst_cards(measured: Measured, grounds: Grounds, *, most: int = WORST_MAX) -> list[Card]:
    """The pictures with most misses and false alarms at the report threshold, worst first."""
    truth, judgement = grounds.truth, measured.judgement
    found = judgement.found(truth)
    pictures = len(grounds.split.pictures)
    missed = np.bincount(truth.images[truth.objects & ~found], minlength=pictures)
    alarms = np.bincount(judgement.images[judgement.false_alarms], minlength=pictures)
    order = np.argsort(-(missed + alarms), kind="stable")[:most]
    return [_card(int(i), measured, grounds) for i in order if missed[i] + alarms[i]]


def _card(image: int, measured: Measured, grounds: Grounds) -> Card:
    truth, judgement, labels = grounds.truth, measured.judgement, grounds.split.labels
    picture = grounds.split.pictures[image]
    found = judgement.found(truth)
    outlines = []
    for index in np.flatnonzero((truth.images == image) & truth.objects):
        label = labels[truth.class_ids[index]]
        kind, words = ("truth", label) if found[index] else ("miss", f"missed: {label}")
        outlines.append(Outline(kind, *_rounded(truth.boxes[index]), words))
    boxes = measured.found.detections[image].boxes
    first = int(np.searchsorted(judgement.images, image))
    for position in _shown(judgement, image):
        alarm = bool(judgement.false_alarms[position])
        x1, y1, x2, y2 = boxes[position - first].tolist()
        name = (
            f"{labels[judgement.class_ids[position]]} {100 * judgement.calibrated[position]:.0f} %"
        )
        outlines.append(
            Outline(
                "alarm" if alarm else "hit",
                *_rounded(np.array([x1, y1, x2 - x1, y2 - y1])),
                f"false alarm: {name}" if alarm else name,
            )
        )
    return Card(
        picture.image_id,
        picture.path.name,
        picture.width,
        picture.height,
        sum(one.kind == "truth" for one in outlines),
        sum(one.kind == "miss" for one in outlines),
        sum(one.kind == "alarm" for one in outlines),
        picture.image_id in measured.figures.failed_images,
        tuple(outlines),
        _places(outlines, picture.width, picture.height),
    )


def _shown(judgement: Judgement, image: int) -> list[int]:
    """Reported detections of a picture, those that count, best last so that they lie on top."""
    reported = judgement.reported & (judgement.images == image)
    chosen = np.flatnonzero(reported & ((judgement.matched >= 0) | judgement.false_alarms))
    best_last = np.argsort(judgement.calibrated[chosen], kind="stable")
    return [int(index) for index in chosen[best_last]]


def _places(outlines: Sequence[Outline], width: int, height: int) -> tuple[Place, ...]:
    """Views of small errors, false alarms with the highest scores and misses in turn."""
    alarms = [one for one in reversed(outlines) if one.kind == "alarm"]
    misses = [one for one in outlines if one.kind == "miss"]
    mixed = [one for pair in zip(misses, alarms, strict=False) for one in pair]
    mixed += misses[len(alarms) :] + alarms[len(misses) :]
    places: list[Place] = []
    for one in mixed:
        longer = max(one.width, one.height)
        middle = (one.x + one.width / 2, one.y + one.height / 2)
        small = longer < _SMALL_SHARE * max(width, height)
        if not small or any(place.holds(*middle) for place in places):
            continue
        side = min(max(_PLACE_SIDE_MIN_PX, _PLACE_SIDES * longer), width, height)
        x = min(max(0.0, middle[0] - side / 2), width - side)
        y = min(max(0.0, middle[1] - side / 2), height - side)
        places.append(Place(round(x, 1), round(y, 1), round(side, 1), one.words))
    return tuple(places[:_PLACES_MAX])


def _rounded(box: Array) -> tuple[float, float, float, float]:
    x, y, width, height = box.round(1).tolist()
    return x, y, width, height


def picture_uri(pixels: Pixels) -> str:
    """A picture (height, width, 3) as a WebP data URI, no side longer than the page shows."""
    scale = _SIDE_MAX_PX / max(pixels.shape[:2])
    if scale < 1:
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = encode_image(pixels, Encoding.WEBP, _QUALITY)
    return "data:image/webp;base64," + base64.b64encode(data).decode()
