"""Values to messages and back, and messages that no honest sender writes."""

from __future__ import annotations

import contextlib
import math
import tracemalloc
from collections.abc import Callable

import grpc
import grpc.aio
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import (
    ConfigError,
    HardcaseError,
    OverloadError,
    RejectedError,
    RejectReason,
    TransientError,
)
from foundation.escalations import (
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
from foundation.wire import (
    ID_LENGTH_MAX,
    capabilities_from_proto,
    capabilities_to_proto,
    error_from_rpc,
    escalation_from_proto,
    escalation_to_proto,
    id_in_front,
    verdict_from_proto,
    verdict_to_proto,
)
from protos.escalation.v1 import escalation_pb2 as pb

NOW_NS = 1_700_000_000_000_000_000
SHORT = st.text(max_size=20)
FLOAT32 = st.floats(-1e5, 1e5, width=32)
DURATIONS = st.floats(0, 86_400, width=32)


@st.composite
def labelled_boxes(draw: st.DrawFn) -> LabelledBoxes:
    """A few boxes with names and scores."""
    count = draw(st.integers(0, 4))
    corners = [[draw(FLOAT32), draw(FLOAT32), draw(FLOAT32), draw(FLOAT32)] for _ in range(count)]
    boxes = np.array(corners, np.float32).reshape(-1, 2, 2)
    boxes.sort(axis=1)
    scores = [draw(st.floats(0, 1, width=32)) for _ in range(count)]
    labels = tuple(draw(SHORT) for _ in range(count))
    return LabelledBoxes(boxes.reshape(-1, 4), np.array(scores, np.float32), labels)


@st.composite
def escalations(draw: st.DrawFn) -> Escalation:
    """Escalations as the edge may write them."""
    width, height = draw(st.integers(1, 8000)), draw(st.integers(1, 8000))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = Region(x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height)))
    return Escalation(
        id=draw(st.text(min_size=1, max_size=ID_LENGTH_MAX)),
        site=draw(SHORT),
        camera=draw(SHORT),
        track_id=draw(st.integers(0, 2**64 - 1)),
        frame_sequence=draw(st.integers(0, 2**64 - 1)),
        captured_at_ns=draw(st.integers(1, 2**63 - 1)),
        expires_at_ns=draw(st.integers(1, 2**63 - 1)),
        frame_width=width,
        frame_height=height,
        region=region,
        encoding=draw(st.sampled_from(Encoding)),
        image=draw(st.binary(min_size=1, max_size=50)),
        proposals=draw(labelled_boxes()),
        edge_bundle_digest=draw(SHORT),
        reason=draw(SHORT),
    )


def assert_same_boxes(found: LabelledBoxes, wanted: LabelledBoxes) -> None:
    """Bit for bit."""
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.boxes.shape == (len(found), 4)
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert found.labels == wanted.labels


def sound() -> pb.Escalation:
    """A message that is read without complaint."""
    boxes = LabelledBoxes(
        np.array([[10, 10, 20, 20]], np.float32), np.array([0.5], np.float32), ("scratch",)
    )
    escalation = Escalation(
        id="e-1",
        site="plant",
        camera="left",
        track_id=7,
        frame_sequence=9,
        captured_at_ns=NOW_NS,
        expires_at_ns=NOW_NS + 2_500_000_000,
        frame_width=640,
        frame_height=480,
        region=Region(0, 0, 64, 64),
        encoding=Encoding.JPEG,
        image=b"pixels",
        proposals=boxes,
        edge_bundle_digest="d",
        reason="uncertain",
    )
    return escalation_to_proto(escalation, sent_at_ns=NOW_NS + 500_000_000)


# --- escalations ----------------------------------------------------------------------------------


