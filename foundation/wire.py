"""Between the wire and values: protobuf messages, and gRPC status into the error tree.

Reading is strict: what a value promises (a region, a known encoding, one outcome) is checked here,
so that nothing behind this file sees a half-filled message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import grpc
import grpc.aio
import numpy as np

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
    Outcome,
    Region,
    Rejection,
    Shed,
    Verdict,
)
from protos.escalation.v1 import escalation_pb2 as pb

ID_LENGTH_MAX = 64
_TEXT_LENGTH_MAX = 256
_BOXES_MAX = 1000
_ID_TAG = pb.Escalation.ID_FIELD_NUMBER << 3 | 2  # a field with a length
_UTF8_BYTES_MAX = 4  # of one character
_DEFAULT_RETRY_AFTER_S = 1.0
_DURATION_S_MAX = 86_400.0

_ENCODINGS = {
    Encoding.JPEG: pb.ENCODING_JPEG,
    Encoding.WEBP: pb.ENCODING_WEBP,
    Encoding.PNG: pb.ENCODING_PNG,
    Encoding.AVIF: pb.ENCODING_AVIF,
}
_ENCODINGS_BACK = {number: value for value, number in _ENCODINGS.items()}
_REASONS = {
    RejectReason.MALFORMED: pb.REJECT_REASON_MALFORMED,
    RejectReason.NOT_AN_IMAGE: pb.REJECT_REASON_NOT_AN_IMAGE,
    RejectReason.TOO_SMALL: pb.REJECT_REASON_TOO_SMALL,
    RejectReason.TOO_LARGE: pb.REJECT_REASON_TOO_LARGE,
    RejectReason.OUTSIDE_FRAME: pb.REJECT_REASON_OUTSIDE_FRAME,
    RejectReason.UNSUPPORTED_ENCODING: pb.REJECT_REASON_UNSUPPORTED_ENCODING,
    RejectReason.INFERENCE_FAILED: pb.REJECT_REASON_INFERENCE_FAILED,
    RejectReason.NOT_PERMITTED: pb.REJECT_REASON_NOT_PERMITTED,
}
_REASONS_BACK = {number: value for value, number in _REASONS.items()}


def escalation_to_proto(escalation: Escalation, *, sent_at_ns: int) -> pb.Escalation:
    """The message for an escalation that is handed to the stream at `sent_at_ns`."""
    region = escalation.region
    return pb.Escalation(
        id=escalation.id,
        site=escalation.site,
        camera=escalation.camera,
        track_id=escalation.track_id,
        frame_sequence=escalation.frame_sequence,
        captured_at_ns=escalation.captured_at_ns,
        expires_at_ns=escalation.expires_at_ns,
        sent_at_ns=sent_at_ns,
        frame_width=escalation.frame_width,
        frame_height=escalation.frame_height,
        region=pb.Region(x1=region.x1, y1=region.y1, x2=region.x2, y2=region.y2),
        encoding=_ENCODINGS[escalation.encoding],
        image=escalation.image,
        proposals=_boxes_to_proto(escalation.proposals),
        edge_bundle_digest=escalation.edge_bundle_digest,
        reason=escalation.reason,
        value=escalation.value,
    )


def escalation_from_proto(message: pb.Escalation) -> tuple[Escalation, float]:
    """The escalation, and how many seconds it may still take from now on.

    Raises:
        RejectedError: a field is missing or contradicts another.
    """
    if not 1 <= len(message.id) <= ID_LENGTH_MAX:
        raise _malformed(f"the id must have 1 to {ID_LENGTH_MAX} characters")
    texts = (message.site, message.camera, message.reason, message.edge_bundle_digest)
    if max(map(len, texts)) > _TEXT_LENGTH_MAX:
        raise _malformed(f"a text has more than {_TEXT_LENGTH_MAX} characters")
    if message.encoding not in _ENCODINGS_BACK:
        raise RejectedError(
            f"Escalation {message.id} has the unknown encoding {message.encoding}",
            reason=RejectReason.UNSUPPORTED_ENCODING,
        )
    region = Region(message.region.x1, message.region.y1, message.region.x2, message.region.y2)
    if not region.lies_inside(message.frame_width, message.frame_height):
        raise RejectedError(
            f"Escalation {message.id}: {region} does not lie inside its frame of "
            f"{message.frame_width}x{message.frame_height}",
            reason=RejectReason.OUTSIDE_FRAME,
        )
    if message.sent_at_ns == 0 or message.expires_at_ns == 0:
        raise _malformed("it must say when it was sent and when it expires")
    if not message.image:
        raise _malformed("it carries no pixels")
    if not 0.0 <= message.value < math.inf:
        raise _malformed("its value is negative or not finite")
    remaining_s = (message.expires_at_ns - message.sent_at_ns) / 1e9
    escalation = Escalation(
        id=message.id,
        site=message.site,
        camera=message.camera,
        track_id=message.track_id,
        frame_sequence=message.frame_sequence,
        captured_at_ns=message.captured_at_ns,
        expires_at_ns=message.expires_at_ns,
        frame_width=message.frame_width,
        frame_height=message.frame_height,
        region=region,
        encoding=_ENCODINGS_BACK[message.encoding],
        image=message.image,
        proposals=_boxes_from_proto(message.proposals),
        edge_bundle_digest=message.edge_bundle_digest,
        reason=message.reason,
        value=message.value,
    )
    return escalation, remaining_s


def id_in_front(data: bytes) -> str:
    """The id of a serialized escalation that is not worth parsing.

    Libraries write fields in the order of their numbers, though nothing obliges them, so the id
    comes first; empty where it does not, or is none that is accepted.
    """
    head = data[: 3 + ID_LENGTH_MAX * _UTF8_BYTES_MAX]
    if len(head) < 3 or head[0] != _ID_TAG:
        return ""
    length, start = head[1], 2
    if length > 0x7F:  # a second byte has the higher bits
        length, start = length & 0x7F | head[2] << 7, 3
    text = head[start : start + length]
    try:
        found = text.decode()
    except UnicodeDecodeError:
        return ""
    return found if len(text) == length and len(found) <= ID_LENGTH_MAX else ""


def verdict_to_proto(verdict: Verdict) -> pb.Verdict:
    """The message for a verdict."""
    message = pb.Verdict(
        escalation_id=verdict.escalation_id,
        cloud_bundle_digest=verdict.cloud_bundle_digest,
        queued_s=verdict.queued_s,
        inference_s=verdict.inference_s,
    )
    match verdict.outcome:
        case Answer(detections):
            # Set even when nothing was found: an empty answer is an answer.
            message.answer.SetInParent()
            message.answer.detections.extend(_boxes_to_proto(detections))
        case Shed(retry_after_s):
            message.shed.retry_after_s = retry_after_s
            message.shed.SetInParent()
        case Rejection(reason, text):
            message.rejection.reason = _REASONS[reason]
            message.rejection.message = text
        case Expired():
            message.expired.SetInParent()
    return message


def verdict_from_proto(message: pb.Verdict) -> Verdict:
    """The verdict; an outcome this version does not know reads as a rejection.

    Raises:
        RejectedError: it answers no escalation, or its detections are malformed.
    """
    if not message.escalation_id:
        raise _malformed("a verdict must name its escalation")
    if len(message.cloud_bundle_digest) > _TEXT_LENGTH_MAX:
        raise _malformed(f"a text has more than {_TEXT_LENGTH_MAX} characters")
    outcome: Outcome
    match message.WhichOneof("outcome"):
        case "answer":
            outcome = Answer(_boxes_from_proto(message.answer.detections))
        case "shed":
            outcome = Shed(_duration_s(message.shed.retry_after_s))
        case "expired":
            outcome = Expired()
        case "rejection":
            reason = _REASONS_BACK.get(message.rejection.reason, RejectReason.MALFORMED)
            outcome = Rejection(reason, message.rejection.message)
        case _:
            outcome = Rejection(RejectReason.MALFORMED, "the verdict carries no known outcome")
    return Verdict(
        escalation_id=message.escalation_id,
        outcome=outcome,
        cloud_bundle_digest=message.cloud_bundle_digest,
        queued_s=_duration_s(message.queued_s),
        inference_s=_duration_s(message.inference_s),
    )


def capabilities_to_proto(capabilities: Capabilities) -> pb.GetCapabilitiesResponse:
    """The message for what an escalator can do."""
    return pb.GetCapabilitiesResponse(
        models=[
            pb.Model(
                name=model.name,
                version=model.version,
                bundle_digest=model.bundle_digest,
                labels=model.labels,
            )
            for model in capabilities.models
        ],
        crop_limits=pb.CropLimits(
            side_min_px=capabilities.side_min_px,
            pixels_max=capabilities.pixels_max,
            message_bytes_max=capabilities.message_bytes_max,
            side_native_px=capabilities.side_native_px,
        ),
        encodings=[_ENCODINGS[encoding] for encoding in capabilities.encodings],
    )


def capabilities_from_proto(message: pb.GetCapabilitiesResponse) -> Capabilities:
    """What an escalator can do; encodings that this version does not know are left out."""
    limits = message.crop_limits
    return Capabilities(
        models=tuple(
            ModelDescription(model.name, model.version, model.bundle_digest, tuple(model.labels))
            for model in message.models
        ),
        side_min_px=limits.side_min_px,
        pixels_max=limits.pixels_max,
        message_bytes_max=limits.message_bytes_max,
        side_native_px=limits.side_native_px,
        encodings=tuple(
            _ENCODINGS_BACK[number] for number in message.encodings if number in _ENCODINGS_BACK
        ),
    )


def error_from_rpc(error: grpc.aio.AioRpcError, peer: str) -> HardcaseError:
    """What a failed call means to the caller; `peer` names the other side."""
    code, details = error.code(), error.details() or "no details"
    text = f"{peer}: {code.name}: {details}"
    match code:
        case grpc.StatusCode.UNIMPLEMENTED:
            return ConfigError(
                f"{peer} is not a Hardcase escalator: {details}",
                remedy="Check the address and port",
            )
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return ConfigError(text, remedy="Check the certificates of this node")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadError(text, retry_after_s=_DEFAULT_RETRY_AFTER_S)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return RejectedError(text, reason=RejectReason.MALFORMED)
        case _:
            return TransientError(text)


def _malformed(what: str) -> RejectedError:
    return RejectedError(f"The message is malformed: {what}", reason=RejectReason.MALFORMED)


def _duration_s(value: float) -> float:
    """A duration that can be reckoned with, whatever the other side wrote; NaN becomes 0."""
    return min(max(0.0, value), _DURATION_S_MAX)


def _boxes_to_proto(boxes: LabelledBoxes) -> list[pb.Detection]:
    rows = zip(boxes.boxes.tolist(), boxes.scores.tolist(), boxes.labels, strict=True)
    return [
        pb.Detection(box=pb.Box(x1=x1, y1=y1, x2=x2, y2=y2), score=score, label=label)
        for (x1, y1, x2, y2), score, label in rows
    ]


def _boxes_from_proto(messages: Sequence[pb.Detection]) -> LabelledBoxes:
    # Before any is looked at: two million fit a message, and each becomes an object.
    if len(messages) > _BOXES_MAX:
        raise _malformed(f"it has more than {_BOXES_MAX} boxes")
    detections = list(messages)
    if any(len(d.label) > _TEXT_LENGTH_MAX for d in detections):
        raise _malformed(f"a label has more than {_TEXT_LENGTH_MAX} characters")
    # In plain Python: requests carry few boxes, and calls to numpy would cost more than the work.
    rows = [(d.box.x1, d.box.y1, d.box.x2, d.box.y2) for d in detections]
    scores = [d.score for d in detections]
    ordered = all(
        -math.inf < x1 <= x2 < math.inf and -math.inf < y1 <= y2 < math.inf
        for x1, y1, x2, y2 in rows
    )
    if not (ordered and all(0.0 <= score <= 1.0 for score in scores)):
        raise _malformed("a box is inverted or not finite, or a score is not in 0..1")
    return LabelledBoxes(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        tuple(d.label for d in detections),
    )
