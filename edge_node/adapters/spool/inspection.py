"""What the commands show of a spool and take out of it. Reads only, but for purging.

A spool may be damaged, and whoever looks into it wants what is left: what can be read is taken, and
it is said what is missing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Ended, Entry
from edge_node.adapters.spool.salvage import Salvage
from edge_node.values import Cause, EscalationOutcome, Kept
from foundation.clock import Clock, elapsed_s
from foundation.errors import ConfigError, IntegrityError, RejectedError
from foundation.escalations import Answer, LabelledBoxes
from foundation.frames import Pixels
from foundation.images import decode_image

_SHOWN_PX = 384
_COLOURS = {"edge": (0, 160, 255), "cloud": (80, 200, 0)}
_PIXELS_MAX = 1 << 26
_ID_SHOWN = 12


def list_entries(database: SpoolDatabase, clock: Clock, *, state: str, limit: int) -> Iterator[str]:
    """A table of escalations, the newest first, how many there are, and what cannot be read.

    Args:
        database: The spool.
        clock: For their age.
        state: `waiting`, `ended` or `all`.
        limit: Of how many; 0: all.
    """
    found = database.salvage()
    waiting = [entry for entry in found.entries if not entry.outcome]
    ended = [entry for entry in found.entries if entry.outcome]
    entries = {"waiting": waiting, "ended": ended, "all": found.entries}[state][::-1]
    yield (
        f"{'id':<{_ID_SHOWN}}  {'captured (UTC)':<19} {'age':>8} {'reason':<10} {'value':>7} "
        f"{'bytes':>9} {'tries':>5}  state"
    )
    for entry in entries[: limit or None]:
        captured = datetime.fromtimestamp(entry.captured_at_ns / 1e9, UTC)
        cause = f" ({entry.cause})" if entry.cause else ""
        yield (
            f"{entry.id[:_ID_SHOWN]:<{_ID_SHOWN}}  {captured:%Y-%m-%d %H:%M:%S} "
            f"{_age(elapsed_s(entry.captured_at_ns, clock.now_ns())):>8} {entry.reason:<10} "
            f"{entry.value:>7.3f} {entry.size_bytes:>9,} {entry.attempts:>5}  "
            f"{entry.outcome or 'waiting'}{cause}"
        )
    yield (
        f"{len(waiting)} wait ({sum(entry.size_bytes for entry in waiting):,} bytes), "
        f"{len(ended)} have ended ({sum(entry.size_bytes for entry in ended):,} bytes)"
    )
    yield from _missing(found)


def find_entry(database: SpoolDatabase, prefix: str) -> Entry:
    """The one escalation whose id begins like this.

    Raises:
        ConfigError: There is none, or more than one.
    """
    found = database.salvage()
    meant = [entry for entry in found.entries if entry.id.startswith(prefix)]
    if len(meant) != 1:
        which = "escalations" if found.whole else "of the escalations that can be read"
        raise ConfigError(
            f"{len(meant) or 'No'} {which} have an id that begins with {prefix!r}",
            remedy="Give more of the id, as `edge-node spool ls` shows it",
        )
    return meant[0]


def draw_entry(database: SpoolDatabase, entry: Entry, target: Path) -> Iterator[str]:
    """Writes the crop as a picture with what both sides say of it, and tells the same in words.

    Raises:
        ConfigError: The picture cannot be written.
        IntegrityError: The crop is damaged, or was let go of.
        RejectedError: The crop is no picture.
    """
    opinion = _Opinion(database, entry)
    pixels, scale = opinion.picture()
    larger = max(1, round(_SHOWN_PX / max(pixels.shape[:2])))
    pixels = np.repeat(np.repeat(pixels, larger, axis=0), larger, axis=1)
    region = opinion.kept.escalation.region
    for source, boxes in opinion.sides:
        yield f"{source}: {_in_words(boxes)}"
        for (x1, y1, x2, y2), label, score in _rows(boxes):
            corners = [
                round((side - origin) * scale * larger)
                for side, origin in zip((x1, y1, x2, y2), (region.x1, region.y1) * 2, strict=True)
            ]
            first, second = (corners[0], corners[1]), (corners[2], corners[3])
            cv2.rectangle(pixels, first, second, _COLOURS[source], 1)
            name = (first[0], max(10, first[1] - 3) if source == "edge" else second[1] + 11)
            text = f"{label} {score:.2f}"
            cv2.putText(
                pixels, text, name, cv2.FONT_HERSHEY_SIMPLEX, 0.35, _COLOURS[source], 1, cv2.LINE_AA
            )
    _write_picture(target, pixels)
    yield f"{target}: {pixels.shape[1]}x{pixels.shape[0]}, {larger} times enlarged"


def _write_picture(target: Path, pixels: Pixels) -> None:
    try:
        done, picture = cv2.imencode(target.suffix, pixels)
    except cv2.error:  # a suffix that it does not know
        done = False
    if not done:
        raise ConfigError(
            f"Cannot write {target}: its suffix is of no kind of picture",
            remedy="Choose a path that ends in .png",
        )
    try:
        target.write_bytes(picture.tobytes())
    except OSError as error:
        raise ConfigError(
            f"Cannot write {target.name} in {target.parent.absolute()}: {error.strerror}",
            remedy="Choose a folder that is there and may be written",
        ) from error


@dataclass
class _Coco:
    """One side's opinions as a COCO document."""

    categories: dict[str, int] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, image_id: int, boxes: LabelledBoxes, to_crop: Callable[[float, int], float]
    ) -> None:
        """Adds the boxes of one crop."""
        for sides, label, score in _rows(boxes):
            x1, y1, x2, y2 = (to_crop(side, axis % 2) for axis, side in enumerate(sides))
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": self.categories.setdefault(label, len(self.categories) + 1),
                    "bbox": [round(each, 2) for each in (x1, y1, x2 - x1, y2 - y1)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "score": round(score, 4),
                }
            )

    def document(self, images: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The file."""
        categories = [{"id": id_, "name": name} for name, id_ in self.categories.items()]
        return {"images": images, "annotations": self.annotations, "categories": categories}


def export_coco(database: SpoolDatabase, folder: Path) -> Iterator[str]:
    """Writes answered crops and both opinions: images/, instances.json (cloud), edge.json.

    Boxes are in pixels of the crop. It is a split as `model-workshop` reads it. What cannot be read
    is left out, and that is said at the end.

    Raises:
        ConfigError: The folder cannot be written, or holds something already.
        IntegrityError: Something cannot be read, and no crop is left to be written.
    """
    _make_empty(folder / "images", folder)
    sides = {"edge": _Coco(), "cloud": _Coco()}
    images: list[dict[str, Any]] = []
    gone = damaged = 0
    with database.snapshot():
        found = database.salvage()
        for entry in found.entries:
            if entry.outcome != EscalationOutcome.ANSWERED.value:
                continue
            if not entry.size_bytes:
                gone += 1
                continue
            try:
                opinion = _Opinion(database, entry)
                pixels, scale = opinion.picture()
            except (IntegrityError, RejectedError):
                damaged += 1
                continue
            images.append(_describe(entry, opinion, pixels, image_id=len(images) + 1))
            name = images[-1]["file_name"]
            (folder / "images" / name).write_bytes(opinion.kept.escalation.image)
            for source, boxes in opinion.sides:
                sides[source].add(len(images), boxes, opinion.to_crop(pixels, scale))
    for source, name in (("cloud", "instances.json"), ("edge", "edge.json")):
        text = json.dumps(sides[source].document(images), indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    yield (
        f"{folder}: {len(images)} crops, {len(sides['cloud'].annotations)} boxes of the cloud, "
        f"{len(sides['edge'].annotations)} of the edge"
    )
    if gone:
        yield f"{gone} answered ones have no crop any more"
    if damaged:
        yield f"{damaged} answered ones cannot be read"
    yield from _missing(found)
    if not images and (damaged or not found.whole):
        raise IntegrityError(
            f"The spool is damaged, and no crop could be written to {folder}",
            remedy="`edge-node spool check` tells what is damaged",
        )


def purge(database: SpoolDatabase, entries: Iterable[Entry], clock: Clock) -> int:
    """Drops the crops of escalations; those that wait end as evicted. Returns how many."""
    entries = list(entries)
    with database.transaction():
        for entry in entries:
            if entry.outcome:
                database.forget([entry.id])
            else:
                evicted = EscalationOutcome.EVICTED
                database.end(Ended(entry.id, evicted, Cause.PURGED, clock.now_ns()))
                database.drop_crops([entry.id])
    database.compact(1 << 20)
    return len(entries)


class _Opinion:
    """A crop with what both sides say of it, boxes in pixels of the source frame."""

    def __init__(self, database: SpoolDatabase, entry: Entry) -> None:
        try:
            self.kept: Kept = database.kept(entry)
            verdict = database.verdict(entry.id)
        except sqlite3.DatabaseError as error:
            raise IntegrityError(f"The crop of {entry.id} cannot be read: {error}") from error
        self.sides = [("edge", self.kept.escalation.proposals)]
        if verdict is not None and isinstance(verdict.outcome, Answer):
            self.sides.append(("cloud", verdict.outcome.detections))

    def picture(self) -> tuple[Pixels, float]:
        """The crop (H, W, 3) uint8 BGR, and its pixels per pixel of the frame."""
        escalation = self.kept.escalation
        pixels = decode_image(
            escalation.image, escalation.encoding, side_min_px=1, pixels_max=_PIXELS_MAX
        )
        return pixels, pixels.shape[1] / escalation.region.width

    def to_crop(self, pixels: Pixels, scale: float) -> Callable[[float, int], float]:
        """From a side of a box and its axis to pixels of the crop, inside it."""
        region = self.kept.escalation.region
        corner, limits = (region.x1, region.y1), (pixels.shape[1], pixels.shape[0])

        def to_crop(side: float, axis: int) -> float:
            return min(max((side - corner[axis]) * scale, 0.0), float(limits[axis]))

        return to_crop


def _describe(entry: Entry, opinion: _Opinion, pixels: Pixels, *, image_id: int) -> dict[str, Any]:
    """The crop as an image of a COCO document."""
    escalation = opinion.kept.escalation
    return {
        "id": image_id,
        "file_name": f"{entry.id}.{escalation.encoding.value}",
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "date_captured": datetime.fromtimestamp(entry.captured_at_ns / 1e9, UTC).isoformat(),
        "camera": escalation.camera,
        "reason": entry.reason,
    }


def _missing(found: Salvage) -> Iterator[str]:
    """What a command could not take in; nothing, if there is nothing."""
    if found.bad_rows:
        yield f"{len(found.bad_rows)} rows are damaged and are not among these"
    if found.broken:
        yield f"The file is damaged and there may be more than could be read: {found.broken}"


def _make_empty(images: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty", remedy="Choose a new folder to export to")
        images.mkdir()
    except OSError as error:
        raise ConfigError(
            f"Cannot export to {folder}: {error.strerror}", remedy="Choose another folder"
        ) from error


def _rows(boxes: LabelledBoxes) -> Iterator[tuple[list[float], str, float]]:
    return zip(boxes.boxes.tolist(), boxes.labels, boxes.scores.tolist(), strict=True)


def _in_words(boxes: LabelledBoxes) -> str:
    return ", ".join(f"{label} {score:.2f}" for _, label, score in _rows(boxes)) or "nothing"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
