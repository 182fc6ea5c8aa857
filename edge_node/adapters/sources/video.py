"""Video files by PyAV, played at their own pace or as fast as they are taken."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edge_node.adapters.sources.pacing import Pacer
from edge_node.config import SourceSettings
from edge_node.ports import Capture
from foundation.clock import Clock
from foundation.errors import ConfigError, IntegrityError, TransientError

log = logging.getLogger(__name__)

_MISSING_SHARE_MAX = 0.02
"""Frames that containers announce and decoders withhold even when nothing is wrong."""
_DEFAULT_RATE_HZ = 25.0
_PIXELS_MAX = 1 << 26
"""Of a frame: twice those of 8K. The decoder claims memory for what a header says."""


def _is_empty(name: str) -> bool:
    try:
        return Path(name).is_file() and Path(name).stat().st_size == 0
    except OSError:
        return False


def _is_special(name: str) -> bool:
    try:
        return Path(name).exists() and not Path(name).is_file()
    except (OSError, ValueError):
        return False


class VideoSource:
    """Reads the first video stream of a file; frames may change size on the way."""

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self.name = settings.uri
        self.live = settings.pace == "realtime"
        self.frame_rate_hz = settings.frame_rate_hz
        self._forced_rate_hz = settings.frame_rate_hz
        self._clock = clock
        self._pacer = Pacer(clock)
        self._container: InputContainer | None = None
        self._stream: VideoStream | None = None
        self._frames: Iterator[VideoFrame | None] = iter(())
        self._seen = 0
        self._first_moment_s: float | None = None

    def __enter__(self) -> Self:
        """Opens the file.

        Raises:
            ConfigError: It is absent, no video, or one with frames that are too large.
        """
        if not self.name:
            raise ConfigError("No video file is given", remedy="Set source.uri or --source")
        if _is_special(self.name):  # to open a pipe would wait for its writer for ever
            raise ConfigError(
                f"{self.name} is a pipe, a device or a folder and no video file",
                remedy="Name a file; a folder of images is source.kind images, a camera v4l2",
            )
        try:
            self._container = av.open(self.name, mode="r")
        except FileNotFoundError as error:
            raise ConfigError(
                f"There is no video file at {self.name}", remedy="Check source.uri"
            ) from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            what = "is empty" if _is_empty(self.name) else f"cannot be read as video ({error})"
            raise ConfigError(
                f"The file {self.name} {what}", remedy="Check that it is a whole video file"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise ConfigError(f"{self.name} holds no video stream", remedy="Check source.uri")
        self._stream = self._container.streams.video[0]
        codec = self._stream.codec_context
        if codec.width * codec.height > _PIXELS_MAX:
            self._container.close()
            raise ConfigError(
                f"The frames of {self.name} have {codec.width}x{codec.height} pixels, more than "
                f"{_PIXELS_MAX}",
                remedy="Check that it is a whole video file, or scale it down",
            )
        codec.options = {"max_pixels": str(_PIXELS_MAX)}  # of frames that grow on the way
        # One decoding thread: the others belong to inference.
        codec.thread_count = 1
        rate = self._stream.average_rate or self._stream.guessed_rate
        if not self.frame_rate_hz:
            self.frame_rate_hz = float(rate) if rate else _DEFAULT_RATE_HZ
        self._frames = self._decode(self._container, self._stream)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the file."""
        if self._container is not None:
            self._container.close()

    def read(self, stop: threading.Event) -> Capture | None:
        """Decodes the next frame and waits until it is due.

        Raises:
            TransientError: This part of the stream is damaged.
            IntegrityError: The file ends before its stream does, or holds no frame at all.
        """
        try:
            frame = next(self._frames)
        except StopIteration:
            self._check_whole()
            return None
        if frame is None:
            raise TransientError(f"{self.name}: damaged data after frame {self._seen}")
        pixels = frame.to_ndarray(format="bgr24")
        moment_s = self._moment_s(frame)
        self._seen += 1
        captured_at_ns = self._clock.now_ns()
        if self.live:
            due_ns = self._pacer.wait(moment_s, stop)
            if due_ns is None:
                return None
            captured_at_ns = due_ns
        return Capture(np.ascontiguousarray(pixels, np.uint8), captured_at_ns)

    def _decode(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[VideoFrame | None]:
        """Frames in order; None stands for a packet that did not decode."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError) as error:
                raise IntegrityError(
                    f"{self.name} cannot be read beyond frame {self._seen}: {error}",
                    remedy="The file is damaged; the frames before were processed",
                ) from error
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                yield None
                continue
            for frame in frames:
                if isinstance(frame, VideoFrame):
                    yield None if frame.is_corrupt else frame

    def _moment_s(self, frame: VideoFrame) -> float:
        if self._forced_rate_hz or frame.time is None:
            return self._seen / self.frame_rate_hz
        if self._first_moment_s is None:
            self._first_moment_s = frame.time
        return frame.time - self._first_moment_s

    def _check_whole(self) -> None:
        announced = self._stream.frames if self._stream is not None else 0
        if self._seen == 0:
            raise IntegrityError(
                f"{self.name} holds no frame that can be decoded", remedy="Check source.uri"
            )
        if announced and self._seen < announced * (1 - _MISSING_SHARE_MAX) - 1:
            raise IntegrityError(
                f"{self.name} ends after {self._seen} of its {announced} frames",
                remedy="The file is damaged or cut off; the frames before were processed",
            )