@given(escalation=escalations(), sent_at_ns=st.integers(1, 2**63 - 1))
def test_an_escalation_comes_back(escalation: Escalation, sent_at_ns: int) -> None:
    """Through bytes, with all its fields and the seconds that are left."""
    data = escalation_to_proto(escalation, sent_at_ns=sent_at_ns).SerializeToString()
    found, remaining_s = escalation_from_proto(pb.Escalation.FromString(data))
    assert id_in_front(data) == escalation.id
    for name in Escalation.__slots__:
        if name != "proposals":
            assert getattr(found, name) == getattr(escalation, name), name
    assert_same_boxes(found.proposals, escalation.proposals)
    assert remaining_s == (escalation.expires_at_ns - sent_at_ns) / 1e9


def test_the_remaining_time_needs_no_shared_clock() -> None:
    """It is a difference of two instants of the sender; it may have run out."""
    message = sound()
    assert escalation_from_proto(message)[1] == 2.0
    message.expires_at_ns = message.sent_at_ns - 1_000_000_000
    assert escalation_from_proto(message)[1] == -1.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.ClearField("id"), RejectReason.MALFORMED),
        (lambda m: setattr(m, "id", "x" * 65), RejectReason.MALFORMED),
        (lambda m: setattr(m, "camera", "x" * 257), RejectReason.MALFORMED),
        (lambda m: setattr(m, "reason", "x" * 257), RejectReason.MALFORMED),
        (lambda m: m.ClearField("sent_at_ns"), RejectReason.MALFORMED),
        (lambda m: m.ClearField("expires_at_ns"), RejectReason.MALFORMED),
        (lambda m: m.ClearField("image"), RejectReason.MALFORMED),
        (lambda m: m.ClearField("encoding"), RejectReason.UNSUPPORTED_ENCODING),
        (lambda m: setattr(m, "encoding", 99), RejectReason.UNSUPPORTED_ENCODING),
        (lambda m: m.ClearField("region"), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m.region, "x1", -1), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m.region, "y1", 64), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m.region, "x2", 641), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m, "frame_height", 63), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m, "frame_width", -640), RejectReason.OUTSIDE_FRAME),
        (lambda m: setattr(m.proposals[0], "score", 1.5), RejectReason.MALFORMED),
        (lambda m: setattr(m.proposals[0], "score", float("nan")), RejectReason.MALFORMED),
        (lambda m: setattr(m.proposals[0].box, "x1", float("inf")), RejectReason.MALFORMED),
        (lambda m: setattr(m.proposals[0].box, "y2", float("nan")), RejectReason.MALFORMED),
        (lambda m: setattr(m.proposals[0].box, "x1", 30.0), RejectReason.MALFORMED),
        (lambda m: m.proposals.extend([m.proposals[0]] * 1000), RejectReason.MALFORMED),
    ],
)
def test_a_malformed_escalation_is_rejected(
    change: Callable[[pb.Escalation], object], reason: RejectReason
) -> None:
    """With a reason that is a metric label, and a sentence for a person."""
    message = sound()
    escalation_from_proto(message)
    change(message)
    with pytest.raises(RejectedError) as caught:
        escalation_from_proto(message)
    assert caught.value.reason is reason
    assert caught.value.message


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(sound().SerializeToString()) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=6,
    )
)
def test_any_message_is_read_or_rejected(changes: list[tuple[int, int]]) -> None:
    """Whatever still parses as a message, however little sense it makes."""
    data = bytearray(sound().SerializeToString())
    for position, value in changes:
        data[position] = value
    with contextlib.suppress(DecodeError, RejectedError):
        found, remaining_s = escalation_from_proto(pb.Escalation.FromString(bytes(data)))
        assert found.region.lies_inside(found.frame_width, found.frame_height)
        assert math.isfinite(remaining_s)


def test_boxes_are_counted_before_they_are_looked_at() -> None:
    """Two hundred thousand that are nothing fit 400 kB; as objects they would be 20 MB."""
    message = pb.Escalation.FromString(sound().SerializeToString() + b"\x6a\x00" * 200_000)
    tracemalloc.start()
    with pytest.raises(RejectedError, match="more than"):
        escalation_from_proto(message)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most_bytes < 1 << 20


