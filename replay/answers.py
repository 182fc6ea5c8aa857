"""What both models say about the material, each asked once and remembered on disk.

The cache is one SQLite file. Every answer is committed as it comes, so that a run that is killed
goes on where it was; keys name the bundles, the pixels, the region, the level and the encoders, so
that nothing is ever taken for the answer to another question.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt
import PIL

from cloud_escalator.logic.crops import Reporter
from foundation.bundle import Bundle
from foundation.clock import Clock, elapsed_s
from foundation.detector import Detector
from foundation.errors import ConfigError
from foundation.escalations import DIGEST_DIGITS, Escalation, LabelledBoxes, Region
from foundation.frames import Detections, Pixels
from foundation.gains import texture_of
from foundation.images import AVIF_EFFORT, WEBP_EFFORT, decode_image
from foundation.levels import Level, encode_at
from foundation.manifest import ClassifierOutputs, ClassThresholds, Thresholds
from foundation.wire import escalation_to_proto
from model_workshop.evaluation.coco import wide_open
from replay.material import Frame

_FRAMES_HELD = 4
_TOLD_EVERY = 50
_GRPC_PREFIX_BYTES = 5
_HTTP2_HEADER_BYTES = 9
_HTTP2_FRAME_BYTES = 16_384
_INSTANT_NS = 1_700_000_000_000_000_000
"""Instants of any present day take the same number of bytes."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS detections (key TEXT PRIMARY KEY, rows BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS images (key TEXT PRIMARY KEY, bytes INTEGER, encode_s REAL);
CREATE TABLE IF NOT EXISTS textures (key TEXT PRIMARY KEY, texture REAL);
"""

_Run = Callable[[], Detections]


@dataclass(frozen=True, slots=True, order=True)
class Ask:
    """A question about one frame: what is sent of it, and how compressed."""

    region: tuple[int, int, int, int]
    level: str

    @property
    def place(self) -> Region:
        """The region."""
        return Region(*self.region)


class Answers:
    """Asks both models and remembers. Used by one thread; `with` opens and closes the cache."""

    def __init__(self, path: Path, edge: Bundle, cloud: Bundle, clock: Clock) -> None:
        """Takes where the cache lies and both bundles.

        Raises:
            ConfigError: the bundles speak of different labels, or the cloud's says what a picture
                shows but not where.
        """
        if edge.labels != cloud.labels:
            raise ConfigError(
                f"The labels of {edge.info.name} ({', '.join(edge.labels[:3])}, ...) and "
                f"{cloud.info.name} ({', '.join(cloud.labels[:3])}, ...) differ in number, name or "
                "order",
                remedy="Replay two bundles of the same task",
            )
        if isinstance(cloud.info.outputs, ClassifierOutputs):
            raise ConfigError(
                f"{cloud.info.name} is a classifier, which finds no objects in a frame",
                remedy="Replay a detector as the cloud's model",
            )
        self.edge_bundle, self.cloud_bundle = edge, cloud
        self.labels = edge.labels
        self._path = path
        self._clock = clock
        self._pixels: dict[str, Pixels] = {}
        self._seen: dict[str, Detections] = {}
        self._asked = 0
        self._memory: dict[str, tuple[int, float]] = {}
        open_all = ClassThresholds(report=0, escalate_low=0, escalate_high=1)
        self._reporter = Reporter(cloud.labels, cloud.calibration, Thresholds(default=open_all))
        self._number = {label: index for index, label in enumerate(self.labels)}

    def __enter__(self) -> Self:
        """Opens the cache.

        Raises:
            ConfigError: it cannot be opened or is no cache.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._store = sqlite3.connect(self._path, timeout=60.0)
            self._store.execute("PRAGMA journal_mode=WAL")
            self._store.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"The cache {self._path} cannot be used: {error}",
                remedy="Choose another --work, or remove the file and let both models run again",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the cache."""
        self._store.close()

    def edge(self, frame: Frame) -> Detections:
        """What the edge sees, calibrated, down to a raw score of 0.001."""
        key = f"{self.edge_bundle.digest}|{frame.digest}"
        return self._detections(key, lambda: self._run_edge(frame))

    def whole(self, frame: Frame) -> Detections:
        """What the cloud sees in the frame as it was recorded, calibrated, likewise."""
        key = f"{self.cloud_bundle.digest}|{frame.digest}"
        return self._detections(key, lambda: self._run_cloud(self.pixels(frame), _all_of(frame)))

    def answer(self, frame: Frame, ask: Ask) -> Detections:
        """What the cloud sees in the decoded image of a region, source pixels, calibrated."""
        key = f"{self.cloud_bundle.digest}|{_image_key(frame, ask)}"
        return self._detections(key, lambda: self._run_ask(frame, ask))

    def image(self, frame: Frame, ask: Ask) -> tuple[int, float]:
        """Bytes of the encoded region, and the seconds that encoding took here."""
        key = _image_key(frame, ask)
        if key not in self._memory:
            row = self._store.execute(
                "SELECT bytes, encode_s FROM images WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                self._encode(frame, ask)
            else:
                self._memory[key] = (int(row[0]), float(row[1]))
        return self._memory[key]

    def texture(self, frame: Frame, region: Region) -> float:
        """`foundation.gains.texture_of` of a region."""
        key = f"{frame.digest}|{region.x1},{region.y1},{region.x2},{region.y2}"
        row = self._store.execute("SELECT texture FROM textures WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return float(row[0])
        texture = texture_of(_cut(self.pixels(frame), region))
        self._keep("INSERT OR REPLACE INTO textures VALUES (?, ?)", key, texture)
        return texture

    def wire_bytes(self, frame: Frame, ask: Ask, proposals: Detections) -> int:
        """Bytes that leave the site for one ask: message, proposals, image and framing.

        Args:
            frame: asked about.
            ask: the question.
            proposals: what the edge is not sure of in the frame; those whole inside a crop travel,
                and none with a whole frame.
        """
        size, _ = self.image(frame, ask)
        inside = proposals.take(inside_of(proposals, ask.place))
        if ask.place == _all_of(frame):
            inside = Detections.empty()
        message = escalation_to_proto(
            Escalation(
                id="0" * 32,
                site="site",
                camera="camera",
                track_id=1000,
                frame_sequence=100_000,
                captured_at_ns=_INSTANT_NS,
                expires_at_ns=_INSTANT_NS,
                frame_width=frame.width,
                frame_height=frame.height,
                region=ask.place,
                encoding=Level.parse(ask.level).encoding,
                image=bytes(size),
                proposals=LabelledBoxes.from_detections(inside, self.labels),
                edge_bundle_digest=self.edge_bundle.digest[:DIGEST_DIGITS],
                reason="uncertain",
            ),
            sent_at_ns=_INSTANT_NS,
        )
        length = message.ByteSize() + _GRPC_PREFIX_BYTES
        return int(length + _HTTP2_HEADER_BYTES * math.ceil(length / _HTTP2_FRAME_BYTES))

    def pixels(self, frame: Frame) -> Pixels:
        """The frame's pixels; the last few are held."""
        held = self._pixels.pop(frame.digest, None)
        if held is None:
            held = frame.read()
        self._pixels[frame.digest] = held
        while len(self._pixels) > _FRAMES_HELD:
            del self._pixels[next(iter(self._pixels))]
        return held

    @functools.cached_property
    def _edge_detector(self) -> Detector:
        return Detector.open(wide_open(self.edge_bundle))

    @functools.cached_property
    def _cloud_detector(self) -> Detector:
        return Detector.open(wide_open(self.cloud_bundle))

    def _run_edge(self, frame: Frame) -> Detections:
        found = self._edge_detector.detect(self.pixels(frame))
        return found.with_scores(self.edge_bundle.calibration.apply(found, self.labels))

    def _run_cloud(self, pixels: Pixels, region: Region) -> Detections:
        placed = self._reporter.report(self._cloud_detector.detect(pixels), region, pixels)
        class_ids = np.array([self._number[label] for label in placed.labels], np.int32)
        return Detections(placed.boxes, placed.scores, class_ids)

    def _run_ask(self, frame: Frame, ask: Ask) -> Detections:
        data = self._encode(frame, ask)
        pixels = decode_image(
            data,
            Level.parse(ask.level).encoding,
            side_min_px=1,
            pixels_max=frame.width * frame.height,
        )
        return self._run_cloud(pixels, ask.place)

    def _encode(self, frame: Frame, ask: Ask) -> bytes:
        pixels = np.ascontiguousarray(_cut(self.pixels(frame), ask.place))
        begun_ns = self._clock.now_ns()
        data = encode_at(pixels, Level.parse(ask.level))
        encode_s = elapsed_s(begun_ns, self._clock.now_ns())
        key = _image_key(frame, ask)
        if key not in self._memory:
            self._memory[key] = (len(data), encode_s)
            self._keep("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", key, len(data), encode_s)
        return data

    def _detections(self, key: str, run: _Run) -> Detections:
        if key in self._seen:
            return self._seen[key]
        row = self._store.execute("SELECT rows FROM detections WHERE key = ?", (key,)).fetchone()
        if row is None:
            found = run()
            self._keep("INSERT OR REPLACE INTO detections VALUES (?, ?)", key, _packed(found))
            self._asked += 1
            if self._asked % _TOLD_EVERY == 0:
                print(f"{self._asked} answers of the models so far", file=sys.stderr, flush=True)
        else:
            found = _unpacked(row[0])
        self._seen[key] = found
        return found

    def _keep(self, statement: str, *values: object) -> None:
        """Commits one row.

        Raises:
            ConfigError: it cannot be written, on a full disk for example.
        """
        try:
            with self._store:
                self._store.execute(statement, values)
        except sqlite3.Error as error:
            raise ConfigError(
                f"The cache {self._path} cannot be written: {error}",
                remedy="Make space and run it again: what was answered is kept",
            ) from error


