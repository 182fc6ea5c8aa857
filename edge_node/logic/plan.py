"""What to cut out of one frame and how to encode it, at given prices.

Pure. How much of the surroundings is shown is chosen by what the proposals are worth by themselves.
Those that lie near each other share a crop where one is cheaper than two; each crop takes the level
with the largest net value; the whole frame replaces the crops where its net value is larger. Net
value is the expected gain less what the bytes, the request and the encoding cost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_node.config import CropSettings
from edge_node.logic.cutting import Cut, Cutter, Integers
from edge_node.logic.rows import Floats, Mask, Positions
from foundation.escalations import Region
from foundation.frames import Boxes
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel

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


@dataclass(frozen=True, slots=True)
class Ask:
    """One crop that is worth its price.

    Attributes:
        region: The crop; the whole frame where that was cheaper.
        level: Index into the gain model's levels.
        members: Positions of the proposals that lie whole inside, most valuable first.
        value: Expected gain of the answer.
        size_bytes: Predicted bytes on the wire.
        image_bytes: Of these, the image's.
        heaviness: By what that was multiplied for the proposals that it shows; 1: nothing known.
        encode_s: Predicted seconds of encoding.
    """

    region: Region
    level: int
    members: Positions
    value: float
    size_bytes: int
    image_bytes: int
    heaviness: float
    encode_s: float

    def about(self, which: Mask, gains: Floats) -> Ask:
        """The same crop for some of its members (M,), given the gain (N,) of each proposal."""
        kept = self.members[which]
        share = gains[kept].sum() / max(gains[self.members].sum(), np.finfo(np.float32).tiny)
        return replace(self, members=kept, value=self.value * float(share))


class Planner:
    """Plans with one gain model.

    It learns how much more or less than predicted the crops of this camera take at each level, and
    which levels the escalator decodes; between those news it keeps nothing.
    """

    def __init__(self, model: GainModel, crop: CropSettings) -> None:
        self._model = model
        self._crop = crop
        self._cutter = Cutter(crop, model.sides_px(crop.side_min_px))
        self._usable: Mask = np.ones(len(model.levels), np.bool_)
        self._size_ratio = np.ones(len(model.levels), np.float32)
        self._sizes_heard = np.zeros(len(model.levels), np.int64)
        fixed, million = model.image_bytes([0, 1 << 20], 1.0).T
        self._fixed_bytes: Floats = (fixed + np.float32(FRAMING_BYTES + PROPOSAL_BYTES))[:, None]
        self._predicted_per_px: Floats = (million - fixed) / np.float32(1 << 20)
        self._bytes_per_px: Floats = self._predicted_per_px[:, None]

    def use(self, usable: Mask) -> None:
        """Takes which levels (L,) may be chosen from now on; at least one."""
        self._usable = usable
        self._cutter.use(usable)

    def size_ratio(self, level: int) -> float:
        """By what the bytes that the gain model says of this camera's crops are multiplied."""
        return float(self._size_ratio[level])

    def learn_size(self, level: int, size_ratio: float, times: float) -> None:
        """Hears what an image at a level came to.

        Args:
            level: its.
            size_ratio: what was known when its bytes were predicted.
            times: how many times as many it took.
        """
        ratio = np.float32(size_ratio * times)
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
        heaviness: Floats | float = 1.0,
    ) -> list[Ask]:
        """The asks of one frame with a positive net value, the most valuable per byte first.

        Args:
            boxes: (N, 4) of the proposals, source pixels.
            gains: (L, N) expected gain of an answer about each at each level.
            anchors: (N,) which may be the reason of a crop; the others may lie in one.
            frame_size: width and height of the frame.
            prices: what is given up.
            texture: looks at the pixels of a region.
            heaviness: (N,) of the bytes that are predicted of a crop, how many times as many one
                that shows the proposal takes.
        """
        if not anchors.any():
            return []
        heaviness = np.broadcast_to(np.float32(heaviness), len(boxes))
        asks: list[Ask] = []
        net = 0.0
        if self._model.crop_share > 0:
            cut, regions = self._worth_asking(boxes, gains, anchors, frame_size, prices, heaviness)
            if len(regions) == 0:
                return []
            if len(regions) > 1:
                regions = self._merge(regions, texture(Region(*regions[0].tolist())), cut)
            asks, net = self._price(regions, boxes, gains, prices, texture, cut, heaviness)
        if self._model.frame_share > 0:
            whole = np.array([[0, 0, *frame_size]], np.int64)
            frame, frame_net = self._price(whole, boxes, gains, prices, texture)
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
            values, area = self._together(gains), frame_size[0] * frame_size[1]
            rest = self._cutter.cuts[0].rest
            size, seconds, net = self._net(values, area, 1.0, 0, prices, rest)
            best = net.argmax(axis=0)
            share = np.full(count, 1 / max(count, 1), np.float32)
            return values[best, 0] * share, size[best, 0] * share, seconds[best, 0] * share
        values, pixels = self._model.crop_share * gains, self._cutter.pixels(boxes, frame_size)
        size, seconds, net = self._net(values, pixels, 1.0, 1, prices, ~self._usable)
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
        best: Floats = np.maximum.reduce(bids, initial=0, where=self._usable[:, None])
        return best

    def choose(
        self,
        region: Region,
        values: Floats,
        prices: Prices,
        texture: float,
        box: Boxes | None = None,
        heaviness: float = 1.0,
    ) -> Ask:
        """One crop that is cut already, at its best level; its net value may be negative.

        Args:
            region: what it covers.
            values: (L,) expected gain of the answer to it at each level.
            prices: what is given up.
            texture: of its pixels.
            box: (4,) what it shows, where a part of the crop around that will do; None: all of it
                is sent.
            heaviness: how many times the bytes that are predicted of such a crop it takes.
        """
        cuts = self._cutter.cuts if box is not None else self._cutter.cuts[:1]
        parts = [region if box is None else self._cutter.within(region, box, cut) for cut in cuts]
        pixels = np.zeros((len(values), 1), np.float32)
        for cut, part in zip(cuts, parts, strict=True):
            pixels[cut.levels] = part.width * part.height
        rest = pixels[:, 0] == 0
        worth = values[:, None]
        size, seconds, net = self._net(worth, pixels, texture, 1, prices, rest, heaviness)
        level = int(net[:, 0].argmax())
        return Ask(
            region=next(p for cut, p in zip(cuts, parts, strict=True) if cut.levels[level]),
            level=level,
            members=np.zeros(0, np.intp),
            value=float(values[level]),
            size_bytes=int(size[level, 0]),
            image_bytes=int(size[level, 0]) - FRAMING_BYTES - PROPOSAL_BYTES,
            heaviness=heaviness,
            encode_s=float(seconds[level, 0]),
        )

    def region_of(self, box: Boxes, frame_size: tuple[int, int]) -> Region:
        """The largest crop around one box (4,) by itself."""
        regions = self._cutter.regions(box[None], frame_size, self._cutter.cuts[0])
        return Region(*regions[0].tolist())

    def _worth_asking(
        self,
        boxes: Boxes,
        gains: Floats,
        anchors: Mask,
        frame_size: tuple[int, int],
        prices: Prices,
        heaviness: Floats,
    ) -> tuple[Cut, Integers]:
        """How to cut, and regions of anchors whose gain pays for the pixels in them.

        What is shared is left aside.
        """
        at = anchors.nonzero()[0]
        pixels = self._cutter.pixels(boxes[at], frame_size) * heaviness[at]
        net = np.float32(self._model.crop_share) * gains[:, at]
        net -= np.float32(prices.per_byte) * (self._bytes_per_px * pixels)
        cut = self._best_cut(net, pixels, prices)
        best = np.maximum.reduce(net[cut.levels])
        paying = (best > 0).nonzero()[0]
        order = paying[(-best[paying]).argsort(kind="stable")][: self._crop.per_frame_max]
        return cut, self._cutter.regions(boxes[at[order]], frame_size, cut)

    def _best_cut(self, net: Floats, pixels: Floats, prices: Prices) -> Cut:
        """The cut that is worth most if each anchor has a crop of its own.

        Args:
            net: (L, A) gain of each anchor less the bytes of its pixels.
            pixels: (L, A) of its crop.
            prices: what is given up.
        """
        if len(self._cutter.cuts) == 1:
            return self._cutter.cuts[0]
        sole = net - np.float32(prices.per_byte) * self._fixed_bytes - prices.per_request
        if prices.per_encode_s > 0:
            sole -= np.float32(prices.per_encode_s) * self._model.encode_s(pixels)
        if sole.shape[1] == 1:  # as in most frames, and much faster
            return self._cutter.owners[int(sole[self._cutter.order, 0].argmax())]
        most = self._crop.per_frame_max

        def worth(cut: Cut) -> tuple[float, float]:
            best = np.sort(np.maximum.reduce(sole[cut.levels]))[-most:]
            return float(np.maximum(best, 0).sum()), float(best[-1])

        return max(self._cutter.cuts, key=worth)

    def _together(self, gains: Floats) -> Floats:
        """At most what one frame about all proposals gains (L, 1), given each one's gain (L, N)."""
        return self._model.frame_gain(np.maximum(gains, 0).sum(axis=1, keepdims=True))

    def _pixel_bytes(self, boxes: Boxes, frame_size: tuple[int, int]) -> Floats:
        """Bytes (L, N) of the pixels of a crop around each box, whose sides are enough for that."""
        each: Floats = self._bytes_per_px * self._cutter.pixels(boxes, frame_size)
        return each

    def _merge(self, regions: Integers, texture: float, cut: Cut) -> Integers:
        level = int(cut.levels.argmax())
        fixed, each = self._model.image_bytes([0, 1 << 20], texture)[level].tolist()
        free_px = (FRAMING_BYTES + fixed) / max((each - fixed) / (1 << 20), 1e-6)
        return self._cutter.merge(regions, free_px)

    def _price(
        self,
        regions: Integers,
        boxes: Boxes,
        gains: Floats,
        prices: Prices,
        texture: Texture,
        cut: Cut | None = None,
        heaviness: Floats | float = 1.0,
    ) -> tuple[list[Ask], float]:
        """Each region at its best level of a cut, where that has a net value; and their sum.

        Without a cut the region is the whole frame, whose bytes say nothing of a track.
        """
        pixels = (regions[:, 2:] - regions[:, :2]).prod(axis=1)
        places = [Region(*region) for region in regions.tolist()]
        after = boxes[None, :, :2] >= regions[:, None, :2]
        inside = np.asarray((after & (boxes[None, :, 2:] <= regions[:, None, 2:])).all(axis=2))
        values = gains @ inside.T.astype(np.float32)
        whole = cut is None
        values = self._model.frame_gain(values) if whole else self._model.crop_share * values
        heavier = np.ones(len(regions), np.float32)
        if not whole:
            heavier = np.where(inside, heaviness, 0).max(axis=1)
        textures = [texture(place) for place in places]
        # A whole frame is looked at wherever something is, so it carries no proposals.
        carried = np.zeros(1, np.intp) if whole else inside.sum(axis=1)
        rest = (cut or self._cutter.cuts[0]).rest
        size, seconds, net = self._net(values, pixels, textures, carried, prices, rest, heavier)
        asks, total = [], 0.0
        for column, level in enumerate(net.argmax(axis=0).tolist()):
            if net[level, column] <= 0:
                continue
            total_bytes = int(size[level, column])
            members = np.flatnonzero(inside[column])
            members = members[np.argsort(-gains[level, members], kind="stable")]
            total += float(net[level, column])
            asks.append(
                Ask(
                    region=places[column],
                    level=level,
                    members=members,
                    value=float(values[level, column]),
                    size_bytes=total_bytes,
                    image_bytes=total_bytes - FRAMING_BYTES - PROPOSAL_BYTES * int(carried[column]),
                    heaviness=float(heavier[column]),
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
        rest: Mask,
        heaviness: Floats | float = 1.0,
    ) -> tuple[Floats, Floats, Floats]:
        """Bytes on the wire, seconds of encoding and net value, each (L, R), of R regions.

        Net value is least at levels (L,) that are not to be chosen.
        """
        size = self._model.image_bytes(pixels, textures) * self._size_ratio[:, None] * heaviness
        size = size + np.float32(FRAMING_BYTES)
        size = size + np.float32(PROPOSAL_BYTES) * np.asarray(proposals, np.float32)
        seconds = self._model.encode_s(pixels)
        net: Floats = values - np.float32(prices.per_byte) * size - np.float32(prices.per_request)
        net -= np.float32(prices.per_encode_s) * seconds
        net[rest] = -np.inf
        return size, seconds, net
