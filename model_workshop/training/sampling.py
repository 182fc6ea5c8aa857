"""Training samples: where windows are cut, and how they are varied.

Two ways of looking at a dataset. A `FrameSampler` sees whole frames as the edge model will: through
the letterbox of its bundle, rendered once and kept as raw bytes. A `CropSampler` sees native
pixels: windows around objects and around places without any, sent through the uplink's codec.
Everything random comes from the generator that is handed in, so a seed decides a run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from foundation.escalations import Encoding
from foundation.frames import Boxes, ClassIds, Pixels
from foundation.geometry import Letterbox
from foundation.images import decode_image, encode_image
from model_workshop.datasets import Picture

if TYPE_CHECKING:  # a teacher needs PyTorch, samples do not
    from model_workshop.training.teaching import Logits, Opinions

_QUIET_PLACES = 4
"""Windows of each picture that are centred on no object."""

_SIDE_MIN_PX = 0.75
"""A clipped box with a shorter side than this is no longer a fair thing to ask for."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One training image and what is to be learned from it.

    Attributes:
        pixels: (height, width, 3) uint8 BGR.
        boxes: (N, 4) float32 x1 y1 x2 y2 in its pixels.
        class_ids: (N,) int32.
        opinion: (classes, height / 4, width / 4) float32 logits of a teacher; None without one.
    """

    pixels: Pixels
    boxes: Boxes
    class_ids: ClassIds
    opinion: Logits | None = None


class Sampler(Protocol):
    """Draws training samples of one fixed size."""

    def draw(self, random: np.random.Generator) -> Sample:
        """One varied sample."""


class FrameSampler:
    """Sub-windows of letterboxed frames, mirrored and re-lit."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        letterbox: Letterbox,
        input_size: tuple[int, int],
        window: tuple[int, int],
        *,
        opinions: Opinions | None = None,
    ) -> None:
        """Renders every frame once.

        Args:
            pictures: the training frames.
            letterbox: the very letterbox of inference.
            input_size: width and height of the model's input.
            window: width and height of a sample; at most the input's.
            opinions: what a teacher says of the pictures, in the same order.
        """
        width, height = input_size
        self._window = window
        self._frames = np.empty((len(pictures), height, width, 3), np.uint8)
        self._opinions = opinions
        self._boxes: list[Boxes] = []
        self._class_ids = [picture.class_ids for picture in pictures]
        for picture, out in zip(pictures, self._frames, strict=True):
            place = letterbox.placement(picture.width, picture.height)
            letterbox.render(picture.read(), place, out)
            scale = np.array([place.width / picture.width, place.height / picture.height] * 2)
            offset = np.array([place.offset_x, place.offset_y] * 2)
            self._boxes.append((picture.boxes * scale + offset).astype(np.float32))

    def whole(self, index: int) -> Sample:
        """One frame as it is."""
        return Sample(self._frames[index], self._boxes[index], self._class_ids[index])

    def draw(self, random: np.random.Generator) -> Sample:
        """A window of a random frame; three times in four it holds a random object of it."""
        index = int(random.integers(len(self._boxes)))
        frame, boxes = self._frames[index], self._boxes[index]
        width, height = self._window
        x = int(random.integers(frame.shape[1] - width + 1))
        y = int(random.integers(frame.shape[0] - height + 1))
        if len(boxes) and random.random() < 0.75:
            box = boxes[random.integers(len(boxes))]
            x = _window_start(box[0], box[2], width, frame.shape[1], random)
            y = _window_start(box[1], box[3], height, frame.shape[0], random)
        sample = cut(Sample(frame, boxes, self._class_ids[index]), x, y, width, height)
        if self._opinions is not None:
            opinion = self._opinions.window(index, x, y, width, height)
            sample = dataclasses.replace(sample, opinion=opinion)
        return relight(mirror(sample, random), random)


