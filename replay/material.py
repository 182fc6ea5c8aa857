"""The frames of a replay: a labelled split, a folder of images, or a video file.

Frames are read when they are needed and never held together. A video is decoded once; every frame
that is kept goes to the work folder as PNG, because the replay comes back to frames in any order.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2

from edge_node.adapters.sources.video import VideoSource
from edge_node.config import SourceSettings
from foundation.clock import SystemClock
from foundation.errors import ConfigError, IntegrityError, TransientError
from foundation.frames import Pixels
from model_workshop.datasets import Split, read_picture, read_split

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_KINDS = "Give a labelled split (images/ and instances.json), a folder of images or a video file"
_INDEX = "frames.json"
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the material.

    Attributes:
        name: within the material; of an image its path below the folder of images.
        group: frames of one group are not independent: they are resampled and split together.
        moment_s: seconds since the first frame of a video; of still images None.
        width: pixels per row.
        height: rows.
        digest: names the pixels, for the cache.
        path: an image file.
    """

    name: str
    group: str
    moment_s: float | None
    width: int
    height: int
    digest: str
    path: Path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    def read(self) -> Pixels:
        """The pixels, uint8 BGR.

        Raises:
            ConfigError: the file is gone, or is no longer an image of that size.
        """
        pixels = read_picture(self.path)
        if pixels.shape[:2] != (self.height, self.width):
            raise ConfigError(
                f"{self.path} is {pixels.shape[1]}x{pixels.shape[0]}, not the "
                f"{self.width}x{self.height} that it was",
                remedy="Replay material that nobody changes meanwhile",
            )
        return pixels


@dataclass(frozen=True, slots=True)
class Material:
    """Frames in order, and the labels where there are any.

    Attributes:
        name: of the folder or file.
        frames: at least one.
        split: the labelled split that they are, picture by picture.
        lost: frames of a video that did not decode.
    """

    name: str
    frames: tuple[Frame, ...]
    split: Split | None = None
    lost: int = 0

    @property
    def groups(self) -> tuple[str, ...]:
        """The different groups, in order."""
        return tuple(dict.fromkeys(frame.group for frame in self.frames))

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal over the digests of the frames in order."""
        return hashlib.sha256("".join(frame.digest for frame in self.frames).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reading:
    """How material is read.

    Attributes:
        frames_max: keep only this many images, evenly spread; None keeps all.
        group: the first group of this expression, searched in the image's name, is the group (a
            board, a camera); None makes every image its own.
        step: of a video, each `step`-th frame is kept.
        block_s: seconds of video that count as one group.
    """

    frames_max: int | None = None
    group: re.Pattern[str] | None = None
    step: int = 10
    block_s: float = 10.0


def read_material(path: Path, work: Path, reading: Reading) -> Material:
    """Reads what lies at a path.

    Args:
        path: a split, a folder of images or a video.
        work: where frames of a video are kept.
        reading: how.

    Raises:
        ConfigError: nothing is there, it is empty, a file is no image, or not of the size that the
            labels state.
        IntegrityError: a video ends before its stream does.
    """
    if path.is_file():
        return _read_video(path, work, reading)
    if not path.is_dir():
        raise ConfigError(f"There is no material at {path}", remedy=_KINDS)
    if (path / "instances.json").is_file():
        split = read_split(path, images_max=reading.frames_max)
        folder = path / "images"
        stills = [_still(one.path, folder, one.read(), reading) for one in split.pictures]
        return Material(path.name, tuple(stills), split)
    folder = path / "images" if (path / "images").is_dir() else path
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ConfigError(f"The folder {folder} holds no images", remedy=_KINDS)
    paths = _thinned(paths, reading.frames_max)
    return Material(path.name, tuple(_still(p, folder, read_picture(p), reading) for p in paths))


def _thinned(items: list[_Item], most: int | None) -> list[_Item]:
    """So many at most, evenly spread."""
    if most is None or most >= len(items):
        return items
    return [items[round(k * (len(items) - 1) / max(1, most - 1))] for k in range(most)]


def _still(path: Path, folder: Path, pixels: Pixels, reading: Reading) -> Frame:
    # Not the file's name alone: folders of boards or cameras may hold files of the same names.
    name = path.relative_to(folder).as_posix()
    group = name
    if reading.group is not None:
        found = reading.group.search(name)
        if found is None or not found.groups():
            raise ConfigError(
                f"--group {reading.group.pattern!r} finds no group in the name {name!r}",
                remedy="Give an expression with one (group) that every image's name matches",
            )
        group = found.group(1)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Frame(name, group, None, pixels.shape[1], pixels.shape[0], digest, path)


def _read_video(path: Path, work: Path, reading: Reading) -> Material:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = work / "frames" / f"{digest[:16]}-{reading.step}"
    index = folder / _INDEX
    if not index.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _decode(path, folder, digest, reading.step)
    document = json.loads(index.read_text(encoding="utf-8"))
    frames = [
        Frame(
            name=f"{path.name}#{row['number']}",
            group=f"{path.name}/{int(row['moment_s'] // reading.block_s)}",
            moment_s=row["moment_s"],
            width=row["width"],
            height=row["height"],
            digest=row["digest"],
            path=folder / row["file"],
        )
        for row in document["frames"]
    ]
    if not frames:
        raise ConfigError(f"{path} holds no frame that decodes", remedy=_KINDS)
    kept = _thinned(frames, reading.frames_max)
    return Material(path.name, tuple(kept), lost=document["lost"])


def _decode(path: Path, folder: Path, digest: str, step: int) -> None:
    """Writes each `step`-th frame, and the index last: without it the folder counts as unread."""
    settings = SourceSettings(kind="video", uri=str(path), pace="unpaced")
    rows, lost = [], 0
    with VideoSource(settings, SystemClock()) as source:
        for number, pixels in _numbered(source):
            if pixels is None:
                lost += 1
            elif number % step == 0:
                file = f"{number:07d}.png"
                if not cv2.imwrite(str(folder / file), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
                    raise ConfigError(
                        f"{folder / file} cannot be written", remedy="Choose another --work"
                    )
                own = hashlib.sha256(f"{digest}/{number}".encode()).hexdigest()
                rows.append(
                    {
                        "number": number,
                        "moment_s": number / source.frame_rate_hz,
                        "width": pixels.shape[1],
                        "height": pixels.shape[0],
                        "digest": own,
                        "file": file,
                    }
                )
    scratch = folder / f".{_INDEX}"
    scratch.write_text(json.dumps({"frames": rows, "lost": lost}), encoding="utf-8")
    scratch.replace(folder / _INDEX)


def _numbered(source: VideoSource) -> Iterator[tuple[int, Pixels | None]]:
    """Frames with their numbers; None stands for one that did not decode."""
    never, number = threading.Event(), 0
    while True:
        try:
            capture = source.read(never)
        except TransientError:
            yield number, None
        except IntegrityError as error:
            raise IntegrityError(
                error.message, remedy="Replay a whole file: cut out the part that is sound"
            ) from error
        else:
            if capture is None:
                return
            yield number, capture.pixels
        number += 1


def only(material: Material, groups: set[str]) -> Material:
    """The part of a material that lies in some groups, without its labels."""
    frames = tuple(frame for frame in material.frames if frame.group in groups)
    return replace(material, frames=frames, split=None)
