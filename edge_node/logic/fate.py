"""What becomes of an escalation by its size and by what was heard of it; a test holds it total.

It has ended where asking again cannot change the answer, and waits for another attempt where it
can. How long it waits, and whether it is still wanted then, is the escalation lane's business.
"""

from __future__ import annotations

import enum

from edge_node.values import Cause, EscalationOutcome
from foundation.errors import RejectReason
from foundation.escalations import Answer, Expired, Outcome, Rejection, Shed


class Fate(enum.Enum):
    """How an escalation has ended, or that it is to be sent, perhaps again."""

    ANSWERED = (EscalationOutcome.ANSWERED, Cause.NONE)
    REJECTED = (EscalationOutcome.FAILED, Cause.REJECTED)
    TOO_LARGE = (EscalationOutcome.FAILED, Cause.TOO_LARGE)
    NO_ROOM = (EscalationOutcome.EVICTED, Cause.ENCODE_QUEUE_FULL)
    FORGONE = (EscalationOutcome.FORGONE, Cause.NONE)
    WITHHELD = (EscalationOutcome.WITHHELD, Cause.NONE)
    FORBIDDEN = (EscalationOutcome.WITHHELD, Cause.EGRESS)
    SEND = None

    @property
    def ending(self) -> tuple[EscalationOutcome, Cause]:
        """How it has ended.

        Raises:
            ValueError: It has not.
        """
        ending: tuple[EscalationOutcome, Cause] | None = self.value
        if ending is None:
            raise ValueError("an escalation that is to be sent has not ended")
        return ending


REJECTIONS = {
    RejectReason.MALFORMED: Fate.REJECTED,
    RejectReason.NOT_AN_IMAGE: Fate.REJECTED,
    RejectReason.TOO_SMALL: Fate.REJECTED,
    RejectReason.TOO_LARGE: Fate.TOO_LARGE,
    RejectReason.OUTSIDE_FRAME: Fate.REJECTED,
    RejectReason.UNSUPPORTED_ENCODING: Fate.REJECTED,
    RejectReason.INFERENCE_FAILED: Fate.REJECTED,
    # An operator can mend the certificate; the escalation is as good as it was.
    RejectReason.NOT_PERMITTED: Fate.SEND,
}


def fate_of(outcome: Outcome) -> Fate:
    """What a verdict means for its escalation."""
    match outcome:
        case Answer():
            return Fate.ANSWERED
        case Rejection(reason, _):
            return REJECTIONS[reason]
        case Shed() | Expired():
            return Fate.SEND


def fate_of_encoded(size_bytes: int, worth_bytes: float, *, may_leave: bool, shadow: bool) -> Fate:
    """What becomes of a candidate that has been encoded.

    Args:
        size_bytes: Of its image.
        worth_bytes: The largest image that is worth sending.
        may_leave: The egress policy lets it.
        shadow: Nothing is sent.
    """
    if not may_leave:
        return Fate.FORBIDDEN
    if size_bytes > worth_bytes:
        return Fate.FORGONE
    return Fate.WITHHELD if shadow else Fate.SEND
