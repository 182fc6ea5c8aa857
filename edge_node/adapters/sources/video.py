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
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from edge_node.adapters.sources.pacing import Pacer
from edge_node.config import SourceSettings
from edge_node.ports import Capture
from foundation.clock import Clock
from foundation.errors import ConfigError, IntegrityError, TransientError

log = logging.getLogger(__name__)

_MISSING_SHARE_MAX = 0.02
"""What containers announce and do not hold even when nothing is wrong."""
_MISSING_S_MAX = 1.0
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
        self._packets = 0
        self._end_s = 0.0
        self._has_key = False
        self._key_pts: int | None = None
        self._is_whole = False
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
            # Without the prefix, what stands before a colon in a name would be a protocol.
            self._container = av.open(f"file:{self.name}", mode="r")
        except FileNotFoundError as error:
            raise ConfigError(
                f"There is no video file at {self.name}",
                remedy="Check source.uri; it names a file of this machine and no address",
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
            TransientError: This part of the stream is damaged, or of a format that nothing reads.
            IntegrityError: The file ends before its stream does, or holds no frame at all.
        """
        try:
            frame = next(self._frames)
        except StopIteration:
            self._check_whole()
            return None
        if frame is None:
            raise TransientError(f"{self.name}: damaged data after frame {self._seen}")
        try:
            pixels = frame.to_ndarray(format="bgr24")
        except (av.error.FFmpegError, ValueError) as error:
            raise TransientError(
                f"{self.name}: a frame of format {frame.format.name} cannot be converted: {error}"
            ) from error
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
            self._note_packet(packet)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                yield None
                continue
            for frame in frames:
                if isinstance(frame, VideoFrame):
                    yield frame if self._can_show(frame) else None

    def _note_packet(self, packet: Packet[VideoStream]) -> None:
        self._packets += packet.size > 0
        if packet.is_keyframe and not self._has_key:
            self._has_key, self._key_pts = True, packet.pts
        if packet.pts is not None and packet.time_base is not None:
            end = packet.pts + (packet.duration or 0)
            self._end_s = max(self._end_s, float(end * packet.time_base))

    def _can_show(self, frame: VideoFrame) -> bool:
        """Whether a frame shows what the camera saw.

        A recording may begin between two key frames. What comes before the first of them is changes
        to a picture that is not there; some decoders make them to grey and say nothing.
        """
        if self._has_key and not self._is_whole:
            key_pts, pts = self._key_pts, frame.pts
            self._is_whole = key_pts is None or pts is None or pts >= key_pts
        return self._is_whole and not frame.is_corrupt

    def _moment_s(self, frame: VideoFrame) -> float:
        if self._forced_rate_hz or frame.time is None:
            return self._seen / self.frame_rate_hz
        if self._first_moment_s is None:
            self._first_moment_s = frame.time
        return frame.time - self._first_moment_s

    def _check_whole(self) -> None:
        """Compares what was there with what the container announces.

        By packets, since a file that was cut without encoding it anew hides frames on purpose.
        """
        announced = self._stream.frames if self._stream is not None else 0
        announced_s = self._announced_s()
        if self._seen == 0:
            raise IntegrityError(
                f"{self.name} holds no frame that can be decoded", remedy="Check source.uri"
            )
        ends, share = "", 1 - _MISSING_SHARE_MAX
        if announced:
            lasts = announced_s > 0 and self._end_s >= announced_s * share
            if not lasts and self._packets < announced * share - 1:
                ends = f"{self._packets} of its {announced} frames"
        elif self._end_s < announced_s * share - _MISSING_S_MAX:
            ends = f"{self._end_s:.1f} of its {announced_s:.1f} seconds"
        if ends:
            raise IntegrityError(
                f"{self.name} ends after {ends}",
                remedy="The file is damaged or cut off; the frames before were processed",
            )

    def _announced_s(self) -> float:
        """When the pictures end by what the header says; 0 where it does not say.

        It counts pictures that are not there on purpose: AVI those that last on, MP4 those behind
        the end to which a file was trimmed. Matroska counts none. Of other containers FFmpeg may
        have guessed the duration, and of AVI it does where the file is cut off. In Matroska one of
        several streams, sound say, may last longer than the pictures.
        """
        container, stream = self._container, self._stream
        if container is None or stream is None:
            return 0.0
        kind = container.format.name
        if kind == "avi" and stream.time_base:  # a tick for each picture
            return float(stream.frames * stream.time_base)
        if kind.startswith("mov") and stream.duration and stream.time_base:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if kind.startswith("matroska") and len(container.streams) == 1 and container.duration:
            return container.duration / av.time_base
        return 0.0
