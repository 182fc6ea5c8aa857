"""The table of what becomes of an escalation."""

from __future__ import annotations

import typing

import pytest

from edge_node.logic.fate import REJECTIONS, Fate, fate_of, fate_of_encoded
from edge_node.values import EscalationOutcome
from foundation.errors import RejectReason
from foundation.escalations import Answer, Expired, LabelledBoxes, Outcome, Rejection, Shed

OUTCOMES: dict[type, Outcome] = {
    Answer: Answer(LabelledBoxes.empty()),
    Shed: Shed(1.0),
    Rejection: Rejection(RejectReason.MALFORMED, ""),
    Expired: Expired(),
}


def test_table_is_total() -> None:
    """Every reason of the contract and every kind of outcome has a fate."""
    assert set(REJECTIONS) == set(RejectReason)
    assert set(OUTCOMES) == set(typing.get_args(Outcome))
    for outcome in OUTCOMES.values():
        assert fate_of(outcome) in Fate


def test_only_an_answer_answers_and_only_rejections_fail() -> None:
    """What the cloud had no time for is sent again; so is what an operator can mend."""
    assert fate_of(OUTCOMES[Answer]) is Fate.ANSWERED
    assert fate_of(OUTCOMES[Shed]) is fate_of(OUTCOMES[Expired]) is Fate.SEND
    assert fate_of(Rejection(RejectReason.NOT_PERMITTED, "")) is Fate.SEND
    failed = {reason for reason, fate in REJECTIONS.items() if fate is not Fate.SEND}
    assert failed == set(RejectReason) - {RejectReason.NOT_PERMITTED}
    assert {REJECTIONS[reason].ending[0] for reason in failed} == {EscalationOutcome.FAILED}


def test_what_is_sent_again_has_not_ended() -> None:
    """Asking how is a mistake."""
    with pytest.raises(ValueError, match="not ended"):
        _ = Fate.SEND.ending


@pytest.mark.parametrize("shadow", [False, True])
def test_what_is_encoded_is_sent_where_it_may_leave_and_is_worth_it(*, shadow: bool) -> None:
    """In shadow it ends in the same way, but for what would be sent."""
    would_leave = Fate.WITHHELD if shadow else Fate.SEND
    assert fate_of_encoded(100, 100.0, may_leave=True, shadow=shadow) is would_leave
    assert fate_of_encoded(101, 100.0, may_leave=True, shadow=shadow) is Fate.FORGONE
    assert fate_of_encoded(101, 100.0, may_leave=False, shadow=shadow) is Fate.FORBIDDEN
