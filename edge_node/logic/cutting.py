"""Where crops of one frame lie, and how much of the surroundings they show. Pure.

A level may have crops of its own shortest side: a small object may do with less of what is around
it, which saves most of the bytes, and the gain model tells what that costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_node.config import CropSettings
from edge_node.logic.rows import Floats, Mask, Positions
from foundation.escalations import Region
from foundation.frames import Boxes
from foundation.geometry import crop_within

Integers = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.floating[Any]]
_JOIN_SIDES = 1.25
"""How much longer than the larger of its parts a join may be."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Levels that can be chosen and whose crops have the same shortest side.

    Attributes:
        side_px: that side, source pixels.
        levels: (L,) which these are.
        rest: (L,) all others.
    """

    side_px: int
    levels: Mask
    rest: Mask


class Cutter:
    """Cuts in the ways of a gain model's levels.

    Attributes:
        cuts: The ways that can be chosen, the one that shows most first.
        order: (U,) the levels that can be chosen, in the order of their cuts.
        owners: (U,) whose they are.
    """

    cuts: tuple[Cut, ...]
    order: Positions
    owners: tuple[Cut, ...]

    def __init__(self, settings: CropSettings, sides_px: Floats) -> None:
        """Takes the shortest side (L,) of a crop at each level."""
        self._settings = settings
        self._sides_px = sides_px
        self.use(np.ones(len(sides_px), np.bool_))

    def use(self, usable: Mask) -> None:
        """Takes which levels (L,) may be chosen from now on; at least one."""
        sides = self._sides_px
        self.cuts = tuple(
            Cut(int(side), usable & (sides == side), ~usable | (sides != side))
            for side in np.unique(sides[usable])[::-1].tolist()
        )
        each = [cut.levels.nonzero()[0] for cut in self.cuts]
        self.order = np.concatenate(each)
        self.owners = tuple(
            cut for cut, own in zip(self.cuts, each, strict=True) for _ in range(own.size)
        )

    def pixels(self, boxes: Boxes, frame_size: tuple[int, int]) -> Floats:
        """Pixels (L, N) of a crop around each box."""
        side, (width, height) = self._sides(boxes, self._sides_px[:, None]), frame_size
        return np.asarray(np.minimum(side, width) * np.minimum(side, height), np.float32)

    def _sides(self, boxes: AnyFloats, side_min: AnyFloats | int) -> AnyFloats:
        """Sides of the square crops around boxes (N, 4), before the frame limits them.

        Of shape (N,), or (L, N) for a least side (L, 1) of each level.
        """
        longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        side: AnyFloats = np.maximum((self._settings.margin * longer).round(), side_min)
        return side

    def regions(self, boxes: Boxes, frame_size: tuple[int, int], cut: Cut) -> Integers:
        """Square regions (N, 4) around boxes, shifted into the frame: `crop_region`, in bulk."""
        corners = boxes.astype(np.float64)
        low, high = corners[:, :2], corners[:, 2:]
        size = np.array(frame_size, np.float64)
        sides = np.minimum(self._sides(corners, cut.side_px)[:, None], size)
        start = ((low + high - sides) / 2).round()
        start = np.minimum(np.maximum(start, 0), size - sides)
        return np.concatenate([start, start + sides], axis=1).astype(np.int64)

    def within(self, region: Region, box: Boxes, cut: Cut) -> Region:
        """The part of a crop around a box (4,) that a cut takes."""
        margin = self._settings.margin
        return crop_within(region, box[None], margin=margin, side_min_px=cut.side_px)

    def merge(self, regions: Integers, free_px: float) -> Integers:
        """Joins regions (R, 4) while the join costs fewer pixels than another request would.

        A join much larger than its parts, and than any crop need be, would be shrunk by the cloud,
        which then sees less.
        """
        while len(regions) > 1:
            low = np.minimum(regions[:, None, :2], regions[None, :, :2])
            high = np.maximum(regions[:, None, 2:], regions[None, :, 2:])
            joined = (high - low).prod(axis=2)
            own = (regions[:, 2:] - regions[:, :2]).prod(axis=1)
            extra = (joined - own[:, None] - own[None, :]).astype(np.float64)
            side = (regions[:, 2:] - regions[:, :2]).max(axis=1)
            larger = np.maximum(side[:, None], side[None, :])
            most = np.maximum(_JOIN_SIDES * larger, self._settings.side_min_px)
            extra[(high - low).max(axis=2) > most] = np.inf
            np.fill_diagonal(extra, np.inf)
            first, second = np.unravel_index(int(extra.argmin()), extra.shape)
            if extra[first, second] > free_px:
                break
            union = np.concatenate([low[first, second], high[first, second]])
            regions = np.delete(regions, (first, second), axis=0)
            inside = (regions[:, :2] >= union[:2]).all(axis=1)
            inside &= (regions[:, 2:] <= union[2:]).all(axis=1)
            regions = np.concatenate([regions[~inside], union[None]])
        return regions
