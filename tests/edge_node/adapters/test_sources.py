"""Sources on real files, and what a person is told when they are not what they should be."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from contextlib import chdir
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edge_node.adapters.sources.images import ImageFolderSource
from edge_node.adapters.sources.registry import make_source
from edge_node.adapters.sources.v4l2 import V4l2Source
from edge_node.adapters.sources.video import VideoSource
from edge_node.config import SourceSettings
from edge_node.ports import Capture, FrameSource, SourceFactory
from foundation.clock import SystemClock
from foundation.errors import ConfigError, HardcaseError, IntegrityError, TransientError
from tests.support.videos import moving_squares, write_video


def settings(path: Path | str, **values: object) -> SourceSettings:
    """Unpaced settings of this path."""
    return SourceSettings.model_validate({"uri": str(path), "pace": "unpaced", **values})


def play(source: FrameSource) -> tuple[list[Capture], list[HardcaseError]]:
    """Everything that a source gives, and everything that it raises on the way."""
    captures: list[Capture] = []
    errors: list[HardcaseError] = []
    stop = threading.Event()
    with source:
        while True:
            try:
                capture = source.read(stop)
            except TransientError as error:
                errors.append(error)
                continue
            except IntegrityError as error:
                errors.append(error)
                return captures, errors
            if capture is None:
                return captures, errors
            captures.append(capture)


def test_video_gives_every_frame_in_order(tmp_path: Path) -> None:
    """As uint8 BGR, with rising instants."""
    frames = moving_squares(20, squares=((40, "red", 0.95),))
    source = VideoSource(settings(write_video(tmp_path / "v.mp4", frames)), SystemClock())
    captures, errors = play(source)
    assert errors == []
    assert len(captures) == 20
    assert source.frame_rate_hz == 30.0
    instants = [capture.captured_at_ns for capture in captures]
    assert instants == sorted(instants)
    for capture, pixels in zip(captures, frames, strict=True):
        assert capture.pixels.shape == pixels.shape
        assert capture.pixels.flags["C_CONTIGUOUS"]
        assert np.abs(capture.pixels.astype(int) - pixels).mean() < 3


def test_video_in_real_time_is_captured_at_its_own_pace(tmp_path: Path) -> None:
    """Instants lie as far apart as the frames of the file, whatever the scheduler does."""
    path = write_video(tmp_path / "v.mp4", moving_squares(10), rate_hz=100)
    captures, _ = play(VideoSource(settings(path, pace="realtime"), SystemClock()))
    gaps = np.diff([capture.captured_at_ns for capture in captures])
    assert np.isclose(np.median(gaps), 10_000_000, rtol=0.01)


def test_rate_of_a_video_may_be_overridden(tmp_path: Path) -> None:
    """Played at 200 frames a second."""
    path = write_video(tmp_path / "v.mp4", moving_squares(10), rate_hz=5)
    rate = settings(path, pace="realtime", frame_rate_hz=200)
    captures, _ = play(VideoSource(rate, SystemClock()))
    gaps = np.diff([capture.captured_at_ns for capture in captures])
    assert np.isclose(np.median(gaps), 5_000_000, rtol=0.01)


def test_stop_ends_the_wait_for_a_frame(tmp_path: Path) -> None:
    """A frame that is due in a second does not hold up the end."""
    path = write_video(tmp_path / "v.mp4", moving_squares(3), rate_hz=1)
    stop = threading.Event()
    with VideoSource(settings(path, pace="realtime"), SystemClock()) as source:
        assert source.read(stop) is not None
        stop.set()
        assert source.read(stop) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no video file"), (b"", "is empty"), (b"GIF? no." * 100, "cannot be read")],
    ids=["absent", "empty", "foreign"],
)
def test_file_that_is_no_video_is_a_setting_to_correct(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    """Absent, empty and foreign files are told apart."""
    path = tmp_path / "v.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words), VideoSource(settings(path), SystemClock()):
        pass


def test_video_cut_off_half_way_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    """Frames before the cut are processed; the end is not taken for a clean one."""
    path = write_video(tmp_path / "v.avi", moving_squares(60))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert 15 < len(captures) < 45
    assert isinstance(errors[-1], IntegrityError)
    assert "of its 60 frames" in str(errors[-1])


def test_matroska_cut_off_half_way_says_so_too(tmp_path: Path) -> None:
    """It counts no frames, but says how long it is."""
    path = write_video(tmp_path / "v.mkv", moving_squares(150))
    assert play(VideoSource(settings(path), SystemClock()))[1] == []
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert 40 < len(captures) < 110
    assert "of its 5.0 seconds" in str(errors[-1])


def copied(
    source: Path, target: Path, *, skipped: int = 0, hidden: int = 0, **options: str
) -> Path:
    """A copy of a video's packets, without the first ones, or with them before its beginning."""
    late = options | ({"avoid_negative_ts": "disabled"} if hidden else {})
    with av.open(str(source)) as whole, av.open(str(target), mode="w", options=late) as copy:
        stream = copy.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(video=0) if packet.size]
        shift = hidden * (packets[0].duration or 0)
        for packet in packets[skipped:]:
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = stream
            copy.mux(packet)
    return target


