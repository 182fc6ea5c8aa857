"""What the spool keeps of an escalation, as bytes and back.

The escalation and its verdict are the messages of the wire contract, so what is kept can be read by
whatever speaks it; what only the edge node knows is JSON.
"""

from __future__ import annotations

import json

import numpy as np
from google.protobuf.message import DecodeError

from edge_node.values import Question, Subject
from foundation.errors import IntegrityError, RejectedError
from foundation.escalations import Escalation, Region, Verdict
from foundation.wire import (
    escalation_from_proto,
    escalation_to_proto,
    verdict_from_proto,
    verdict_to_proto,
)
from protos.escalation.v1 import escalation_pb2 as pb


def escalation_to_bytes(escalation: Escalation) -> bytes:
    """The message; as it says nothing of when it is sent, that is when it was captured."""
    message = escalation_to_proto(escalation, sent_at_ns=escalation.captured_at_ns)
    return message.SerializeToString()


def escalation_from_bytes(text: bytes) -> Escalation:
    """Reads what `escalation_to_bytes` wrote.

    Raises:
        IntegrityError: It is something else.
    """
    try:
        return escalation_from_proto(pb.Escalation.FromString(text))[0]
    except (DecodeError, RejectedError) as error:
        raise IntegrityError(f"it holds no escalation: {error}") from error


def verdict_to_bytes(verdict: Verdict) -> bytes:
    """The message."""
    return verdict_to_proto(verdict).SerializeToString()


def verdict_from_bytes(text: bytes) -> Verdict:
    """Reads what `verdict_to_bytes` wrote.

    Raises:
        IntegrityError: It is something else.
    """
    try:
        return verdict_from_proto(pb.Verdict.FromString(text))
    except (DecodeError, RejectedError) as error:
        raise IntegrityError(f"it holds no verdict: {error}") from error


def question_to_bytes(question: Question, egress: str) -> bytes:
    """JSON, scores and boxes in full, with the digest of the egress settings of that time."""
    region = question.region
    document = {
        "id": question.id,
        "sequence": question.sequence,
        "captured_at_ns": question.captured_at_ns,
        "expires_at_ns": question.expires_at_ns,
        "region": [region.x1, region.y1, region.x2, region.y2],
        "frame": [question.frame_width, question.frame_height],
        "subjects": [
            [one.track_id, one.box.astype(float).tolist(), one.label, one.score, one.asked]
            for one in question.subjects
        ],
        "reason": question.reason,
        "level": question.level,
        "gain": question.gain,
        "scene_moves": question.scene_moves,
        "egress": egress,
    }
    return json.dumps(document, separators=(",", ":")).encode()


def question_from_bytes(text: bytes) -> tuple[Question, str]:
    """Reads what `question_to_bytes` wrote: the question, and that digest.

    Raises:
        IntegrityError: It is something else.
    """
    try:
        document = json.loads(text)
        width, height = document["frame"]
        question = Question(
            id=document["id"],
            sequence=document["sequence"],
            captured_at_ns=document["captured_at_ns"],
            expires_at_ns=document["expires_at_ns"],
            region=Region(*document["region"]),
            frame_width=width,
            frame_height=height,
            subjects=tuple(
                Subject(track_id, np.array(box, np.float32), label, score, asked)
                for track_id, box, label, score, asked in document["subjects"]
            ),
            reason=document["reason"],
            level=document["level"],
            gain=document["gain"],
            scene_moves=bool(document.get("scene_moves", False)),
        )
        return question, str(document.get("egress", ""))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"it holds no question: {error!r}") from error
