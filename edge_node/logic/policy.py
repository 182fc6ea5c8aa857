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

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_node.config import PolicySettings
from edge_node.logic.aim import OUTBIDS, Aim
from edge_node.logic.budget import NS_PER_S
from edge_node.logic.due import (
    about_to_leave,
    cooling_down,
    due_tracks,
    touches_border,
)
from edge_node.logic.moments import BETTER, Moment, Moments, moment_of, sharpness_of
from edge_node.logic.plan import FREE, Ask, Planner, Prices
from edge_node.logic.rows import (
    FORESEEN_DRAWN,
    FORESEEN_NOT,
    FORESEEN_UNKNOWN,
    Floats,
    Mask,
    Positions,
    Rows,
    observed_boxes,
)
from edge_node.logic.spending import Reservation
from edge_node.logic.worth import Worth
from edge_node.values import REFUSALS, Reason, Suppression
from foundation.escalations import Region
from foundation.frames import Pixels, Scores
from foundation.gains import GainModel, texture_of
from foundation.geometry import box_areas

_LOOKS_MAX = 2
"""Tracks of one frame whose sharpness is measured."""
_OFFER_AGAIN_S = 0.1
"""What was refused is offered again after this: prices and buckets move no faster."""
_LOOKUPS_MAX = 8
"""Tracks of one frame that are looked up in the lottery; the others have their turn later."""
_STALE = 0.7
"""A track whose present moment is worse than this share of its best is asked about with that."""


_REFUSED = np.array([cause in REFUSALS for cause in Suppression], np.bool_)


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


@dataclass(frozen=True, slots=True)
class _Offers:
    """The tracks of a frame that there is something to say about.

    Attributes:
        rows: The track table.
        at: Positions (N,) in it.
        leaving: (N,) which are about to leave.
        riders: (N,) which may lie in a crop of the present frame.
        now: (N,) which may be asked about with the present frame.
        of_moment: (N,) which may be asked about with what was held.
    """

    rows: Rows
    at: Positions
    leaving: Mask
    riders: Mask
    now: Mask
    of_moment: Mask