class CropSampler:
    """Native-resolution windows around objects and around nothing, as the uplink delivers them."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        side: int,
        random: np.random.Generator,
        *,
        quiet_share: float = 0.3,
        quiet_places: Sequence[Boxes] = (),
        quality: int = 80,
    ) -> None:
        """Cuts all windows once, with a rim that leaves room for jitter.

        Args:
            pictures: the training frames.
            side: side of a sample in native pixels.
            random: decides the windows without objects.
            quiet_share: share of samples that are centred on no object.
            quiet_places: boxes (N, 4) of each picture where a smaller model saw what is not there;
                random places fill up what is missing.
            quality: WebP quality of the uplink.
        """
        self._side = side
        self._quiet_share = quiet_share
        self._quality = quality
        self._loud: list[Sample] = []
        self._quiet: list[Sample] = []
        rim = side + side // 4
        for index, picture in enumerate(pictures):
            whole = Sample(picture.read(), picture.boxes, picture.class_ids)
            for box in picture.boxes:
                self._loud.append(_window_around(whole, box, rim))
            places = list(quiet_places[index]) if quiet_places else []
            while len(places) < _QUIET_PLACES:
                x, y = random.integers(picture.width), random.integers(picture.height)
                places.append(np.array([x, y, x, y], np.float32))
            self._quiet.extend(_window_around(whole, box, rim) for box in places)

    def draw(self, random: np.random.Generator) -> Sample:
        """A jittered, turned, re-lit window, seven times in ten through the uplink's codec."""
        quiet = random.random() < self._quiet_share or not self._loud
        pool = self._quiet if quiet else self._loud
        source = pool[random.integers(len(pool))]
        height, width = source.pixels.shape[:2]
        # The middle of the slack is where the detection that asked for the crop will be.
        x = _jittered((width - self._side) / 2, width - self._side, random)
        y = _jittered((height - self._side) / 2, height - self._side, random)
        sample = relight(cut(source, x, y, self._side, self._side), random)
        if random.random() < 0.7:
            data = encode_image(sample.pixels, Encoding.WEBP, self._quality)
            pixels = decode_image(data, Encoding.WEBP, side_min_px=1, pixels_max=self._side**2)
            sample = dataclasses.replace(sample, pixels=pixels)
        return mirror(turn(sample, random), random)


def cut(sample: Sample, x: int, y: int, width: int, height: int) -> Sample:
    """A window of a sample; objects whose centre lies outside are left out, others clipped."""
    centres = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2 - (x, y)
    boxes = np.clip(sample.boxes - [x, y, x, y], 0, [width, height, width, height])
    keep = (
        np.all(centres >= 0, axis=1)
        & np.all(centres < (width, height), axis=1)
        & np.all(boxes[:, 2:] - boxes[:, :2] >= _SIDE_MIN_PX, axis=1)
    )
    pixels = sample.pixels[y : y + height, x : x + width]
    return Sample(pixels, boxes[keep].astype(np.float32), sample.class_ids[keep])


def mirror(sample: Sample, random: np.random.Generator) -> Sample:
    """Mirrors left-right and top-bottom, each half of the time."""
    pixels, boxes, opinion = sample.pixels, sample.boxes, sample.opinion
    height, width = pixels.shape[:2]
    if random.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        opinion = None if opinion is None else opinion[:, :, ::-1]
    if random.random() < 0.5:
        pixels = pixels[::-1]
        boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
        opinion = None if opinion is None else opinion[:, ::-1]
    return Sample(pixels, boxes, sample.class_ids, opinion)


def turn(sample: Sample, random: np.random.Generator) -> Sample:
    """Turns a square sample by a quarter, half of the time (mirroring supplies the half turns)."""
    if random.random() < 0.5:
        return sample
    boxes, side = sample.boxes, sample.pixels.shape[1]
    turned = np.stack([boxes[:, 1], side - boxes[:, 2], boxes[:, 3], side - boxes[:, 0]], 1)
    return dataclasses.replace(sample, pixels=np.rot90(sample.pixels), boxes=turned)


def relight(sample: Sample, random: np.random.Generator) -> Sample:
    """Varies gain, white balance and offset, about as much as lamps age."""
    gain = random.normal(1.0, 0.08) * random.normal(1.0, 0.015, 3)
    offset = random.normal(0.0, 5.0)
    values: npt.NDArray[np.float64] = np.arange(256)[:, None] * gain[None, :] + offset
    table = np.clip(values.round(), 0, 255).astype(np.uint8)[:, None, :]
    channels = cv2.LUT(np.ascontiguousarray(sample.pixels), table.reshape(1, 256, 3))
    return dataclasses.replace(sample, pixels=np.asarray(channels, np.uint8))


def _window_start(
    low: float, high: float, window: int, extent: int, random: np.random.Generator
) -> int:
    """Start of a window that holds the span low..high, uniform over what is possible."""
    first = max(0, int(np.ceil(high)) - window)
    last = min(extent - window, int(low))
    return (
        int(random.integers(first, last + 1))
        if last >= first
        else min(max(0, first), extent - window)
    )


def _window_around(sample: Sample, box: npt.NDArray[np.float32], side: int) -> Sample:
    """The square window of this side centred on a box, shifted inside the frame; a copy."""
    height, width = sample.pixels.shape[:2]
    wide, high = min(side, width), min(side, height)
    x = min(max(0, round(float(box[0] + box[2]) / 2 - wide / 2)), width - wide)
    y = min(max(0, round(float(box[1] + box[3]) / 2 - high / 2)), height - high)
    window = cut(sample, x, y, wide, high)
    return dataclasses.replace(window, pixels=window.pixels.copy())


def _jittered(middle: float, last: int, random: np.random.Generator) -> int:
    return int(np.clip(round(middle + random.normal(0, middle / 2)), 0, last))