@pytest.mark.parametrize("text", ["a", "x" * 64, "\N{GRINNING FACE}" * 64])
def test_id_is_read_from_a_message_in_pieces(text: str) -> None:
    """Whatever follows it; an id that is cut is none."""
    data = pb.Escalation(id=text).SerializeToString()
    assert id_in_front(data + b"\xff" * 1000) == text
    assert id_in_front(data[:-1]) == ""


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\x00", b"\x12\x01a\x0a\x01b", b"\x0a\x02\xff\xff"]
)
def test_what_does_not_begin_with_an_id_has_none(data: bytes) -> None:
    """Nothing else is looked for in it; an id that is too long is none."""
    assert id_in_front(data) == ""
    assert id_in_front(pb.Escalation(id="x" * 65).SerializeToString()) == ""


@pytest.mark.parametrize("track_id", [-1, 2**64])
def test_a_number_that_does_not_fit_is_a_bug(track_id: int) -> None:
    """It is not cut to fit: two tracks must never become one."""
    escalation, _ = escalation_from_proto(sound())
    values = {name: getattr(escalation, name) for name in Escalation.__slots__}
    with pytest.raises(ValueError, match="range"):
        escalation_to_proto(Escalation(**{**values, "track_id": track_id}), sent_at_ns=1)


# --- verdicts -------------------------------------------------------------------------------------


@given(
    outcome=labelled_boxes().map(Answer)
    | DURATIONS.map(Shed)
    | st.builds(Rejection, st.sampled_from(RejectReason), SHORT)
    | st.just(Expired()),
    escalation_id=st.text(min_size=1, max_size=64),
    digest=SHORT,
    queued_s=DURATIONS,
    inference_s=DURATIONS,
)
def test_a_verdict_comes_back(
    outcome: Answer | Shed | Rejection | Expired,
    escalation_id: str,
    digest: str,
    queued_s: float,
    inference_s: float,
) -> None:
    """Through bytes, whatever its outcome; an empty answer stays an answer."""
    data = verdict_to_proto(
        Verdict(escalation_id, outcome, digest, queued_s, inference_s)
    ).SerializeToString()
    found = verdict_from_proto(pb.Verdict.FromString(data))
    assert (found.escalation_id, found.cloud_bundle_digest) == (escalation_id, digest)
    assert (found.queued_s, found.inference_s) == (queued_s, inference_s)
    if isinstance(outcome, Answer):
        assert isinstance(found.outcome, Answer)
        assert_same_boxes(found.outcome.detections, outcome.detections)
    else:
        assert found.outcome == outcome


def test_an_unknown_outcome_reads_as_a_rejection() -> None:
    """A newer escalator's answer is never taken for an empty scene."""
    newer = pb.Verdict(escalation_id="e").SerializeToString() + b"\x72\x00"  # field 14
    found = verdict_from_proto(pb.Verdict.FromString(newer))
    assert isinstance(found.outcome, Rejection)
    assert found.outcome.reason is RejectReason.MALFORMED
    assert found.outcome.message


def test_an_unknown_reason_reads_as_malformed() -> None:
    """A reason of a newer version keeps its sentence."""
    message = pb.Verdict(escalation_id="e", rejection=pb.Rejection(message="because"))
    for number in (0, 99):
        message.rejection.reason = number  # type: ignore[assignment]
        assert verdict_from_proto(message).outcome == Rejection(RejectReason.MALFORMED, "because")


def test_a_verdict_names_its_escalation() -> None:
    """Otherwise nobody knows what it is about."""
    with pytest.raises(RejectedError, match="name its escalation"):
        verdict_from_proto(pb.Verdict(expired=pb.Expired()))


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_an_answer_is_read_as_strictly_as_a_question(score: float) -> None:
    """The edge trusts no escalator blindly."""
    message = pb.Verdict(escalation_id="e")
    message.answer.detections.add(score=score, label="scratch")
    with pytest.raises(RejectedError, match="score is not in"):
        verdict_from_proto(message)


