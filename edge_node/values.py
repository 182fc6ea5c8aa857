"""Words of the edge node that several of its parts exchange: outcomes, questions and their ends."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region, Verdict
from foundation.frames import Boxes, Pixels
from foundation.levels import Level


class FrameOutcome(enum.StrEnum):
    """How a captured frame ended; each ends in exactly one of these."""

    ON_TIME = "on_time"
    LATE = "late"
    COASTED = "coasted"
    DROPPED = "dropped"
    FAILED = "failed"


class EscalationOutcome(enum.StrEnum):
    """How an escalation ended; each ends in exactly one of these."""

    ANSWERED = "answered"
    SHED = "shed"
    EXPIRED = "expired"
    FAILED = "failed"
    EVICTED = "evicted"
    FORGONE = "forgone"
    """Encoded, and larger than it is worth; its tracks may be asked about again."""
    WITHHELD = "withheld"
    """Decided and encoded, and never to be sent: in shadow, or by the egress policy."""


class Cause(enum.StrEnum):
    """Why an escalation ended without an answer, where its outcome does not say so already."""

    NONE = ""
    REJECTED = "rejected"
    ENCODE_QUEUE_FULL = "encode_queue_full"
    SPOOL_FULL = "spool_full"
    TOO_LARGE = "too_large"
    UNENCODABLE = "unencodable"
    SHUTDOWN = "shutdown"
    UNDELIVERABLE = "undeliverable"
    """The stream broke each time that it was sent."""
    DAMAGED = "damaged"
    """What the spool held of it is not what was written, or the file that held it was damaged."""
    EGRESS = "egress"
    """It may not leave the site."""
    PURGED = "purged"
    """An operator took it out of the spool."""


class SpoolLoss(enum.StrEnum):
    """Why an escalation is not in the durable spool; it is lost if the process ends while fresh."""

    BUSY = "busy"
    """The disk did not keep up with what was to be written."""
    DISK = "disk"
    """The disk is full, read-only or failing, or the file was damaged."""


class EgressRefusal(enum.StrEnum):
    """Why an escalation may not leave the site."""

    NOTHING = "nothing"
    """Nothing may."""
    LABEL = "label"
    """It asks about an object of a class that is never sent."""
    SIDE = "side"
    """Its crop is longer than may be."""
    BYTES = "bytes"
    """Its crop takes more bytes than may be."""
    HIDDEN = "hidden"
    """Most of its crop is masked."""


class NodeEvent(enum.StrEnum):
    """What can happen to the budget that the cameras of one machine share."""

    RESET = "reset"
    """The file was not usable as it was and began again as an empty bucket."""
    CONTENDED = "contended"
    """Another process had the lock."""
    UNWRITTEN = "unwritten"
    """The file could not be read or written."""
    FORGOTTEN = "forgotten"
    """An offer was lost to the statistics because the lock was never to be had."""


class AuditLoss(enum.StrEnum):
    """Why an audit that was drawn has no answer."""

    NO_CROP = "no_crop"
    """The track had ended before a whole crop of it was held."""
    UNPAID = "unpaid"
    """A budget did not allow it."""
    UNANSWERED = "unanswered"
    """It was asked, and no answer came; in shadow none does."""
    UNDECIDED = "undecided"
    """The answer decides nothing about the track."""


class IgnoredVerdict(enum.StrEnum):
    """Why a verdict had no effect."""

    ENDED = "ended"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"


class IgnoredPart(enum.StrEnum):
    """Why a part of an answer, a box or what it says about a track, changed nothing."""

    MALFORMED = "malformed"
    OUTSIDE_CROP = "outside_crop"
    WEAK = "weak"
    EXCESS = "excess"
    CUT = "cut"
    DOUBLE = "double"
    OUTRANKED = "outranked"
    TRACK_GONE = "track_gone"
    NO_ROOM = "no_room"


class Effect(enum.StrEnum):
    """What a verdict changed about one track; `undecided` that it was answered and nothing did."""

    CONFIRMED = "confirmed"
    RECLASSIFIED = "reclassified"
    REFUTED = "refuted"
    ADDED = "added"
    UNDECIDED = "undecided"


class Reason(enum.StrEnum):
    """Why the edge asked."""

    UNCERTAIN = "uncertain"
    LEAVING = "leaving"
    CHANGED = "changed"
    """The evidence about a track is another than when the cloud looked."""
    GAP = "gap"
    """A track that was there is not found."""
    BACKGROUND = "background"
    """Something differs from the background where nothing was detected."""
    NOVELTY = "novelty"
    """The frame is unlike ordinary ones."""
    AUDIT = "audit"
    """Drawn by lot from what the edge was sure of."""


class Suppression(enum.IntEnum):
    """Why the edge did not ask about a track; counted once per track and change of cause."""

    NONE = 0
    OUTSIDE_BAND = 1
    CUT_BY_FRAME = 2
    COOLDOWN = 3
    BUDGET_REQUESTS = 4
    BUDGET_BYTES = 5
    NO_ESCALATOR = 6
    PRICE = 7
    """An answer is worth less than it costs."""
    WITHIN_RISK = 8
    """The edge is sure enough for the risk that is promised."""
    BUDGET_CONTENDED = 9
    BUDGET_UNUSABLE = 10
    ENCODER_BUSY = 11
    PENDING = 12
    """Of a place: the track there has just been asked about for another reason."""
    HIDDEN = 13
    """Most of it may not leave, so that the cloud could not find it."""


REFUSALS = (
    Suppression.PRICE,
    Suppression.BUDGET_REQUESTS,
    Suppression.BUDGET_BYTES,
    Suppression.BUDGET_CONTENDED,
    Suppression.BUDGET_UNUSABLE,
    Suppression.ENCODER_BUSY,
)
"""What an aim says to an offer that may be made again."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One track as it was when a crop around it was cut.

    Attributes:
        track_id: The track.
        box: (4,) float32, source pixels of the frame of capture.
        label: The edge's class name at that time.
        score: The edge's calibrated score at that time.
        asked: True when the verdict is to decide about it; False when the crop merely shows it or
            a part of it.
    """

    track_id: int
    box: Boxes
    label: str
    score: float
    asked: bool


@dataclass(frozen=True, slots=True)
class Question:
    """What the frame lane remembers of an escalation until it ends.

    Attributes:
        id: The escalation's id, unique for ever.
        sequence: The frame it was cut from.
        captured_at_ns: When that frame was captured.
        expires_at_ns: When its verdict stops being of use.
        region: Where the crop lies.
        frame_width: Source pixels per row.
        frame_height: Source rows.
        subjects: The tracks in the crop; the first is the one that made the policy ask.
        reason: Why the policy asked.
        level: How the crop is encoded, as text.
        gain: What the policy expects of the answer.
        scene_moves: Whether the scene moved as a whole.
    """

    id: str
    sequence: int
    captured_at_ns: int
    expires_at_ns: int
    region: Region
    frame_width: int
    frame_height: int
    subjects: tuple[Subject, ...]
    reason: str
    level: str
    gain: float
    scene_moves: bool


class Standing(NamedTuple):
    """How much a finding is worth beside another one about the same track; the greater stands.

    The order is total and knows nothing of arrival, so verdicts may come in any order. What the
    crop's border did not cut goes before what it cut, a crop with surroundings before one without;
    then the later frame, the wider surroundings, and the smaller crop, which the cloud saw at the
    higher resolution.
    """

    whole: bool
    in_context: bool
    sequence: int
    context: float
    pixels_negated: int
    score: float
    escalation_id: str


class Finding(NamedTuple):
    """What the verdict says about one track, or about an object without a track.

    Attributes:
        effect: What changes.
        subject: Position in the question's subjects; -1 for an added object.
        detection: Position in the verdict's detections; -1 for a refuted track.
        standing: Its worth; where `whole` is false the detection's box says nothing about where.
    """

    effect: Effect
    subject: int
    detection: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, read: what it says about a question, whatever has become of the tracks since.

    Attributes:
        findings: About subjects, in their order, then added objects.
        boxes: The verdict's boxes (N), without what lies outside the crop.
        ignored: How many of its boxes changed nothing, by cause.
    """

    findings: list[Finding]
    boxes: list[Sequence[float]]
    ignored: Counter[IgnoredPart]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question with its pixels, on its way from the frame lane to the encoder.

    Attributes:
        question: What is asked.
        pixels: uint8 BGR copy of the crop, native resolution.
        proposals: What the edge believes is in it, source pixels; the first is the question's own.
        level: How it is encoded.
        value: What an answer is worth; the spool evicts the least first.
        image_bytes_max: A larger image is not worth sending.
    """

    question: Question
    pixels: Pixels = field(repr=False)
    proposals: LabelledBoxes
    level: Level
    value: float
    image_bytes_max: float


@dataclass(frozen=True, slots=True)
class Kept:
    """An escalation as the spool keeps it: with everything that its verdict needs to be understood.

    Attributes:
        escalation: What is sent.
        question: What the frame lane knew when it asked.
        value: What an answer is worth.
        run: Of which run of this edge node the question's tracks are.
        egress: Under which egress settings the crop was cut, as `logic.egress.digest_of` says.
        attempts: How often the stream broke while it was on its way.
    """

    escalation: Escalation
    question: Question
    value: float
    run: str
    egress: str
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Encoded:
    """News for the frame lane: how large a crop is, and whether it is forgone because of that."""

    escalation_id: str
    size_bytes: int
    forgone: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """News for the frame lane: an escalation has ended.

    Attributes:
        escalation_id: Which.
        outcome: How.
        cause: Why, where the outcome does not say so.
        ended_at_ns: When; for an answer, when the verdict arrived.
        verdict: The answer, when there is one.
        judged: What it says.
        late: What had been asked, where the frame lane has let go of the question since.
        other_run: The tracks of `late` are those of an earlier run.
    """

    escalation_id: str
    outcome: EscalationOutcome
    cause: Cause
    ended_at_ns: int
    verdict: Verdict | None = None
    judged: Judgement | None = None
    late: Question | None = None
    other_run: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """News for the frame lane: no longer fresh, an escalation waits in the spool for its turn."""

    escalation_id: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """News for the frame lane: how the escalator that was reached lets crops be encoded."""

    encodings: frozenset[Encoding]


@dataclass(frozen=True, slots=True)
class Repeated:
    """News for the frame lane: so many bytes leave once more, which nobody has paid for yet."""

    size_bytes: int


News = Encoded | Ending | Deferred | Accepted | Repeated
