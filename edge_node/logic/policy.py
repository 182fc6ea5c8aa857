"""What is asked of the cloud: about which tracks, when, with which crop at which level, and why.

A track may be asked about when it lies in its class's band, has been seen for a while or is about
to leave, and lies whole in the frame. It is worth the gain that the bundle's gain model expects of
an answer, times what that is worth on this camera by the time it comes. Tracks near each other
share a crop; crops and levels are planned at the prices of the aim, and what is worth more than it
costs is sent. A track is asked about once, with the frame that showed it best; again only when its
escalation ended without an answer, or the evidence has changed since the cloud looked.

Single-threaded; owned by the frame lane, whose track table it marks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_node.config import PolicySettings
from edge_node.logic.aim import OUTBIDS, Aim
from edge_node.logic.moments import Moment, Moments, moment_of, sharpness_of
from edge_node.logic.plan import FREE, Ask, Planner, Prices
from edge_node.logic.reconsider import evidence_changed
from edge_node.logic.rows import Floats, Mask, Positions, Rows, observed_boxes
from edge_node.logic.spending import Reservation
from edge_node.logic.worth import Worth
from edge_node.values import Reason, Suppression
from foundation.escalations import Region
from foundation.frames import Pixels, Scores
from foundation.gains import GainModel, texture_of
from foundation.geometry import box_areas

_BORDER_PX = 2.0
"""A box that ends this near to the frame's border is taken as cut: boxes are a pixel or two off."""
_LOOKS_MAX = 4
"""Tracks of one frame whose sharpness is looked at; the others have their turn later."""
_FORESEEN_MAX = 256
_STALE = 0.7
"""A track whose present moment is worse than this share of its best is asked about with that."""

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class View:
    """The present frame as the policy sees it.

    Attributes:
        sequence: Its number.
        captured_at_ns: When it was captured.
        now_ns: The present instant.
        pixels: uint8 BGR (height, width, 3).
    """

    sequence: int
    captured_at_ns: int
    now_ns: int
    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])

    def texture(self, region: Region) -> float:
        """What there is to encode in a region."""
        return texture_of(self.pixels[region.y1 : region.y2, region.x1 : region.x2])


@dataclass(frozen=True, slots=True)
class Decision:
    """One escalation to be made.

    Attributes:
        region: The crop.
        level: Index into the gain model's levels.
        asked: Positions in the track table that the verdict decides about; the first made the
            policy ask, the others are in the band and lie whole inside the crop. Empty where no
            track is meant.
        reason: Why.
        value: What the verdict is expected to be worth.
        gain: What it is expected to gain, whatever that is worth.
        reservation: What the budget was charged.
        moment: The held moment that is sent; None: the present frame.
    """

    region: Region
    level: int
    asked: tuple[int, ...]
    reason: Reason
    value: float
    gain: float
    reservation: Reservation
    moment: Moment | None = None


