"""What the commands show of a spool and take out of it. Reads only, but for purging."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Ended, Entry
from edge_node.values import Cause, EscalationOutcome, Kept
from foundation.clock import Clock, elapsed_s
from foundation.errors import ConfigError, IntegrityError
from foundation.escalations import Answer, LabelledBoxes
from foundation.frames import Pixels
from foundation.images import decode_image

_SHOWN_PX = 384
_COLOURS = {"edge": (0, 160, 255), "cloud": (80, 200, 0)}
_PIXELS_MAX = 1 << 26
_ID_SHOWN = 12


def list_entries(database: SpoolDatabase, clock: Clock, *, state: str, limit: int) -> Iterator[str]:
    """A table of escalations, the newest first, and how many there are.

    Args:
        database: The spool.
        clock: For their age.
        state: `waiting`, `ended` or `all`.
        limit: Of how many; 0: all.
    """
    condition = {"waiting": "outcome = ''", "ended": "outcome <> ''", "all": ""}[state]
    entries = list(database.entries(condition))[::-1]
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
    totals = database.totals()
    yield (
        f"{totals.waiting} wait ({totals.waiting_bytes:,} bytes), {totals.ended} have ended "
        f"({totals.ended_bytes:,} bytes)"
    )


def find_entry(database: SpoolDatabase, prefix: str) -> Entry:
    """The one escalation whose id begins like this.

    Raises:
        ConfigError: There is none, or more than one.
    """
    found = [entry for entry in database.entries() if entry.id.startswith(prefix)]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found) or 'No'} escalations have an id that begins with {prefix!r}",
            remedy="Give more of the id, as `edge-node spool ls` shows it",
        )
    return found[0]


def draw_entry(database: SpoolDatabase, entry: Entry, target: Path) -> Iterator[str]:
    """Writes the crop as a picture with what both sides say of it, and tells the same in words.

    Raises:
        ConfigError: The picture cannot be written.
        IntegrityError: The crop is damaged, or was let go of.
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
    if not cv2.imwrite(str(target), pixels):
        raise ConfigError(f"Cannot write {target}", remedy="Choose a path that ends in .png")
    yield f"{target}: {pixels.shape[1]}x{pixels.shape[0]}, {larger} times enlarged"


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

    Boxes are in pixels of the crop. It is a split as `model-workshop` reads it.

    Raises:
        ConfigError: The folder cannot be written, or holds something already.
    """
    _make_empty(folder / "images", folder)
    sides = {"edge": _Coco(), "cloud": _Coco()}
    images: list[dict[str, Any]] = []
    lost = 0
    for entry in database.entries("outcome = ?", (EscalationOutcome.ANSWERED.value,)):
        try:
            opinion = _Opinion(database, entry)
            pixels, scale = opinion.picture()
        except IntegrityError:
            lost += 1
            continue
        escalation = opinion.kept.escalation
        corner = (escalation.region.x1, escalation.region.y1)
        limits = (pixels.shape[1], pixels.shape[0])

        def to_crop(
            side: float,
            axis: int,
            corner: tuple[int, int] = corner,
            limits: tuple[int, int] = limits,
            scale: float = scale,
        ) -> float:
            return min(max((side - corner[axis]) * scale, 0.0), float(limits[axis]))

        name = f"{entry.id}.{escalation.encoding.value}"
        (folder / "images" / name).write_bytes(escalation.image)
        images.append(
            {
                "id": len(images) + 1,
                "file_name": name,
                "width": limits[0],
                "height": limits[1],
                "date_captured": datetime.fromtimestamp(
                    entry.captured_at_ns / 1e9, UTC
                ).isoformat(),
                "camera": escalation.camera,
                "reason": entry.reason,
            }
        )
        for source, boxes in opinion.sides:
            sides[source].add(len(images), boxes, to_crop)
    for source, name in (("cloud", "instances.json"), ("edge", "edge.json")):
        text = json.dumps(sides[source].document(images), indent=1) + "\n"
        (folder / name).write_text(text, encoding="utf-8")
    yield (
        f"{folder}: {len(images)} crops, {len(sides['cloud'].annotations)} boxes of the cloud, "
        f"{len(sides['edge'].annotations)} of the edge"
    )
    if lost:
        yield f"{lost} answered ones have no crop any more"


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
        self.kept: Kept = database.kept(entry)
        self.sides = [("edge", self.kept.escalation.proposals)]
        verdict = database.verdict(entry.id)
        if verdict is not None and isinstance(verdict.outcome, Answer):
            self.sides.append(("cloud", verdict.outcome.detections))

    def picture(self) -> tuple[Pixels, float]:
        """The crop (H, W, 3) uint8 BGR, and its pixels per pixel of the frame."""
        escalation = self.kept.escalation
        pixels = decode_image(
            escalation.image, escalation.encoding, side_min_px=1, pixels_max=_PIXELS_MAX
        )
        return pixels, pixels.shape[1] / escalation.region.width


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
