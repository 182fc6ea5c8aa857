"""What crosses the network, as values: the escalation and the verdict.

The protobuf messages are the same things on the wire; `foundation.wire` translates.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np

from foundation.errors import RejectReason
from foundation.frames import Boxes, Detections, Scores

DIGEST_DIGITS = 16
"""Of a bundle's digest, as many as every escalation carries: enough to tell bundles apart."""


class Encoding(enum.StrEnum):
    """How the pixels of a crop are compressed."""

    JPEG = "jpeg"
    WEBP = "webp"
    PNG = "png"
    AVIF = "avif"


@dataclass(frozen=True, slots=True)
class Region:
    """Whole source pixels, right and bottom exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        """Pixels per row."""
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        """Rows."""
        return self.y2 - self.y1

    def lies_inside(self, frame_width: int, frame_height: int) -> bool:
        """Whether it is not empty and every pixel belongs to a frame of this size."""
        return 0 <= self.x1 < self.x2 <= frame_width and 0 <= self.y1 < self.y2 <= frame_height

    def covers(self, frame_width: int, frame_height: int) -> bool:
        """Whether it is the whole of a frame of this size."""
        return (self.width, self.height) == (frame_width, frame_height)


@dataclass(frozen=True, slots=True)
class LabelledBoxes:
    """Detections that carry names instead of class numbers, because two models meet here.

    Attributes:
        boxes: (N, 4) float32, source pixels.
        scores: (N,) float32, calibrated.
        labels: N class names.
    """

    boxes: Boxes
    scores: Scores
    labels: tuple[str, ...]

    @staticmethod
    def empty() -> LabelledBoxes:
        """No boxes."""
        return LabelledBoxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ())

    @staticmethod
    def from_detections(detections: Detections, labels: tuple[str, ...]) -> LabelledBoxes:
        """Names the classes of a model's detections by its bundle's labels."""
        names = tuple(labels[class_id] for class_id in detections.class_ids.tolist())
        return LabelledBoxes(detections.boxes, detections.scores, names)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Escalation:
    """One question to the cloud: native-resolution pixels around one or more proposals.

    Attributes:
        id: unique for ever.
        site: the installation that asks.
        camera: the camera's name.
        track_id: the track that the question is about.
        frame_sequence: position of the frame in the camera's stream.
        captured_at_ns: when the frame was captured.
        expires_at_ns: when the verdict stops being of use.
        frame_width: source pixels per row.
        frame_height: source rows.
        region: where the crop lies in the source frame.
        encoding: how `image` is compressed.
        image: the encoded pixels; they cover exactly `region`.
        proposals: what the edge is not sure of, boxes in source pixels.
        edge_bundle_digest: of the bundle that proposed, the first `DIGEST_DIGITS` or more.
        reason: why the policy escalated.
        value: what an answer is worth, on the edge node's own scale; not negative, 0 is unknown.
    """

    id: str
    site: str
    camera: str
    track_id: int
    frame_sequence: int
    captured_at_ns: int
    expires_at_ns: int
    frame_width: int
    frame_height: int
    region: Region
    encoding: Encoding
    image: bytes = field(repr=False)
    proposals: LabelledBoxes
    edge_bundle_digest: str
    reason: str
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The cloud looked; `detections` (source pixels) may be empty."""

    detections: LabelledBoxes


@dataclass(frozen=True, slots=True)
class Shed:
    """The cloud had no time for it; ask again not earlier than `retry_after_s` from now."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """The cloud can never answer this one."""

    reason: RejectReason
    message: str


@dataclass(frozen=True, slots=True)
class Expired:
    """The expiry passed, or could not have been met; there is no answer."""


Outcome = Answer | Shed | Rejection | Expired


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cloud's reply to one escalation.

    Attributes:
        escalation_id: the question.
        outcome: detections, or why there are none.
        cloud_bundle_digest: the bundle that answered.
        queued_s: from receipt to the start of its batch.
        inference_s: duration of the batch it ran in.
    """

    escalation_id: str
    outcome: Outcome
    cloud_bundle_digest: str = ""
    queued_s: float = 0.0
    inference_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model that the escalator serves."""

    name: str
    version: str
    bundle_digest: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an escalator can do.

    Attributes:
        models: what it serves.
        side_min_px: shortest accepted side of a decoded crop.
        pixels_max: most pixels of a decoded crop.
        message_bytes_max: largest accepted serialized escalation.
        side_native_px: the side that the model sees without enlarging or shrinking.
        encodings: accepted encodings.
    """

    models: tuple[ModelDescription, ...]
    side_min_px: int
    pixels_max: int
    message_bytes_max: int
    side_native_px: int
    encodings: tuple[Encoding, ...]
