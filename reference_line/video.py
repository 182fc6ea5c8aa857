"""The annotated video: what the edge saw, and what the verdicts changed.

Made after the run from frames rendered again and from the results, so that it disturbs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from foundation.errors import ConfigError
from foundation.frames import Pixels
from reference_line.analysis import Analysis
from reference_line.demo_plan import DemoPlan
from reference_line.line import Line
from reference_line.optics import FRAME_HEIGHT, FRAME_RATE_HZ, FRAME_WIDTH
from reference_line.records import FrameRecord, Published, RunRecords

LENGTH_MAX_S = 24.0
_EVERY = 2
_SCALE = 0.75
_BAR_PX = 36
_FLASH_FRAMES = 18
_FONT = cv2.FONT_HERSHEY_SIMPLEX

_Color = tuple[int, int, int]
_DOUBT: _Color = (190, 190, 190)
_EDGE: _Color = (60, 180, 255)
_CLOUD: _Color = (140, 230, 90)
_REFUTED: _Color = (90, 80, 245)
_TEXT: _Color = (235, 235, 235)
_BAR: _Color = (28, 24, 22)
_LEGEND = (
    ("edge in doubt", _DOUBT),
    ("edge reports", _EDGE),
    ("cloud confirms", _CLOUD),
    ("cloud refutes", _REFUTED),
)


def write_video(plan: DemoPlan, analysis: Analysis) -> Path:
    """Writes the video of a run and returns where it is.

    Raises:
        ConfigError: PyAV has no H.264 encoder here, or the file cannot be written.
    """
    path = plan.folder / "line.mp4"
    draw_video(path, plan.seed, analysis.records)
    return path


def draw_video(path: Path, seed: int, records: RunRecords) -> None:
    """Draws the first seconds of a run as H.264 in MP4, every second frame.

    Raises:
        ConfigError: PyAV has no H.264 encoder here, or the file cannot be written.
    """
    width, height = round(FRAME_WIDTH * _SCALE), round(FRAME_HEIGHT * _SCALE) + 2 * _BAR_PX
    if "libx264" not in av.codecs_available:
        raise ConfigError(
            "The installed PyAV has no H.264 encoder", remedy="Run the demo with --no-video"
        )
    try:
        with av.open(str(path), "w") as container:
            rate = Fraction(round(FRAME_RATE_HZ), _EVERY)
            options = {"preset": "veryfast", "crf": "26"}
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.thread_type = "AUTO"
            for picture in _pictures(seed, records.frames, width, height):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode())
    except OSError as error:
        raise ConfigError(
            f"Cannot write the video {path}: {error}", remedy="Choose another --out"
        ) from error


def _pictures(
    seed: int, frames: Sequence[FrameRecord], width: int, height: int
) -> Iterator[Pixels]:
    """Annotated pictures (height, width, 3), one buffer used again and again."""
    line = Line(seed)
    frame_pixels = np.empty((FRAME_HEIGHT, FRAME_WIDTH, 3), np.uint8)
    canvas = np.empty((height, width, 3), np.uint8)
    view = canvas[_BAR_PX : height - _BAR_PX]
    changed_at: dict[int, int] = {}
    verdicts = 0
    for frame in frames:
        if frame.sequence >= LENGTH_MAX_S * FRAME_RATE_HZ:
            break
        for track in frame.tracks:
            if (track.source == "cloud" or track.refuted) and track.track_id not in changed_at:
                changed_at[track.track_id] = frame.sequence
                verdicts += 1
        if frame.sequence % _EVERY:
            continue
        line.frame(frame.sequence, frame_pixels)
        cv2.resize(
            frame_pixels, (view.shape[1], view.shape[0]), dst=view, interpolation=cv2.INTER_AREA
        )
        for track in frame.tracks:
            since = frame.sequence - changed_at.get(track.track_id, -_FLASH_FRAMES)
            _draw_track(view, track, since)
        _draw_bars(canvas, frame, verdicts)
        yield canvas


def color_of(track: Published) -> _Color:
    """The colour (BGR) that says what is believed of a track, and by whom."""
    if track.refuted:
        return _REFUTED
    if track.source == "cloud":
        return _CLOUD
    return _EDGE if track.reported else _DOUBT


def _draw_track(view: Pixels, track: Published, frames_since_verdict: int) -> None:
    color = color_of(track)
    x1, y1, x2, y2 = (round(side * _SCALE) for side in track.box)
    x1, y1, x2, y2 = x1 - 4, y1 - 4, x2 + 4, y2 + 4
    if 0 <= frames_since_verdict < _FLASH_FRAMES:
        radius = 14 + 2 * frames_since_verdict
        cv2.circle(view, ((x1 + x2) // 2, (y1 + y2) // 2), radius, color, 1, cv2.LINE_AA)
    if track.refuted:
        cv2.line(view, (x1, y1), (x2, y2), color, 1, cv2.LINE_AA)
        cv2.line(view, (x1, y2), (x2, y1), color, 1, cv2.LINE_AA)
        return
    cv2.rectangle(view, (x1, y1), (x2, y2), color, 2 if track.reported else 1, cv2.LINE_AA)
    if track.reported:
        text = f"{track.label.replace('_', ' ')} {track.score:.2f}"
        (text_width, _), _ = cv2.getTextSize(text, _FONT, 0.42, 1)
        left = min(x1, view.shape[1] - text_width - 6)
        top = y1 - 16 if y1 >= 16 else y2
        cv2.rectangle(view, (left, top), (left + text_width + 6, top + 16), _BAR, cv2.FILLED)
        cv2.putText(view, text, (left + 3, top + 12), _FONT, 0.42, color, 1, cv2.LINE_AA)


def _draw_bars(canvas: Pixels, frame: FrameRecord, verdicts: int) -> None:
    height = canvas.shape[0]
    canvas[:_BAR_PX] = _BAR
    canvas[height - _BAR_PX :] = _BAR
    left = 12
    for words, color in _LEGEND:
        cv2.rectangle(canvas, (left, 12), (left + 14, 24), color, 2)
        cv2.putText(canvas, words, (left + 22, 23), _FONT, 0.48, _TEXT, 1, cv2.LINE_AA)
        left += 170
    facts: Mapping[str, str] = {
        "time": f"{frame.sequence / FRAME_RATE_HZ:5.1f} s",
        "frame": f"{frame.sequence}",
        frame.outcome.replace("_", " "): f"{frame.latency_s * 1000:.1f} ms",
        "tracks": f"{len(frame.tracks)}",
        "verdicts": f"{verdicts}",
    }
    left = 12
    for name, value in facts.items():
        text = f"{name} {value}"
        cv2.putText(canvas, text, (left, height - 13), _FONT, 0.48, _TEXT, 1, cv2.LINE_AA)
        left += 170
