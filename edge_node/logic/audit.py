"""The audit sample: which of the things that the edge was sure of the cloud looks at all the same.

What the edge kept without a verdict falls into strata by what it did with it:

* `reported`: a track that it stands by;
* `dismissed`: a track that it does not report;
* `empty`: a *place of a frame*, a square of the crop's size at a position drawn uniformly for that
  frame, if no track touches it and nothing of it is hidden from the cloud. Every frame that the
  model looked at is one such unit or none. So the rate of this stratum is the share of empty places
  in which the cloud finds an object whole; a missed object counts in as many frames as it is seen
  in.

A unit is drawn where a keyed hash of it falls below its stratum's probability. So a draw can be
repeated, knows nothing of the score, the price or the pixels, and of a track it can be foreseen
while its crop can still be cut. A track is drawn once, when it is known that no verdict will come.

Probabilities follow the number of units, never their answers, so that about as many audits are made
in a quiet hour as in a busy one; each draw keeps the probability that it was made with. An audit
that cannot be paid, is not answered or is not decided by its answer is *lost*, never drawn anew:
drawing another in its place would favour what is cheap. So is that of a track that ended while the
cloud was asked about it and did not answer: its crop is gone, and it is counted all the same, or
doubtful tracks would leave the population whenever the link does.

Single-threaded; owned by the frame lane.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

from edge_node.logic.audit_estimate import AuditEstimate, AuditLedger, Draw, Stratum
from edge_node.values import Effect, Finding
from foundation.escalations import Region
from foundation.frames import Boxes

PERIOD_S = 60.0
"""A probability holds for this long."""
_MEMORY_PERIODS = 60.0
_STEP_MAX = 1.25
"""A probability changes by at most this factor from one period to the next."""
_STEPS_MAX = 20
_PROBABILITY_MIN = 1e-6
_NS_PER_S = 1_000_000_000
_PERIODS_PER_H = 3600.0 / PERIOD_S


class AuditSampler:
    """Draws audits at about a given rate, and accounts for them.

    In a stratum's first period nothing is drawn and nothing is counted: it is how the rate of its
    units becomes known. Invariant: whatever is counted as kept had a positive probability.
    """

    def __init__(
        self, *, audits_per_h: float, window_s: float, place_side_px: int, seed: str, camera: str
    ) -> None:
        """Takes what to spend and what to speak about.

        Args:
            audits_per_h: Audits to make in an hour; each stratum gets a third.
            window_s: Time that an estimate speaks about.
            place_side_px: Side of an empty place in source pixels; of a smaller frame, all of it.
            seed: Key of the lottery; one for each run, because track ids begin anew.
            camera: Name of the camera.
        """
        self._side = place_side_px
        self._key = hashlib.blake2b(seed.encode(), digest_size=32).digest()
        self._camera = camera
        self._rates = {stratum: _SamplingRate(audits_per_h / len(Stratum)) for stratum in Stratum}
        self._ledger = AuditLedger(window_s)

    def foresees(self, track_id: int) -> bool:
        """Whether this track would be drawn now, reported or dismissed: is its crop worth keeping.

        A track whose crop was not kept because the probability has risen since is a lost audit.
        """
        (ticket,) = self._tickets("track", track_id, 1)
        tracks = (self._rates[Stratum.REPORTED], self._rates[Stratum.DISMISSED])
        return any(ticket < rate.probability for rate in tracks)

    def draw_track(self, track_id: int, *, reported: bool, now_ns: int) -> Draw | None:
        """Counts a track that no verdict was and will be given about, and draws it or not."""
        stratum = Stratum.REPORTED if reported else Stratum.DISMISSED
        (ticket,) = self._tickets("track", track_id, 1)
        return self._draw(stratum, track_id, ticket, now_ns, None)

    def empty_place(
        self, sequence: int, boxes: Boxes, frame_width: int, frame_height: int
    ) -> Region | None:
        """The place of a frame that the model looked at; None if something is tracked there.

        Args:
            sequence: Number of the frame.
            boxes: (N, 4) float32, source pixels, of everything that is tracked in it.
            frame_width: Source pixels per row.
            frame_height: Source rows.
        """
        _, across, down = self._tickets("place", sequence, 3)
        width, height = min(self._side, frame_width), min(self._side, frame_height)
        left = int(across * (frame_width - width + 1))
        top = int(down * (frame_height - height + 1))
        touched = (boxes[:, 0] < left + width) & (boxes[:, 2] > left)
        touched &= (boxes[:, 1] < top + height) & (boxes[:, 3] > top)
        return None if touched.any() else Region(left, top, left + width, top + height)

    def draw_place(self, sequence: int, place: Region, now_ns: int) -> Draw | None:
        """Counts the empty place of a frame, and draws it or not."""
        ticket, *_ = self._tickets("place", sequence, 3)
        return self._draw(Stratum.EMPTY, sequence, ticket, now_ns, place)

    def answer(self, draw: Draw, findings: Iterable[Finding]) -> bool | None:
        """Books the verdict about a draw.

        Returns:
            Whether it is a silent error; None where that is undecided: the draw is to be lost.
        """
        wrong = is_silent_error(draw.stratum, findings)
        if wrong is not None:
            self._ledger.answer(draw, wrong=wrong)
        return wrong

    def lose(self, draw: Draw) -> None:
        """Books that a draw was not paid, not sent, not answered or not decided."""
        self._ledger.lose(draw)

    def estimate(self, now_ns: int) -> AuditEstimate:
        """What the window up to now says; milliseconds of arithmetic, so not for every frame."""
        return self._ledger.estimate(now_ns)

    def _draw(
        self, stratum: Stratum, unit: int, ticket: float, now_ns: int, region: Region | None
    ) -> Draw | None:
        probability = self._rates[stratum].count(now_ns)
        if probability == 0.0:
            return None
        self._ledger.keep(stratum, probability, now_ns)
        if ticket >= probability:
            return None
        draw = Draw(stratum, unit, probability, now_ns, region)
        self._ledger.draw(draw)
        return draw

    def _tickets(self, kind: str, unit: int, count: int) -> list[float]:
        """Independent uniform numbers in [0, 1) that belong to a unit."""
        text = f"{kind}\0{unit}\0{self._camera}".encode()
        digest = hashlib.blake2b(text, key=self._key, digest_size=8 * count).digest()
        return [
            (int.from_bytes(digest[at : at + 8], "big") >> 11) / 2**53
            for at in range(0, 8 * count, 8)
        ]


def is_silent_error(stratum: Stratum, findings: Iterable[Finding]) -> bool | None:
    """Whether a verdict contradicts what the edge kept to itself.

    A reported track is wrong when it is refuted or reclassified; a dismissed one when anything is
    found in its place; an empty place when an object is found whole inside. What else the crop of a
    track shows is another unit's business: places beside tracks are no fair sample of all places.

    Args:
        stratum: What the edge did.
        findings: Of the verdict; subject 0 is the track that was drawn.

    Returns:
        Whether it does; None where the answer leaves the track undecided.
    """
    if stratum is Stratum.EMPTY:
        return any(finding.effect is Effect.ADDED for finding in findings)
    effects = {finding.effect for finding in findings if finding.subject == 0}
    if effects <= {Effect.UNDECIDED}:
        return None
    if stratum is Stratum.REPORTED:
        return not effects.isdisjoint({Effect.REFUTED, Effect.RECLASSIFIED})
    return not effects.isdisjoint({Effect.CONFIRMED, Effect.RECLASSIFIED})


class _SamplingRate:
    """The probability of one stratum: what it may spend over how many units come, slowly."""

    def __init__(self, audits_per_h: float) -> None:
        self._audits_per_period = audits_per_h / _PERIODS_PER_H
        self._period_began_ns: int | None = None
        self._units = 0
        self._units_per_period = 0.0
        self.probability = 0.0

    def count(self, now_ns: int) -> float:
        """Counts a unit; returns the probability with which it is drawn, 0 while learning."""
        if self._period_began_ns is None:
            self._period_began_ns = now_ns
        periods = int((now_ns - self._period_began_ns) / (PERIOD_S * _NS_PER_S))
        if periods > 0:
            self._period_began_ns += round(periods * PERIOD_S * _NS_PER_S)
            self._learn(periods)
        self._units += 1
        return self.probability

    def _learn(self, periods: int) -> None:
        measured, self._units = self._units / periods, 0
        if self.probability == 0.0:
            self._units_per_period = measured
            self.probability = self._wanted()
            return
        gain = -math.expm1(-periods / _MEMORY_PERIODS)
        self._units_per_period += gain * (measured - self._units_per_period)
        step = _STEP_MAX ** min(periods, _STEPS_MAX)
        slowest, fastest = self.probability / step, self.probability * step
        self.probability = min(1.0, max(slowest, min(fastest, self._wanted())))

    def _wanted(self) -> float:
        units = max(self._units_per_period, self._audits_per_period)
        return max(_PROBABILITY_MIN, self._audits_per_period / units)
