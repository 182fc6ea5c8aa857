"""What to cut out of one frame and how to encode it, at given prices.

Pure. Proposals that lie near each other share a crop where one is cheaper than two; each crop takes
the level with the largest net value; the whole frame replaces the crops where its net value is
larger. Net value is the expected gain less what the bytes, the request and the encoding cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_node.config import CropSettings
from edge_node.logic.rows import Floats, Mask, Positions
from foundation.escalations import Region
from foundation.frames import Boxes
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel

Integers = npt.NDArray[np.int64]
AnyFloats = npt.NDArray[np.floating[Any]]
Texture = Callable[[Region], float]
"""Looks at the pixels of a region: `foundation.gains.texture_of`."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What is given up elsewhere, in units of gain.

    Attributes:
        per_byte: for a byte of the uplink.
        per_request: for one escalation.
        per_encode_s: for a second of the encoder's thread.
    """

    per_byte: float
    per_request: float = 0.0
    per_encode_s: float = 0.0


FREE = Prices(0.0)
_SIZE_MEMORY = np.float32(0.1)
_SIZE_RATIOS = (0.1, 10.0)
_JOIN_SIDES = 1.25
"""How much longer than the larger of its parts a join may be."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One crop that is worth its price.

    Attributes:
        region: The crop; the whole frame where that was cheaper.
        level: Index into the gain model's levels.
        members: Positions of the proposals that lie whole inside, most valuable first.
        value: Expected gain of the answer.
        size_bytes: Predicted bytes on the wire.
        encode_s: Predicted seconds of encoding.
    """

    region: Region
    level: int
    members: Positions
    value: float
    size_bytes: int
    encode_s: float

    def about(self, which: Mask, gains: Floats) -> Ask:
        """The same crop for some of its members (M,), given the gain (N,) of each proposal."""
        kept = self.members[which]
        share = gains[kept].sum() / max(gains[self.members].sum(), np.finfo(np.float32).tiny)
        return replace(self, members=kept, value=self.value * float(share))


class Planner:
    """Plans with one gain model and one way of cutting.

    It learns how much more or less than predicted the crops of this camera take at each level, and
    which levels the escalator decodes; between those news it keeps nothing.
    """

    def __init__(self, model: GainModel, crop: CropSettings) -> None:
        self._model = model
        self._crop = crop
        self._unusable: Mask | None = None
        self._size_ratio = np.ones(len(model.levels), np.float32)
        self._sizes_heard = np.zeros(len(model.levels), np.int64)
        fixed, million = model.image_bytes([0, 1 << 20], 1.0).T
        self._predicted_per_px: Floats = (million - fixed) / np.float32(1 << 20)
        self._bytes_per_px: Floats = self._predicted_per_px[:, None]

    def use(self, usable: Mask) -> None:
        """Takes which levels (L,) may be chosen from now on; at least one."""
        self._unusable = ~usable

    def learn_size(self, level: int, predicted: float, size_bytes: float) -> None:
        """Hears what a crop at a level came to on the wire, and what had been predicted."""
        ratio = self._size_ratio[level] * np.float32(size_bytes / max(predicted, 1.0))
        self._sizes_heard[level] += 1
        # The mean of the first few, so that a forecast is of use after the first crops.
        memory = np.maximum(_SIZE_MEMORY, np.float32(1 / self._sizes_heard[level]))
        step = memory * (ratio - self._size_ratio[level])
        self._size_ratio[level] = np.clip(self._size_ratio[level] + step, *_SIZE_RATIOS)
        self._bytes_per_px = (self._predicted_per_px * self._size_ratio)[:, None]

    def plan(
        self,
        boxes: Boxes,
        gains: Floats,
        anchors: Mask,
        frame_size: tuple[int, int],
        prices: Prices,
        texture: Texture,
    ) -> list[Ask]:
        """The asks of one frame with a positive net value, the most valuable per byte first.

        Args:
            boxes: (N, 4) of the proposals, source pixels.
            gains: (L, N) expected gain of an answer about each at each level.
            anchors: (N,) which may be the reason of a crop; the others may lie in one.
            frame_size: width and height of the frame.
            prices: what is given up.
            texture: looks at the pixels of a region.
        """
        if not anchors.any():
            return []
        asks: list[Ask] = []
        net = 0.0
        if self._model.crop_share > 0:
            regions = self._worth_asking(boxes, gains, anchors, frame_size, prices)
            if len(regions) == 0:
                return []
            regions = self._merge(regions, texture(Region(*regions[0].tolist())))
            asks, net = self._price(regions, boxes, gains, prices, texture)
        if self._model.frame_share > 0:
            whole = np.array([[0, 0, *frame_size]], np.int64)
            frame, frame_net = self._price(whole, boxes, gains, prices, texture, whole=True)
            if frame_net > net:
                asks = frame
        return sorted(asks, key=lambda ask: -ask.value / ask.size_bytes)

    def quote(
        self, boxes: Boxes, gains: Floats, frame_size: tuple[int, int], prices: Prices
    ) -> tuple[Floats, Floats, Floats]:
        """What asking about each proposal by itself would gain and cost at its best level.

        Where crops are never worth it, an equal share of a whole frame about all of them.

        Returns:
            Value, bytes and seconds of encoding, each (N,).
        """
        count = len(boxes)
        if self._model.crop_share == 0:
            values, pixels = self._together(gains), frame_size[0] * frame_size[1]
            size, seconds, net = self._net(values, pixels, 1.0, 0, prices)
            best = net.argmax(axis=0)
            share = np.full(count, 1 / max(count, 1), np.float32)
            return values[best, 0] * share, size[best, 0] * share, seconds[best, 0] * share
        regions = self._regions(boxes, frame_size)
        each = (regions[:, 2:] - regions[:, :2]).prod(axis=1)
        values = self._model.crop_share * gains
        size, seconds, net = self._net(values, each, 1.0, 1, prices)
        at = (net.argmax(axis=0), np.arange(count))
        return values[at], size[at], seconds[at]

    def bids(self, boxes: Boxes, gains: Floats, frame_size: tuple[int, int]) -> Floats:
        """The price of a byte below which each proposal (N,) may be worth a crop.

        Args:
            boxes: (N, 4) of the proposals, source pixels.
            gains: (L, N) expected gain of an answer about each at each level.
            frame_size: width and height of the frame.
        """
        # What a crop may share with others is left aside, as in `plan`.
        bids = np.float32(self._model.crop_share) * gains / self._pixel_bytes(boxes, frame_size)
        if self._model.crop_share == 0:
            whole = np.array([[0, 0, *frame_size]], np.float32)
            bids[:] = self._together(gains) / self._pixel_bytes(whole, frame_size)
        if self._unusable is not None:
            bids[self._unusable] = 0
        best: Floats = np.maximum.reduce(bids)
        return best

    def choose(self, region: Region, values: Floats, prices: Prices, texture: float) -> Ask:
        """One crop that is cut already, at its best level; its net value may be negative.

        Args:
            region: what it covers.
            values: (L,) expected gain of the answer to it at each level.
            prices: what is given up.
            texture: of its pixels.
        """
        pixels = region.width * region.height
        values = values[:, None]
        size, seconds, net = self._net(values, pixels, texture, 1, prices)
        level = int(net[:, 0].argmax())
        return Ask(
            region=region,
            level=level,
            members=np.zeros(0, np.intp),
            value=float(values[level, 0]),
            size_bytes=int(size[level, 0]),
            encode_s=float(seconds[level, 0]),
        )

    def region_of(self, box: Boxes, frame_size: tuple[int, int]) -> Region:
        """The crop around one box (4,) by itself."""
        return Region(*self._regions(box[None], frame_size)[0].tolist())

    def _worth_asking(
        self,
        boxes: Boxes,
        gains: Floats,
        anchors: Mask,
        frame_size: tuple[int, int],
        prices: Prices,
    ) -> Integers:
        """Regions of anchors whose gain pays for the pixels in them, what is shared left aside."""
        at = anchors.nonzero()[0]
        net = np.float32(self._model.crop_share) * gains[:, at]
        net -= np.float32(prices.per_byte) * self._pixel_bytes(boxes[at], frame_size)
        if self._unusable is not None:
            net[self._unusable] = -np.inf
        best = np.maximum.reduce(net)
        paying = (best > 0).nonzero()[0]
        order = paying[(-best[paying]).argsort(kind="stable")][: self._crop.per_frame_max]
        return self._regions(boxes[at[order]], frame_size)

    def _together(self, gains: Floats) -> Floats:
        """At most what one frame about all proposals gains (L, 1), given each one's gain (L, N)."""
        return self._model.frame_gain(np.maximum(gains, 0).sum(axis=1, keepdims=True))

    def _pixel_bytes(self, boxes: Boxes, frame_size: tuple[int, int]) -> Floats:
        """Bytes (L, N) of the pixels of a crop around each box, whose sides are enough for that."""
        width, height = frame_size
        side = self._sides(boxes)
        pixels = np.minimum(side, width) * np.minimum(side, height)
        each: Floats = self._bytes_per_px * pixels
        return each

    def _sides(self, boxes: AnyFloats) -> AnyFloats:
        """Sides (N,) of the square crops around boxes, before the frame limits them."""
        longer = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        side: AnyFloats = np.maximum((self._crop.margin * longer).round(), self._crop.side_min_px)
        return side

    def _regions(self, boxes: Boxes, frame_size: tuple[int, int]) -> Integers:
        """Square regions (N, 4) around boxes, shifted into the frame: `crop_region`, in bulk."""
        corners = boxes.astype(np.float64)
        low, high = corners[:, :2], corners[:, 2:]
        size = np.array(frame_size, np.float64)
        sides = np.minimum(self._sides(corners)[:, None], size)
        start = ((low + high - sides) / 2).round()
        start = np.minimum(np.maximum(start, 0), size - sides)
        return np.concatenate([start, start + sides], axis=1).astype(np.int64)

    def _merge(self, regions: Integers, texture: float) -> Integers:
        """Joins regions while the join costs fewer pixels than another request would.

        A join much larger than its parts would be shrunk by the cloud, which then sees less.
        """
        if len(regions) == 1:
            return regions
        level = 0 if self._unusable is None else int((~self._unusable).argmax())
        fixed, each = self._model.image_bytes([0, 1 << 20], texture)[level].tolist()
        free_px = (FRAMING_BYTES + fixed) / max((each - fixed) / (1 << 20), 1e-6)
        while len(regions) > 1:
            low = np.minimum(regions[:, None, :2], regions[None, :, :2])
            high = np.maximum(regions[:, None, 2:], regions[None, :, 2:])
            joined = (high - low).prod(axis=2)
            own = (regions[:, 2:] - regions[:, :2]).prod(axis=1)
            extra = (joined - own[:, None] - own[None, :]).astype(np.float64)
            side = (regions[:, 2:] - regions[:, :2]).max(axis=1)
            larger = np.maximum(side[:, None], side[None, :])
            extra[(high - low).max(axis=2) > _JOIN_SIDES * larger] = np.inf
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

    def _price(
        self,
        regions: Integers,
        boxes: Boxes,
        gains: Floats,
        prices: Prices,
        texture: Texture,
        *,
        whole: bool = False,
    ) -> tuple[list[Ask], float]:
        """Each region at its best level where that has a positive net value; and their sum."""
        pixels = (regions[:, 2:] - regions[:, :2]).prod(axis=1)
        places = [Region(*region) for region in regions.tolist()]
        after = boxes[None, :, :2] >= regions[:, None, :2]
        inside = np.asarray((after & (boxes[None, :, 2:] <= regions[:, None, 2:])).all(axis=2))
        values = gains @ inside.T.astype(np.float32)
        values = self._model.frame_gain(values) if whole else self._model.crop_share * values
        textures = [texture(place) for place in places]
        # A whole frame is looked at wherever something is, so it carries no proposals.
        carried = 0 if whole else inside.sum(axis=1)
        size, seconds, net = self._net(values, pixels, textures, carried, prices)
        asks, total = [], 0.0
        for column, level in enumerate(net.argmax(axis=0).tolist()):
            if net[level, column] <= 0:
                continue
            members = np.flatnonzero(inside[column])
            members = members[np.argsort(-gains[level, members], kind="stable")]
            total += float(net[level, column])
            asks.append(
                Ask(
                    region=places[column],
                    level=level,
                    members=members,
                    value=float(values[level, column]),
                    size_bytes=int(size[level, column]),
                    encode_s=float(seconds[level, column]),
                )
            )
        return asks, total

    def _net(
        self,
        values: Floats,
        pixels: npt.ArrayLike,
        textures: npt.ArrayLike,
        proposals: npt.ArrayLike,
        prices: Prices,
    ) -> tuple[Floats, Floats, Floats]:
        """Bytes on the wire, seconds of encoding and net value, each (L, R), of R regions."""
        size = self._model.image_bytes(pixels, textures) * self._size_ratio[:, None]
        size = size + np.float32(FRAMING_BYTES)
        size = size + np.float32(PROPOSAL_BYTES) * np.asarray(proposals, np.float32)
        seconds = self._model.encode_s(pixels)
        net: Floats = values - np.float32(prices.per_byte) * size - np.float32(prices.per_request)
        net -= np.float32(prices.per_encode_s) * seconds
        if self._unusable is not None:
            net[self._unusable] = -np.inf
        return size, seconds, net
