"""Values survive the wire unchanged, and what no value can express does not get past it."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import (
    DIGEST_DIGITS,
    Answer,
    Capabilities,
    Encoding,
    Escalation,
    Expired,
    LabelledBoxes,
    ModelDescription,
    Region,
    Rejection,
    Shed,
    Verdict,
)
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES
from foundation.wire import (
    capabilities_from_proto,
    capabilities_to_proto,
    escalation_from_proto,
    escalation_to_proto,
    verdict_from_proto,
    verdict_to_proto,
)
from protos.escalation.v1 import escalation_pb2

NOW_NS = 1_700_000_000_000_000_000

single = st.floats(0, 4000, width=32)
text = st.text(max_size=20)
instant = st.integers(1, 2**63)


@st.composite
def labelled_boxes(draw: st.DrawFn) -> LabelledBoxes:
    """Up to five boxes with scores and names."""
    rows = draw(
        st.lists(
            st.tuples(single, single, single, single, st.floats(0, 1, width=32), text), max_size=5
        )
    )
    corners = [(min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)) for xa, ya, xb, yb, *_ in rows]
    return LabelledBoxes(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([row[4] for row in rows], np.float32),
        tuple(row[5] for row in rows),
    )


@st.composite
def escalations(draw: st.DrawFn) -> Escalation:
    """Any request that the contract allows."""
    width, height = draw(st.integers(1, 5000)), draw(st.integers(1, 5000))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return Escalation(
        id=draw(st.text(min_size=1, max_size=64)),
        site=draw(text),
        camera=draw(text),
        track_id=draw(st.integers(0, 2**63)),
        frame_sequence=draw(st.integers(0, 2**63)),
        captured_at_ns=draw(instant),
        expires_at_ns=draw(instant),
        frame_width=width,
        frame_height=height,
        region=Region(x1, y1, x2, y2),
        encoding=draw(st.sampled_from(Encoding)),
        image=draw(st.binary(min_size=1, max_size=50)),
        proposals=draw(labelled_boxes()),
        edge_bundle_digest=draw(text),
        reason=draw(text),
        value=draw(single),
    )


verdicts = st.builds(
    Verdict,
    escalation_id=st.text(min_size=1, max_size=64),
    outcome=st.one_of(
        st.builds(Answer, labelled_boxes()),
        st.builds(Shed, st.floats(0, 100, width=32)),
        st.builds(Rejection, st.sampled_from(RejectReason), text),
        st.builds(Expired),
    ),
    cloud_bundle_digest=text,
    queued_s=st.floats(0, 100, width=32),
    inference_s=st.floats(0, 100, width=32),
)


def assert_same_boxes(first: LabelledBoxes, second: LabelledBoxes) -> None:
    """Compares two sets of boxes exactly."""
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.labels == second.labels


@given(escalations(), instant)
def test_escalation_round_trip(asked: Escalation, sent_at_ns: int) -> None:
    """Every field of a request arrives as it was, and the time left is counted from its sending."""
    data = escalation_to_proto(asked, sent_at_ns=sent_at_ns).SerializeToString()
    read, remaining_s = escalation_from_proto(escalation_pb2.Escalation.FromString(data))
    assert remaining_s == pytest.approx((asked.expires_at_ns - sent_at_ns) / 1e9)
    for name in Escalation.__dataclass_fields__:
        if name != "proposals":
            assert getattr(read, name) == getattr(asked, name), name
    assert_same_boxes(read.proposals, asked.proposals)


@given(verdicts)
def test_verdict_round_trip(verdict: Verdict) -> None:
    """Every outcome arrives as it was; an empty answer stays an answer."""
    data = verdict_to_proto(verdict).SerializeToString()
    read = verdict_from_proto(escalation_pb2.Verdict.FromString(data))
    assert type(read.outcome) is type(verdict.outcome)
    if isinstance(verdict.outcome, Answer):
        assert isinstance(read.outcome, Answer)
        assert_same_boxes(read.outcome.detections, verdict.outcome.detections)
    else:
        assert read.outcome == verdict.outcome
    for name in ("escalation_id", "cloud_bundle_digest", "queued_s", "inference_s"):
        assert getattr(read, name) == getattr(verdict, name)


def test_capabilities_round_trip() -> None:
    """What an escalator can do arrives as it was said."""
    said = Capabilities(
        models=(ModelDescription("squares", "1", "d" * 64, ("blue", "red")),),
        side_min_px=8,
        pixels_max=1_000_000,
        message_bytes_max=1 << 20,
        side_native_px=160,
        encodings=(Encoding.WEBP, Encoding.PNG),
    )
    data = capabilities_to_proto(said).SerializeToString()
    read = escalation_pb2.GetCapabilitiesResponse.FromString(data)
    assert capabilities_from_proto(read) == said


def sound() -> escalation_pb2.Escalation:
    """A message that is accepted."""
    return escalation_pb2.Escalation(
        id="a",
        expires_at_ns=NOW_NS + 10**9,
        sent_at_ns=NOW_NS,
        frame_width=100,
        frame_height=50,
        region=escalation_pb2.Region(x1=0, y1=0, x2=100, y2=50),
        encoding=escalation_pb2.ENCODING_JPEG,
        image=b"x",
    )


def test_sound_message_is_accepted() -> None:
    """The message that the following tests spoil is not refused for another reason."""
    assert escalation_from_proto(sound())[1] == 1.0


BOX = escalation_pb2.Box(x1=0, y1=0, x2=1, y2=1)
INVERTED = escalation_pb2.Box(x1=5, y1=0, x2=1, y2=1)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ({"id": ""}, RejectReason.MALFORMED),
        ({"id": "x" * 65}, RejectReason.MALFORMED),
        ({"camera": "x" * 1000}, RejectReason.MALFORMED),
        ({"sent_at_ns": 0}, RejectReason.MALFORMED),
        ({"expires_at_ns": 0}, RejectReason.MALFORMED),
        ({"image": b""}, RejectReason.MALFORMED),
        ({"value": -1.0}, RejectReason.MALFORMED),
        ({"value": float("inf")}, RejectReason.MALFORMED),
        ({"value": float("nan")}, RejectReason.MALFORMED),
        ({"encoding": escalation_pb2.ENCODING_UNSPECIFIED}, RejectReason.UNSUPPORTED_ENCODING),
        ({"encoding": 77}, RejectReason.UNSUPPORTED_ENCODING),
        ({"frame_width": 99}, RejectReason.OUTSIDE_FRAME),
        ({"frame_height": 0}, RejectReason.OUTSIDE_FRAME),
        ({"region": escalation_pb2.Region(x1=-1, x2=9, y2=9)}, RejectReason.OUTSIDE_FRAME),
        ({"region": escalation_pb2.Region(x1=9, x2=9, y2=9)}, RejectReason.OUTSIDE_FRAME),
        ({"region": escalation_pb2.Region()}, RejectReason.OUTSIDE_FRAME),
        (
            {"proposals": [escalation_pb2.Detection(box=INVERTED, score=0.5, label="a")]},
            RejectReason.MALFORMED,
        ),
        (
            {"proposals": [escalation_pb2.Detection(box=BOX, score=1.5, label="a")]},
            RejectReason.MALFORMED,
        ),
        (
            {"proposals": [escalation_pb2.Detection(box=BOX, score=float("nan"), label="a")]},
            RejectReason.MALFORMED,
        ),
        (
            {"proposals": [escalation_pb2.Detection(box=BOX, score=0.5)] * 1001},
            RejectReason.MALFORMED,
        ),
    ],
)
def test_spoilt_message_is_refused_by_reason(
    spoilt: dict[str, object], reason: RejectReason
) -> None:
    """A field that is missing, contradicts another or exceeds its bound is refused, and why."""
    message = sound()
    for name in spoilt:
        message.ClearField(name)
    message.MergeFrom(escalation_pb2.Escalation(**spoilt))  # type: ignore[arg-type]
    with pytest.raises(RejectedError) as caught:
        escalation_from_proto(message)
    assert caught.value.reason is reason


def test_verdict_without_a_known_outcome_is_a_rejection() -> None:
    """An outcome of a later version is not taken for an empty answer."""
    read = verdict_from_proto(escalation_pb2.Verdict(escalation_id="a"))
    assert isinstance(read.outcome, Rejection)


def test_verdict_without_an_id_answers_nothing() -> None:
    """A verdict that names no escalation is refused."""
    with pytest.raises(RejectedError):
        verdict_from_proto(escalation_pb2.Verdict())


def test_unknown_reject_reason_reads_as_malformed() -> None:
    """A reason of a later version still rejects."""
    message = escalation_pb2.Verdict(escalation_id="a")
    message.rejection.reason = 77  # type: ignore[assignment]
    read = verdict_from_proto(message)
    assert read.outcome == Rejection(RejectReason.MALFORMED, "")


def test_unknown_encodings_are_left_out_of_capabilities() -> None:
    """An edge node chooses among the encodings that it knows."""
    message = escalation_pb2.GetCapabilitiesResponse(encodings=[2, 77])  # type: ignore[list-item]
    assert capabilities_from_proto(message).encodings == (Encoding.WEBP,)


@pytest.mark.parametrize("proposals", [0, 1, 5])
def test_what_a_budget_counts_around_an_image_is_what_it_takes(proposals: int) -> None:
    """To the length of names and numbers: a budget that counts less is exceeded."""
    escalation = Escalation(
        id=uuid.uuid4().hex,
        site="plant-nord",
        camera="line-2-top",
        track_id=70_000,
        frame_sequence=9_000_000,
        captured_at_ns=NOW_NS,
        expires_at_ns=NOW_NS,
        frame_width=1280,
        frame_height=960,
        region=Region(1000, 800, 1056, 856),
        encoding=Encoding.WEBP,
        image=b"i" * 600,
        proposals=LabelledBoxes(
            np.full((proposals, 4), 1010, np.float32),
            np.full(proposals, 0.5, np.float32),
            ("spurious_copper",) * proposals,
        ),
        edge_bundle_digest="d" * DIGEST_DIGITS,
        reason="uncertain",
        value=0.25,
    )
    message = escalation_to_proto(escalation, sent_at_ns=NOW_NS)
    framing = 5 + 9  # of gRPC and HTTP/2
    takes = message.ByteSize() + framing - len(escalation.image)
    assert abs(takes - (FRAMING_BYTES + proposals * PROPOSAL_BYTES)) <= 15 + 10 * proposals
