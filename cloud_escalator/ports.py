"""What the pipeline needs from the outside, and in which form results come back to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloud_escalator.logic.admit import Refused
from foundation.errors import RejectedError
from foundation.escalations import Encoding, Escalation, Verdict
from foundation.frames import Detections, Pixels


class VerdictSink(Protocol):
    """One client's stream of verdicts, as the pipeline sees it. Used on the event loop only."""

    def attach(self) -> None:
        """One more request awaits its verdict here."""
        ...

    def detach(self) -> None:
        """One request fewer awaits its verdict here: it is about to come, or goes elsewhere."""
        ...

    def deliver(self, verdict: Verdict) -> bool:
        """Sends a verdict; returns False when the stream has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """What becomes of the messages of a stream.

    Attributes:
        submit: takes a valid request, its device, the seconds until it expires, and its stream.
        reject: answers a request that is none: its id if known, why, and its stream.
        shed: answers a request that comes too soon: its id, why, and its stream.
    """

    submit: Callable[[Escalation, str, float, VerdictSink], None]
    reject: Callable[[str, RejectedError, VerdictSink], None]
    shed: Callable[[str, Refused, VerdictSink], None]


@dataclass(frozen=True, slots=True)
class DecodedCrop:
    """A crop's pixels (H, W, 3) uint8 BGR, or why there are none.

    Attributes:
        ticket: the number that it was submitted under.
        outcome: the pixels or the refusal.
        seconds: what decompressing took.
    """

    ticket: int
    outcome: Pixels | RejectedError
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        outcome: per crop the detections, boxes in crop pixels, raw scores; or the model's error.
        seconds: what the run took.
    """

    outcome: list[Detections] | RejectedError
    seconds: float


class CropDecoder(Protocol):
    """Decompresses crops away from the event loop, and wakes the pipeline when some are done."""

    def submit(self, ticket: int, image: bytes, encoding: Encoding) -> None:
        """Starts one crop."""
        ...

    def take(self) -> list[DecodedCrop]:
        """Returns the crops that are done, each once."""
        ...


class BatchModel(Protocol):
    """Runs batches away from the event loop, and wakes the pipeline when one is done."""

    def submit(self, crops: list[Pixels]) -> None:
        """Starts a batch; never called while another one runs."""
        ...

    def take(self) -> list[BatchResult]:
        """Returns the batches that are done, each once."""
        ...


@dataclass(frozen=True, slots=True)
class Workers:
    """What works beside the event loop, and the event that tells of its results."""

    decoder: CropDecoder
    model: BatchModel
    wake: asyncio.Event