def test_video_that_was_trimmed_is_whole(tmp_path: Path) -> None:
    """Trimmed without encoding it anew: what is before its beginning is there, and is hidden."""
    path = write_video(tmp_path / "v.mp4", moving_squares(40))
    trimmed = copied(path, tmp_path / "trimmed.mp4", hidden=6)
    captures, errors = play(VideoSource(settings(trimmed), SystemClock()))
    assert errors == []
    assert len(captures) == 34


def test_video_whose_end_was_trimmed_is_whole(tmp_path: Path) -> None:
    """A telephone does it by the edit list: the file holds, and counts, what is not shown."""
    path = write_video(tmp_path / "v.mp4", moving_squares(60))
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12
    content[at : at + 4] = struct.pack(">I", struct.unpack(">I", content[at : at + 4])[0] // 3)
    path.write_bytes(content)
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert errors == []
    assert len(captures) == 20


def test_pictures_that_last_on_in_avi_are_not_missing(tmp_path: Path) -> None:
    """It counts a picture for each tick, and holds nothing for those on which none came."""
    with av.open(str(tmp_path / "v.avi"), mode="w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = 5 * number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    captures, errors = play(VideoSource(settings(tmp_path / "v.avi"), SystemClock()))
    assert errors == []
    assert len(captures) == 10


def test_mp4_cut_off_half_way_says_so(tmp_path: Path) -> None:
    """Its header, which comes first here, counts frames that are not there."""
    whole = write_video(tmp_path / "v.mp4", moving_squares(60))
    path = copied(whole, tmp_path / "first.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert 10 < len(captures) < 45
    assert "of its 60 frames" in str(errors[-1])


@pytest.mark.parametrize("kind", ["ts", "mkv"])
def test_frames_before_the_first_key_frame_are_lost(tmp_path: Path, kind: str) -> None:
    """The decoder makes them of grey and what changes; what it says of them is nothing."""
    frames = [np.full_like(pixels, 200) | pixels for pixels in moving_squares(24)]
    path = write_video(tmp_path / f"v.{kind}", frames)
    late = copied(path, tmp_path / f"late.{kind}", skipped=3)
    captures, errors = play(VideoSource(settings(late), SystemClock()))
    assert len(errors) == 5  # up to the second group of eight
    assert len(captures) == 16
    for capture, pixels in zip(captures, frames[8:], strict=True):
        assert np.abs(capture.pixels.astype(int) - pixels).mean() < 5


def test_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    """What stands before it is no protocol."""
    write_video(tmp_path / "v.avi", moving_squares(3)).rename(tmp_path / "12:30:00.avi")
    with chdir(tmp_path):
        captures, _ = play(VideoSource(settings("12:30:00.avi"), SystemClock()))
    assert len(captures) == 3


@pytest.mark.parametrize("name", ["rtsp://127.0.0.1:9/a", "http://127.0.0.1:9/v.mp4", "pipe:0"])
def test_address_is_no_file(name: str) -> None:
    """Nobody is called, whose answer would be waited for without a bound."""
    with (
        pytest.raises(ConfigError, match="no address"),
        VideoSource(settings(name), SystemClock()),
    ):
        pass


def test_frames_of_a_format_that_nothing_converts_are_lost(tmp_path: Path) -> None:
    """Two pixels a byte."""
    path = tmp_path / "v.nut"
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("rawvideo", rate=30)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb4"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(32, 32, "rgb4")))
        container.mux(stream.encode(None))
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert captures == []
    assert ["rgb4" in str(error) for error in errors] == [True, True, False]
    assert "no frame that can be decoded" in str(errors[-1])


def test_damage_in_the_middle_of_a_video_loses_frames_not_the_rest(tmp_path: Path) -> None:
    """Lost pictures are reported one by one or decoded around; the stream goes on to its end."""
    path = write_video(tmp_path / "v.avi", moving_squares(60))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    captures, errors = play(VideoSource(settings(path), SystemClock()))
    assert len(captures) >= 40
    assert all(isinstance(error, TransientError | IntegrityError) for error in errors)
    last = captures[-1].pixels
    assert np.abs(last.astype(int) - moving_squares(60)[-1]).mean() < 5


def test_video_whose_frames_change_size_is_followed(tmp_path: Path) -> None:
    """Two streams of MPEG-TS one after the other, as a camera that was set anew writes them."""
    first = write_video(tmp_path / "a.ts", moving_squares(10, width=320, height=240))
    second = write_video(tmp_path / "b.ts", moving_squares(10, width=192, height=160))
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    captures, _ = play(VideoSource(settings(path), SystemClock()))
    assert {capture.pixels.shape for capture in captures} == {(240, 320, 3), (160, 192, 3)}


def test_folder_of_images_is_played_by_name(tmp_path: Path) -> None:
    """Sizes may differ, other files are ignored, and one that is no image is a lost frame."""
    for name, value, side in (("b.png", 20, 32), ("a.jpg", 10, 48), ("d.bmp", 40, 32)):
        cv2.imwrite(str(tmp_path / name), np.full((side, side, 3), value, np.uint8))
    (tmp_path / "c.png").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("no")
    captures, errors = play(ImageFolderSource(settings(tmp_path), SystemClock()))
    assert [round(float(capture.pixels.mean())) for capture in captures] == [10, 20, 40]
    assert len(errors) == 1
    assert "c.png" in str(errors[0])


def test_image_larger_than_opencv_takes_is_a_lost_frame(tmp_path: Path) -> None:
    """A header of 60,000 x 60,000 pixels, which OpenCV refuses by an exception of its own."""
    sound = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + sound[24:29]
    vast = sound[:12] + header + struct.pack(">I", zlib.crc32(header)) + sound[33:]
    for name, data in (("a.png", sound), ("b.png", vast), ("c.png", sound)):
        (tmp_path / name).write_bytes(data)
    captures, errors = play(ImageFolderSource(settings(tmp_path), SystemClock()))
    assert len(captures) == 2
    assert ["b.png" in str(error) for error in errors] == [True]


@pytest.mark.timeout(20)
def test_what_is_called_an_image_and_is_no_file_is_a_lost_frame(tmp_path: Path) -> None:
    """A pipe, into which nobody writes and for which nobody waits, a folder, an impossible link."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32, 3), np.uint8))
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.png").symlink_to("x" * 300)
    captures, errors = play(ImageFolderSource(settings(tmp_path), SystemClock()))
    assert len(captures) == 1
    assert len(errors) == 3
    for name, error in zip("bcd", errors, strict=True):
        assert f"{name}.png" in str(error)


@pytest.mark.parametrize("source", [ImageFolderSource, V4l2Source, VideoSource])
def test_name_longer_than_names_can_be(source: SourceFactory) -> None:
    """Is the name of nothing."""
    with pytest.raises(ConfigError), source(settings("x" * 300), SystemClock()):
        pass


@pytest.mark.parametrize("make", [False, True], ids=["absent", "empty"])
def test_folder_without_images_is_a_setting_to_correct(tmp_path: Path, *, make: bool) -> None:
    """Absent or empty."""
    folder = tmp_path / "frames"
    if make:
        folder.mkdir()
    with pytest.raises(ConfigError), ImageFolderSource(settings(folder), SystemClock()):
        pass


def test_absent_camera_is_a_setting_to_correct() -> None:
    """With what to check."""
    source = V4l2Source(settings("/dev/video99"), SystemClock())
    with pytest.raises(ConfigError, match="no camera device"), source:
        pass


def test_file_that_is_no_camera_is_a_setting_to_correct(tmp_path: Path) -> None:
    """A path that exists but is no device."""
    path = tmp_path / "video0"
    path.write_bytes(b"")
    with (
        pytest.raises(ConfigError, match="cannot be opened as a camera"),
        V4l2Source(settings(path), SystemClock()),
    ):
        pass


def test_unknown_kind_of_source_names_the_known_ones() -> None:
    """Built in or installed."""
    with pytest.raises(ConfigError, match="images") as raised:
        make_source(SourceSettings(kind="telepathy"), SystemClock())
    assert "telepathy" in str(raised.value)


def test_video_frame_that_is_too_large_is_lost_and_the_others_are_seen(tmp_path: Path) -> None:
    """The decoder claims memory for what the header of a picture says."""
    small, large = (
        cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
        for height, width in ((48, 64), (8_200, 8_200))
    )
    (tmp_path / "v.mjpeg").write_bytes(small * 3 + large + small * 2)
    captures, errors = play(VideoSource(settings(tmp_path / "v.mjpeg"), SystemClock()))
    assert [capture.pixels.shape for capture in captures] == [(48, 64, 3)] * 5
    assert len(errors) == 1
