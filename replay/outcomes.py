"""What every choice of questions about a frame comes to: its bytes, and its result.

Everything is reckoned once and remembered in memory; what the models have to say comes from
`Answers`, which remembers it on disk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from edge_node.config import CropSettings
from edge_node.logic.fuse_still import StillView, fuse_still
from foundation.errors import ConfigError
from foundation.escalations import Region
from foundation.frames import Detections
from foundation.geometry import crop_region
from foundation.manifest import Thresholds
from model_workshop.datasets import check_unseen
from model_workshop.evaluation.coco import check_labels
from model_workshop.evaluation.truth import Truth, read_truth
from replay.answers import Answers, Ask, whole_ask
from replay.material import Material
from replay.utility import Judge, Matched

PROPOSAL_FLOOR = 0.03
"""Calibrated score from which a detection may be the reason of a crop."""
BASE_LEVEL = "jpeg85"
"""All frames at this level are the bytes that shares are of."""
Asks = tuple[Ask, ...]
_Item = TypeVar("_Item")


class Outcomes:
    """The frames of one material and what asking about them comes to."""

    def __init__(self, answers: Answers, material: Material, crop: CropSettings) -> None:
        """Runs the edge on every frame; the cloud where the material has no labels.

        Raises:
            ConfigError: labels are not those of the bundles, a bundle was trained on the material,
                or nothing is in it.
        """
        if material.split is not None:
            for own in (answers.edge_bundle, answers.cloud_bundle):
                check_labels(own, material.split)
                check_unseen(own.info, material.split)
        self.answers, self.material, self.crop = answers, material, crop
        self.frames = material.frames
        self.edge = [answers.edge(frame) for frame in watched(self.frames, f"edge {material.name}")]
        bundle = answers.edge_bundle
        self._asked_from = _per_label(bundle.thresholds, bundle.labels, "escalate_low")
        numbers = {group: number for number, group in enumerate(material.groups)}
        self.groups = np.array([numbers[frame.group] for frame in self.frames], np.intp)
        self.truth = self._reference()
        report = _per_label(bundle.thresholds, bundle.labels, "report")
        self.judge = Judge(self.truth, self.groups.tolist(), len(bundle.labels), report)
        if not self.judge.objects.any():
            raise ConfigError(
                f"{material.name} shows no object by which results could be judged",
                remedy="Replay material with objects in it",
            )
        self._bytes: dict[tuple[int, Ask], int] = {}
        self._matched: dict[tuple[int, Asks], Matched] = {}
        self._crops: dict[tuple[int, int], tuple[Region, ...]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def proposals(self, position: int) -> Detections:
        """What may be the reason of a crop in a frame."""
        found = self.edge[position]
        return found.take(found.scores >= PROPOSAL_FLOOR)

    def doubtful(self, position: int) -> Detections:
        """What a frame shows from where the edge's bundle begins to ask: it travels with a crop."""
        found = self.edge[position]
        return found.take(found.scores >= self._asked_from[found.class_ids])

    def crops(self, position: int, side_px: int | None = None) -> tuple[Region, ...]:
        """Regions around all proposals of a frame; those that overlap are joined.

        Args:
            position: of the frame.
            side_px: their shortest side; None: what the settings say.
        """
        key = (position, self.crop.side_min_px if side_px is None else side_px)
        if key not in self._crops:
            frame, found = self.frames[position], self.proposals(position)
            regions = [
                crop_region(
                    box,
                    margin=self.crop.margin,
                    side_min_px=key[1],
                    frame_width=frame.width,
                    frame_height=frame.height,
                )
                for box in found.boxes
            ]
            self._crops[key] = tuple(joined(regions))
        return self._crops[key]

    def bytes_of(self, position: int, asks: Asks) -> int:
        """Bytes that leave the site."""
        total = 0
        for ask in asks:
            key = (position, ask)
            if key not in self._bytes:
                frame = self.frames[position]
                self._bytes[key] = self.answers.wire_bytes(frame, ask, self.doubtful(position))
            total += self._bytes[key]
        return total

    def matched(self, position: int, asks: Asks) -> Matched:
        """The fused result, matched with the frame's objects."""
        key = (position, asks)
        if key not in self._matched:
            frame = self.frames[position]
            views = [StillView(ask.place, self.answers.answer(frame, ask)) for ask in asks]
            result = fuse_still(self.edge[position], views, frame.size)
            self._matched[key] = self.judge.match(position, result)
        return self._matched[key]

    def reported(self, position: int) -> Detections:
        """What the cloud reports of a frame as it was recorded."""
        bundle = self.answers.cloud_bundle
        report = _per_label(bundle.thresholds, bundle.labels, "report")
        found = self.answers.whole(self.frames[position])
        return found.take(found.scores >= report[found.class_ids])

    def matched_by_cloud(self, position: int) -> Matched:
        """What the cloud sees in the frame as it was recorded."""
        return self.judge.match(position, self.answers.whole(self.frames[position]))

    def base_bytes(self, positions: Iterable[int] | None = None) -> int:
        """Bytes of all frames (or of these) at the base level."""
        chosen = range(len(self)) if positions is None else positions
        return sum(self.bytes_of(i, (whole_ask(self.frames[i], BASE_LEVEL),)) for i in chosen)

    def _reference(self) -> Truth:
        """The labels; without them, what the cloud reports of the frames as recorded."""
        if self.material.split is not None:
            return read_truth(self.material.split)
        positions = range(len(self))
        seen = [self.reported(i) for i in watched(positions, f"cloud {self.material.name}")]
        boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in seen)])
        boxes[:, 2:] -= boxes[:, :2]
        areas = boxes[:, 2] * boxes[:, 3]
        return Truth(
            np.repeat(np.arange(len(seen)), [len(one) for one in seen]),
            np.concatenate([np.zeros(0, np.intp), *(one.class_ids for one in seen)]).astype(
                np.intp
            ),
            boxes,
            areas,
            np.zeros(len(boxes), np.bool_),
            np.sqrt(areas),
        )


def joined(regions: Sequence[Region]) -> list[Region]:
    """Regions that share no pixel: those that do are replaced by what spans them."""
    boxes = np.array([(r.x1, r.y1, r.x2, r.y2) for r in regions], np.int64).reshape(-1, 4)
    while len(boxes) > 1:
        low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.triu((high > low).all(axis=2), k=1)
        if not shared.any():
            break
        first, second = np.unravel_index(int(shared.argmax()), shared.shape)
        span = np.concatenate(
            [
                np.minimum(boxes[first, :2], boxes[second, :2]),
                np.maximum(boxes[first, 2:], boxes[second, 2:]),
            ]
        )
        boxes = np.concatenate([np.delete(boxes, (first, second), axis=0), span[None]])
    return [Region(*row) for row in boxes.tolist()]


def watched(items: Sequence[_Item], what: str) -> Iterator[_Item]:
    """Hands items through and says on standard error how far it is."""
    show = sys.stderr.isatty()
    for number, item in enumerate(items, start=1):
        yield item
        if show or number == len(items):
            end = "\r" if show and number < len(items) else "\n"
            print(f"{what}: {number}/{len(items)}", end=end, file=sys.stderr, flush=True)


def _per_label(
    thresholds: Thresholds, labels: Sequence[str], name: Literal["report", "escalate_low"]
) -> npt.NDArray[np.float32]:
    return np.array([getattr(thresholds.of(label), name) for label in labels], np.float32)