def test_an_answer_is_bounded() -> None:
    """Ten thousand boxes, or a name that would fill the memory, are no answer."""
    crowded = pb.Verdict(escalation_id="e")
    crowded.answer.detections.extend([pb.Detection(score=0.5, label="scratch")] * 10_000)
    wordy = pb.Verdict(escalation_id="e")
    wordy.answer.detections.add(score=0.5, label="x" * 257)
    foreign = pb.Verdict(escalation_id="e", cloud_bundle_digest="x" * 257)
    for message in (crowded, wordy, foreign):
        with pytest.raises(RejectedError, match="more than"):
            verdict_from_proto(message)


@pytest.mark.parametrize(
    ("written", "read"),
    [(-1.0, 0.0), (float("nan"), 0.0), (float("inf"), 86_400.0), (1e30, 86_400.0), (1.5, 1.5)],
)
def test_durations_can_be_reckoned_with(written: float, read: float) -> None:
    """Whatever the other side wrote, a clock can be moved on by it."""
    message = pb.Verdict(escalation_id="e", queued_s=written, inference_s=written)
    message.shed.retry_after_s = written
    found = verdict_from_proto(message)
    assert found.outcome == Shed(read)
    assert (found.queued_s, found.inference_s) == (read, read)


def test_every_reason_and_encoding_has_a_number() -> None:
    """A value added to one side must be added to the other."""
    assert len(pb.RejectReason.keys()) == len(RejectReason) + 1
    assert len(pb.Encoding.keys()) == len(Encoding) + 1


# --- capabilities ---------------------------------------------------------------------------------

LIMITS = st.integers(0, 2**31 - 1)


@given(
    models=st.lists(
        st.builds(ModelDescription, SHORT, SHORT, SHORT, st.lists(SHORT).map(tuple)), max_size=3
    ).map(tuple),
    limits=st.tuples(LIMITS, LIMITS, LIMITS, LIMITS),
    encodings=st.lists(st.sampled_from(Encoding)).map(tuple),
)
def test_capabilities_come_back(
    models: tuple[ModelDescription, ...],
    limits: tuple[int, int, int, int],
    encodings: tuple[Encoding, ...],
) -> None:
    """Through bytes."""
    capabilities = Capabilities(models, *limits, encodings)
    data = capabilities_to_proto(capabilities).SerializeToString()
    found = capabilities_from_proto(pb.GetCapabilitiesResponse.FromString(data))
    assert found == capabilities


def test_an_unknown_encoding_is_left_out() -> None:
    """The edge cannot write what it does not know."""
    message = pb.GetCapabilitiesResponse(encodings=[pb.ENCODING_PNG, 99])  # type: ignore[list-item]
    assert capabilities_from_proto(message).encodings == (Encoding.PNG,)


# --- errors ---------------------------------------------------------------------------------------

MEANINGS: dict[grpc.StatusCode, type[HardcaseError]] = {
    grpc.StatusCode.UNIMPLEMENTED: ConfigError,
    grpc.StatusCode.UNAUTHENTICATED: ConfigError,
    grpc.StatusCode.PERMISSION_DENIED: ConfigError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadError,
    grpc.StatusCode.INVALID_ARGUMENT: RejectedError,
    grpc.StatusCode.OUT_OF_RANGE: RejectedError,
}


@pytest.mark.parametrize("details", ["something broke", "", None])
@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_means_something_to_the_caller(
    code: grpc.StatusCode, details: str | None
) -> None:
    """Total over the codes of gRPC; what is not known to last may be tried again."""
    failure = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details, "")
    error = error_from_rpc(failure, "cloud:7443")
    assert type(error) is MEANINGS.get(code, TransientError)
    assert "cloud:7443" in error.message
    assert (details or "no details") in error.message
    assert error.remedy or not isinstance(error, ConfigError)
