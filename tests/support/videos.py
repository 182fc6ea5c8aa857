"""Small real video files, written with PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from foundation.frames import Pixels
from tests.support.bundles import paint_square


def write_video(path: Path, frames: Iterable[Pixels], *, rate_hz: int = 30) -> Path:
    """Writes frames of one size as MPEG-4 and returns the path."""
    with av.open(str(path), mode="w") as container:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = container.add_stream("mpeg4", rate=Fraction(rate_hz))
                stream.width, stream.height = pixels.shape[1], pixels.shape[0]
                stream.pix_fmt = "yuv420p"
                stream.bit_rate = 8_000_000
                stream.gop_size = 8
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
    return path


def moving_squares(
    count: int,
    *,
    width: int = 320,
    height: int = 240,
    speed_px: int = 3,
    squares: tuple[tuple[int, str, float], ...] = ((40, "blue", 0.95), (120, "green", 0.5)),
) -> list[Pixels]:
    """Frames in which squares of 16 pixels move to the right, each (top, label, score)."""
    frames = []
    for index in range(count):
        pixels = np.zeros((height, width, 3), np.uint8)
        for top, label, score in squares:
            paint_square(pixels, 16 + speed_px * index, top, label=label, score=score)
        frames.append(pixels)
    return frames