def inside_of(found: Detections, region: Region) -> npt.NDArray[np.bool_]:
    """Which detections (N,) lie whole inside a region."""
    low = (found.boxes[:, :2] >= [region.x1, region.y1]).all(axis=1)
    return np.asarray(low & (found.boxes[:, 2:] <= [region.x2, region.y2]).all(axis=1), np.bool_)


def whole_ask(frame: Frame, level: str) -> Ask:
    """The whole frame at a level."""
    return Ask((0, 0, frame.width, frame.height), level)


def _all_of(frame: Frame) -> Region:
    return Region(0, 0, frame.width, frame.height)


def _cut(pixels: Pixels, region: Region) -> Pixels:
    return pixels[region.y1 : region.y2, region.x1 : region.x2]


def _image_key(frame: Frame, ask: Ask) -> str:
    return f"{frame.digest}|{','.join(map(str, ask.region))}|{ask.level}|{_ENCODERS}"


def encoders_digest() -> str:
    """Names how images are encoded here: the effort, and the libraries that do it.

    A level says neither, and an answer to what another encoder made is another answer.
    """
    said = (WEBP_EFFORT, AVIF_EFFORT, PIL.__version__, cv2.__version__)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


_ENCODERS = encoders_digest()


def _packed(found: Detections) -> bytes:
    table = np.empty((len(found), 6), np.float32)
    table[:, :4], table[:, 4], table[:, 5] = found.boxes, found.scores, found.class_ids
    return table.tobytes()


def _unpacked(data: bytes) -> Detections:
    table = np.frombuffer(data, np.float32).reshape(-1, 6)
    return Detections(table[:, :4].copy(), table[:, 4].copy(), table[:, 5].astype(np.int32))
