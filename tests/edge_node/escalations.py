"""Candidates and escalations written down by hand."""

from __future__ import annotations

import math

import numpy as np

from edge_node.values import Candidate, Question, Subject
from foundation.clock import SystemClock, after_s
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region
from foundation.levels import Level

REGION = Region(0, 0, 64, 48)
LEVEL = Level(Encoding.WEBP, 80)
PROPOSALS = LabelledBoxes(
    np.array([[10, 20, 18, 28]], np.float32), np.array([0.4], np.float32), ("blue",)
)


def candidate(id_: str, *, expiry_s: float = 5.0, value: float = 0.24) -> Candidate:
    """A question about a blue thing in a small crop, captured now."""
    now_ns = SystemClock().now_ns()
    question = Question(
        id=id_,
        sequence=7,
        captured_at_ns=now_ns,
        expires_at_ns=after_s(now_ns, expiry_s),
        region=REGION,
        frame_width=64,
        frame_height=48,
        subjects=(Subject(3, PROPOSALS.boxes[0], "blue", 0.4, asked=True),),
        reason="uncertain",
        level=str(LEVEL),
        gain=0.24,
        scene_moves=True,
    )
    return Candidate(question, np.zeros((48, 64, 3), np.uint8), PROPOSALS, LEVEL, value, math.inf)


def escalation(id_: str, *, expiry_s: float = 5.0, size: int = 100) -> Escalation:
    """The same, encoded into this many bytes that nobody decodes."""
    question = candidate(id_, expiry_s=expiry_s).question
    return Escalation(
        id=id_,
        site="site",
        camera="cam",
        track_id=3,
        frame_sequence=question.sequence,
        captured_at_ns=question.captured_at_ns,
        expires_at_ns=question.expires_at_ns,
        frame_width=64,
        frame_height=48,
        region=REGION,
        encoding=Encoding.WEBP,
        image=b"x" * size,
        proposals=PROPOSALS,
        edge_bundle_digest="d" * 64,
        reason="uncertain",
    )