class Policy:
    """Decides per frame. Marks `pending`, `offered`, `asked_at_ns`, `suppression` and what is held.

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
        self._offered_at_ns = 0
        self.suppressed: dict[Suppression, int] = {}
        self.moments = Moments()

    def consider(self, rows: Rows, view: View, scores: Scores) -> list[Decision]:
        """Decides about every track of the present frame, most valuable per byte first.

        Args:
            rows: The track table; marked.
            view: The frame.
            scores: (N,) calibrated scores of the tracks, as far as they are trusted in this frame.
        """
        settings = self._settings
        self.suppressed.clear()
        at = due_tracks(rows)
        if at.size == 0:
            return []
        part = rows[at]
        cut = touches_border(part, *view.size) | (part["coasted"] > 0)
        age = view.sequence - part["first_sequence"] + 1
        leaving = cut | about_to_leave(part, settings.leaving_frames, *view.size)
        ready = (age >= settings.min_track_frames) | leaving
        wanted = self._wanted(part)
        cooling = cooling_down(part, settings.cooldown_s, view.now_ns)
        self._note(rows, at[ready & ~wanted], self._aim.unwanted)
        self._note(rows, at[ready & wanted & cooling], Suppression.COOLDOWN)
        looked_at = wanted | self._may_be_drawn(rows, at, ~wanted)
        if not self._offers_again(view.now_ns):
            looked_at &= leaving | ~_REFUSED[part["suppression"]]
        hopeful = np.flatnonzero(looked_at)
        if hopeful.size == 0:
            return []
        at, part, cut, wanted = at[hopeful], part[hopeful], cut[hopeful], wanted[hopeful]
        open_ = wanted & (ready & ~cooling)[hopeful]
        gains = self._model.gains_of(scores[at], np.sqrt(box_areas(observed_boxes(part))))
        # What is offered for the first time is asked about now, or held from the next frame on.
        known = part["offered"] | ~open_ | (part["held_merit"] > 0)
        merit = self._hold(rows, at, view, ~cut & known, gains.max(axis=0))
        held = rows["held_merit"][at]
        stale = (held > 0) & (cut | (merit < _STALE * held))
        self._note(rows, at[open_ & cut & ~stale], Suppression.CUT_BY_FRAME)
        leaves = leaving[hopeful]
        offered = _Offers(rows, at, leaves, wanted & ~cut, open_ & ~cut & ~stale, open_ & stale)
        if not (offered.now | offered.of_moment).any():
            return []
        values = np.maximum(gains * self._worth.of(part, *view.size), self._aim.least)
        prices = self._aim.prices(view.now_ns)
        self._learn(offered, values, view, prices)
        return list(self._spend(offered, gains, values, view, prices))

    def suppress_all(self, rows: Rows) -> None:
        """Notes that there is nobody to ask."""
        self.suppressed.clear()
        due = rows["confirmed"] & (rows["suppression"] != Suppression.NO_ESCALATOR)
        if due.any():
            self._note(rows, np.flatnonzero(due & self._in_band(rows)), Suppression.NO_ESCALATOR)

    def settle(self, reservation: Reservation, size_bytes: float) -> None:
        """Learns the size on the wire of what was reserved; 0 when it is never sent."""
        self._aim.settle(reservation, size_bytes)

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

    def _offers_again(self, now_ns: int) -> bool:
        """Whether it is time to offer anew what was refused: not with every frame."""
        waits = 0 <= now_ns - self._offered_at_ns < _OFFER_AGAIN_S * NS_PER_S
        if not waits:
            self._offered_at_ns = now_ns
        return not waits

    def _in_band(self, rows: Rows) -> Mask:
        label = rows["edge_label"]
        in_band: Mask = (rows["best_score"] >= self._low[label]) & (
            rows["score"] < self._high[label]
        )
        return in_band

    def _wanted(self, rows: Rows) -> Mask:
        """Which tracks (N,) the aim wants to ask about, by their band and the edge's doubt."""
        stands = rows["best_score"] >= self._report[rows["edge_label"]]
        doubts = np.where(stands, 1 - rows["score"], rows["score"])
        return self._aim.wants(self._in_band(rows), doubts)

    def _may_be_drawn(self, rows: Rows, at: Positions, among: Mask) -> Mask:
        """Tracks (N,) that the audit will draw if nobody asks; each is looked up once."""
        unknown = at[among & (rows["foreseen"][at] == FORESEEN_UNKNOWN)]
        for position in unknown[:_LOOKUPS_MAX].tolist():
            drawn = self._foresees(int(rows["track_id"][position]))
            rows["foreseen"][position] = FORESEEN_DRAWN if drawn else FORESEEN_NOT
        return np.asarray(among & (rows["foreseen"][at] == FORESEEN_DRAWN), np.bool_)

    def _hold(self, rows: Rows, at: Positions, view: View, whole: Mask, value: Floats) -> Floats:
        """Holds what is a better moment than before; returns the merit (N,) of the present one.

        Sharpness costs time, so it is measured of a few tracks: the most valuable, and of the
        others each in its turn. What was not measured is taken for as good as it was.
        """
        part = rows[at]
        boxes = observed_boxes(part)
        merit = np.full(len(at), np.inf, np.float32)
        may_hold = whole & (value > 0)
        if self.moments.full:
            known = part["held_merit"] > 0
            self.moments.refused += int(np.count_nonzero(may_hold & ~known))
            may_hold &= known
        hopeful = may_hold.nonzero()[0]
        if hopeful.size > _LOOKS_MAX:
            hopeful = hopeful[np.argsort(-value[hopeful], kind="stable")]
            turn = view.sequence % (hopeful.size - 1)
            hopeful = np.array([hopeful[0], np.roll(hopeful[1:], -turn)[0]])
        for position in hopeful.tolist():
            box = boxes[position]
            size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
            now = float(value[position]) * size * math.sqrt(sharpness_of(view.pixels, box))
            merit[position] = now
            if now > BETTER * part["held_merit"][position]:
                region = self.planner.region_of(box, view.size)
                when = (view.sequence, view.captured_at_ns)
                if self.moments.hold(moment_of(part, position, view.pixels, region, when, now)):
                    rows["held_merit"][at[position]] = now
        return merit

    def _learn(self, offers: _Offers, values: Floats, view: View, prices: Prices) -> None:
        """Lets the aim hear of each track once, when it may first be asked about."""
        rows, at = offers.rows, offers.at
        fresh = np.flatnonzero((offers.now | offers.of_moment) & ~rows["offered"][at])
        if fresh.size == 0:
            return
        boxes = observed_boxes(rows[at[fresh]])
        self._aim.learn(
            *self.planner.quote(boxes, values[:, fresh], view.size, prices), view.now_ns
        )
        rows["offered"][at[fresh]] = True

    def _spend(
        self, offers: _Offers, gains: Floats, values: Floats, view: View, prices: Prices
    ) -> Iterator[Decision]:
        """Plans and pays: what the present frame shows, then what was held of an earlier one."""
        rows, at, riders = offers.rows, offers.at, offers.riders
        boxes = observed_boxes(rows[at])
        refused = np.ones(len(at), np.bool_)
        worth = np.where(riders, values, 0)
        asks = self.planner.plan(boxes, worth, offers.now, view.size, prices, view.texture)
        for ask in asks:
            members = ask.members[riders[ask.members]]
            anchors = members[offers.now[members]]
            if anchors.size == 0:
                continue
            others = members[members != anchors[0]]
            members = np.concatenate([anchors[:1], others])
            refused[anchors] = False
            gain = float(gains[ask.level, members].sum())
            reason = Reason.LEAVING if offers.leaving[members[0]] else Reason.UNCERTAIN
            yield from self._pay(rows, (at[members], at[anchors]), ask, gain, reason, view)
        for position in np.flatnonzero(offers.of_moment & ~rows["pending"][at]).tolist():
            moment = self.moments.of(int(rows["track_id"][at[position]]))
            if moment is None:
                continue
            texture = texture_of(moment.pixels)
            ask = self.planner.choose(moment.region, values[:, position], prices, texture)
            alone = at[position : position + 1]
            refused[position] = False
            gain = float(gains[ask.level, position])
            yield from self._pay(rows, (alone, alone), ask, gain, Reason.LEAVING, view, moment)
        refused &= (offers.now | offers.of_moment) & ~rows["pending"][at]
        self._note(rows, at[refused], Suppression.PRICE)

    def _pay(
        self,
        rows: Rows,
        tracks: tuple[Positions, Positions],
        ask: Ask,
        gain: float,
        reason: Reason,
        view: View,
        moment: Moment | None = None,
    ) -> Iterator[Decision]:
        """Pays for one crop that is to decide about tracks, and is made because of some of them."""
        members, anchors = tracks
        answer = self._aim.reserve(ask.value, ask.size_bytes, ask.encode_s, view.now_ns)
        if isinstance(answer, Suppression):
            self._note(rows, anchors, answer)
            return
        if rows["answered"][members[0]]:
            reason = Reason.CHANGED
        rows["pending"][members] = True
        rows["asked_at_ns"][members] = view.now_ns
        rows["held_merit"][members] = 0
        for track_id in rows["track_id"][members].tolist():
            self.moments.forget(track_id)
        asked = tuple(members.tolist())
        yield Decision(ask.region, ask.level, asked, reason, ask.value, gain, answer, moment)

    def _note(self, rows: Rows, at: Positions, cause: Suppression) -> None:
        """Counts the tracks at these positions for which this cause is new."""
        changed = at[rows["suppression"][at] != cause]
        if changed.size:
            rows["suppression"][changed] = cause
            self.suppressed[cause] = self.suppressed.get(cause, 0) + changed.size