class Policy:
    """Decides per frame. Marks `pending`, `offered`, `asked_at_ns` and `suppression`.

    Attributes:
        suppressed: Tracks newly suppressed since the last frame, by cause.
        moments: The best crops so far of tracks that may still be asked about.
        planner: Cuts and encodes.
    """

    def __init__(
        self,
        settings: PolicySettings,
        model: GainModel,
        planner: Planner,
        aim: Aim,
        worth: Worth,
        limits: tuple[Floats, Floats, Floats],
        foresees: Callable[[int], bool],
    ) -> None:
        """Takes what the policy decides by.

        Args:
            settings: When a track may be asked about.
            model: What an answer gains.
            planner: How crops are cut and encoded.
            aim: What may be spent.
            worth: What a gain is worth.
            limits: Per class (classes,) the band's low and high ends, and the report threshold.
            foresees: Whether a track will be drawn for the audit if nobody is asked about it.
        """
        self._settings = settings
        self._model = model
        self.planner = planner
        self._aim = aim
        self._worth = worth
        self._low, self._high, self._report = limits
        self._foresees = foresees
        self._foreseen: dict[int, bool] = {}
        self.suppressed: dict[Suppression, int] = {}
        self.moments = Moments()

    def consider(self, rows: Rows, view: View, scores: Scores) -> list[Decision]:
        """Decides about every track of the present frame, most valuable per byte first.

        Args:
            rows: The track table; marked.
            view: The frame.
            scores: (N,) calibrated scores of the tracks, as far as they are trusted in this frame.
        """
        self.suppressed.clear()
        again = evidence_changed(rows)
        due = rows["confirmed"] & ~rows["pending"] & ~rows["from_cloud"]
        due &= ~rows["answered"] | again
        due &= (rows["coasted"] == 0) | (rows["offered"] & ~rows["answered"])
        at = np.flatnonzero(due)
        if at.size == 0:
            return []
        part = rows[at]
        width, height = view.size
        leaving = self._leaving(part, width, height)
        in_band = self._in_band(part)
        cut = touches_border(part, width, height) | (part["coasted"] > 0)
        age = view.sequence - part["first_sequence"] + 1
        ready = (age >= self._settings.min_track_frames) | leaving | cut
        cooling = (part["asked_at_ns"] > 0) & (
            view.now_ns - part["asked_at_ns"] < self._settings.cooldown_s * NS_PER_S
        )
        gains = self._gains(part, scores[at])
        worth = self._worth.of(part, width, height)
        hopeful = (in_band & ~cooling) | self._may_be_drawn(part)
        merit = self._hold(part, view, hopeful & ~cut, gains.max(axis=0))
        held = np.array([self.moments.of(i) is not None for i in part["track_id"].tolist()])
        stale = held & (cut | (merit < _STALE * self._held_merit(part, held)))
        kept = self._kept_by_risk(part)
        open_ = ready & in_band & ~cooling & ~kept
        prices = self._aim.prices(view.now_ns)
        self._learn(rows, at, open_ & (held | ~cut), gains * worth, view, prices)
        decisions = list(
            self._spend(rows, at, gains, worth, (open_ & ~cut & ~stale, open_ & stale), view)
            if open_.any()
            else ()
        )
        left = ~rows["pending"][at]
        self._note(rows, at[left & ready & ~in_band], Suppression.OUTSIDE_BAND)
        self._note(rows, at[left & ready & in_band & cut & ~held], Suppression.CUT_BY_FRAME)
        self._note(rows, at[left & ready & in_band & cooling], Suppression.COOLDOWN)
        self._note(rows, at[left & ready & in_band & ~cooling & kept], Suppression.WITHIN_RISK)
        decided = np.isin(at, [p for d in decisions for p in d.asked])
        refused = left & open_ & (held | ~cut) & ~decided
        fresh = rows["suppression"][at] < Suppression.BUDGET_REQUESTS
        self._note(rows, at[refused & fresh], Suppression.PRICE)
        return decisions

    def suppress_all(self, rows: Rows) -> None:
        """Notes that there is nobody to ask."""
        self.suppressed.clear()
        due = rows["confirmed"] & (rows["suppression"] != Suppression.NO_ESCALATOR)
        if due.any():
            self._note(rows, np.flatnonzero(due & self._in_band(rows)), Suppression.NO_ESCALATOR)

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Learns the size on the wire of what was reserved; 0 when it is never sent."""
        self._aim.settle(reservation, size_bytes)

    def learn_size(self, level: int, predicted: float, size_bytes: float) -> None:
        """Hears what a crop at a level came to, and what had been predicted."""
        self.planner.learn_size(level, predicted, size_bytes)

    def pay(
        self, region: Region, value: float, view: View, *, by_lot: bool = False
    ) -> tuple[Ask, Reservation] | Suppression:
        """Pays for one crop that no track made it ask for; or says why not.

        Args:
            region: The crop.
            value: What is expected of the answer.
            view: The frame.
            by_lot: It was drawn: paid whatever the price, and seen as well as can be.
        """
        prices = FREE if by_lot else self._aim.prices(view.now_ns)
        gains = np.float32(value) * self._model.retention
        ask = self.planner.choose(region, gains, prices, view.texture(region))
        worth = OUTBIDS if by_lot else ask.value
        answer = self._aim.reserve(worth, ask.size_bytes, ask.encode_s, view.now_ns)
        return answer if isinstance(answer, Suppression) else (ask, answer)

    def pay_for_moment(self, moment: Moment, now_ns: int) -> tuple[Ask, Reservation] | Suppression:
        """Pays for a held crop that was drawn by lot, whatever the price; or says why not."""
        texture = texture_of(moment.pixels)
        ask = self.planner.choose(moment.region, self._model.retention, FREE, texture)
        answer = self._aim.reserve(OUTBIDS, ask.size_bytes, ask.encode_s, now_ns)
        return answer if isinstance(answer, Suppression) else (ask, answer)

    def _gains(self, rows: Rows, scores: Scores) -> Floats:
        """Expected gain (L, N) of an answer about each track, class costs left aside."""
        return self._model.gains_of(scores, np.sqrt(box_areas(observed_boxes(rows))))

    def _in_band(self, rows: Rows) -> Mask:
        label = rows["edge_label"]
        in_band: Mask = (rows["best_score"] >= self._low[label]) & (
            rows["score"] < self._high[label]
        )
        return in_band

    def _kept_by_risk(self, rows: Rows) -> Mask:
        """Which tracks the aim keeps, by the probability that the edge is wrong about them."""
        stands = rows["score"] >= self._report[rows["edge_label"]]
        doubt = np.where(stands, 1 - rows["score"], rows["score"])
        return np.array([self._aim.keeps(value) for value in doubt.tolist()], np.bool_)

    def _may_be_drawn(self, rows: Rows) -> Mask:
        """Tracks that the audit will draw if nobody asks; each is looked up once."""
        known = self._foreseen
        ids = rows["track_id"].tolist()
        if len(known) > 2 * len(ids) + _FORESEEN_MAX:
            self._foreseen = known = {i: known[i] for i in ids if i in known}
        return np.array(
            [known[i] if i in known else known.setdefault(i, self._foresees(i)) for i in ids],
            np.bool_,
        )

    def _leaving(self, rows: Rows, frame_width: int, frame_height: int) -> Mask:
        ahead = rows["box"].copy()
        motion = rows["velocity"] * np.float32(self._settings.leaving_frames)
        ahead[:, :2] += motion
        ahead[:, 2:] += motion
        out = np.asarray((ahead[:, :2] < 0).any(axis=1), np.bool_)
        out |= (ahead[:, 2:] > np.array([frame_width, frame_height], np.float32)).any(axis=1)
        return out

    def _hold(self, rows: Rows, view: View, wanted: Mask, value: Floats) -> Floats:
        """Holds what is a better moment than before; returns the merit (N,) of the present one."""
        boxes = observed_boxes(rows)
        sizes = np.sqrt(np.maximum(box_areas(boxes), 1))
        merit = np.asarray(value * sizes, np.float32)
        hopeful = np.flatnonzero(wanted)
        hopeful = hopeful[np.argsort(-value[hopeful], kind="stable")]
        for position in hopeful[:_LOOKS_MAX].tolist():
            merit[position] *= np.sqrt(sharpness_of(view.pixels, boxes[position]))
            track_id, score = int(rows["track_id"][position]), float(merit[position])
            if self.moments.wants(track_id, score):
                region = self.planner.region_of(boxes[position], view.size)
                when = (view.sequence, view.captured_at_ns)
                self.moments.hold(moment_of(rows, position, view.pixels, region, when, score))
        # What was not looked at is taken for as good as it was.
        merit[hopeful[_LOOKS_MAX:]] = np.inf
        return merit

    def _held_merit(self, rows: Rows, held: Mask) -> Floats:
        merits = np.zeros(len(rows), np.float32)
        for position in np.flatnonzero(held).tolist():
            moment = self.moments.of(int(rows["track_id"][position]))
            merits[position] = moment.merit if moment is not None else 0.0
        return merits

    def _learn(
        self, rows: Rows, at: Positions, ready: Mask, values: Floats, view: View, prices: Prices
    ) -> None:
        """Lets the aim hear of each track once, when it may first be asked about."""
        fresh = np.flatnonzero(ready & ~rows["offered"][at])
        if fresh.size == 0:
            return
        boxes = observed_boxes(rows[at[fresh]])
        quotes = self.planner.quote(boxes, values[:, fresh], view.size, prices)
        for value, size_bytes, encode_s in zip(*(q.tolist() for q in quotes), strict=True):
            self._aim.learn(value, size_bytes, encode_s, view.now_ns)
        rows["offered"][at[fresh]] = True

    def _spend(
        self,
        rows: Rows,
        at: Positions,
        gains: Floats,
        worth: Floats,
        wanted: tuple[Mask, Mask],
        view: View,
    ) -> Iterator[Decision]:
        """Plans and pays: what the present frame shows, then what was held of an earlier one."""
        now_wanted, held_wanted = wanted
        values = gains * worth
        riders = ~rows["pending"][at] & (rows["coasted"][at] == 0) & self._in_band(rows[at])
        boxes = observed_boxes(rows[at])
        prices = self._aim.prices(view.now_ns)
        asks = self.planner.plan(
            boxes, np.where(riders, values, 0), now_wanted, view.size, prices, view.texture
        )
        for ask in asks:
            members = [m for m in ask.members.tolist() if riders[m]]
            anchors = [m for m in members if now_wanted[m]]
            if not anchors:
                continue
            members = [anchors[0], *(m for m in members if m != anchors[0])]
            yield from self._pay(rows, at, members, gains, ask, view, None)
        for position in np.flatnonzero(held_wanted).tolist():
            moment = self.moments.of(int(rows["track_id"][at[position]]))
            if moment is None or rows["pending"][at[position]]:
                continue
            texture = texture_of(moment.pixels)
            ask = self.planner.choose(moment.region, values[:, position], prices, texture)
            yield from self._pay(rows, at, [position], gains, ask, view, moment)

    def _pay(
        self,
        rows: Rows,
        at: Positions,
        members: list[int],
        gains: Floats,
        ask: Ask,
        view: View,
        moment: Moment | None,
    ) -> Iterator[Decision]:
        positions = at[members]
        answer = self._aim.reserve(ask.value, ask.size_bytes, ask.encode_s, view.now_ns)
        if isinstance(answer, Suppression):
            self._note(rows, positions, answer)
            return
        first = rows[positions[0]]
        reason = Reason.UNCERTAIN
        if first["answered"]:
            reason = Reason.CHANGED
        elif moment is not None or self._leaving(rows[positions[:1]], *view.size)[0]:
            reason = Reason.LEAVING
        rows["pending"][positions] = True
        rows["asked_at_ns"][positions] = view.now_ns
        for track_id in rows["track_id"][positions].tolist():
            self.moments.forget(track_id)
        gain = float(gains[ask.level, members].sum())
        asked = tuple(positions.tolist())
        yield Decision(ask.region, ask.level, asked, reason, ask.value, gain, answer, moment)

    def _note(self, rows: Rows, at: Positions, cause: Suppression) -> None:
        """Counts the tracks at these positions for which this cause is new."""
        changed = at[rows["suppression"][at] != cause]
        if changed.size:
            rows["suppression"][changed] = cause
            self.suppressed[cause] = self.suppressed.get(cause, 0) + changed.size


def touches_border(rows: Rows, frame_width: int, frame_height: int) -> Mask:
    """Boxes that the frame's border cuts."""
    boxes = observed_boxes(rows)
    far_corner = (frame_width - _BORDER_PX, frame_height - _BORDER_PX)
    cut = (boxes[:, :2] < _BORDER_PX) | (boxes[:, 2:] > far_corner)
    return np.asarray(cut.any(axis=1), np.bool_)
