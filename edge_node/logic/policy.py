"""What is asked of the cloud: about which tracks, when, with which crop at which level, and why.

A track may be asked about when it lies in its class's band, has been seen for a while or is about
to leave, and lies whole in the frame. It is worth the gain that the bundle's gain model expects of
an answer, times what that is worth on this camera by the time it comes. Tracks near each other
share a crop; crops and levels are planned at the prices of the aim, and what is worth more than it
costs is sent. A track is asked about once, with the frame that showed it best; again only when its
escalation ended without an answer, or the evidence has changed since the cloud looked. What the
egress policy mostly hides is not asked about: the cloud would not find it, and so refute it.

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
from edge_node.logic.due import Whereabouts, cooling_down, drawn_tracks, due_tracks, whereabouts
from edge_node.logic.egress import HIDDEN_SHARE
from edge_node.logic.moments import BETTER, Moment, Moments, moment_of, sharpness_of
from edge_node.logic.plan import FREE, Ask, Planner, Prices
from edge_node.logic.rows import FORESEEN_NOT, Floats, Mask, Positions, Rows, labels_of
from edge_node.logic.spending import Reservation
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.values import REFUSALS, Reason, Suppression
from foundation.escalations import Region
from foundation.frames import Boxes, Scores
from foundation.gains import GainModel, texture_of
from foundation.geometry import box_areas

_LOOKS_MAX = 2
"""Tracks of one frame whose sharpness is measured."""
_OFFER_AGAIN_S = 0.1
"""What was refused is offered again after this: prices and buckets move no faster."""
_STALE = 0.7
"""A track whose present moment is worse than this share of its best is asked about with that."""

_REFUSED = np.array([cause in REFUSALS for cause in Suppression], np.bool_)


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
        places: Where they are.
        riders: (N,) which may lie in a crop of the present frame.
        now: (N,) which may be asked about with the present frame.
        of_moment: (N,) which may be asked about with what was held.
    """

    rows: Rows
    at: Positions
    places: Whereabouts
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
        hidden_labels: frozenset[int] = frozenset(),
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
            hidden_labels: Classes of which the egress policy hides something.
        """
        self._settings = settings
        self._model = model
        self.planner = planner
        self._aim = aim
        self._worth = worth
        self._low, self._high, self._report = limits
        self._foresees = foresees
        self._hidden_labels = hidden_labels
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
        self.suppressed.clear()
        at = due_tracks(rows)
        if at.size == 0:
            return []
        again, wanted = self._offers_again(view.now_ns), self._wanted(rows, at)
        said = rows["suppression"][at]
        # Most are as sure as they were, which has been noted, and will not be drawn.
        settled = (said == self._aim.unwanted) & (rows["foreseen"][at] == FORESEEN_NOT)
        stirs = (wanted | ~settled).nonzero()[0]
        if stirs.size == 0:
            return []
        at, wanted, refused = at[stirs], wanted[stirs], _REFUSED[said[stirs]]
        places = whereabouts(rows, at, self._settings.leaving_frames, view.size)
        seen_since = view.sequence + 1 - self._settings.min_track_frames
        open_ = (rows["first_sequence"][at] <= seen_since) | places.leaving
        self._note(rows, at[open_ & ~wanted], self._aim.unwanted)
        open_ &= wanted
        cooling = cooling_down(rows, at, self._settings.cooldown_s, view.now_ns)
        self._note(rows, at[open_ & cooling], Suppression.COOLDOWN)
        looked_at = wanted | drawn_tracks(rows, at, ~wanted, self._foresees)
        if not again:
            looked_at &= places.leaving | ~refused
        hopeful = looked_at.nonzero()[0]
        if hopeful.size == 0:
            return []
        wanted, open_ = wanted[hopeful], (open_ & ~cooling)[hopeful]
        return self._offer(rows, at[hopeful], places.of(hopeful), wanted, open_, view, scores)

    def _offer(
        self,
        rows: Rows,
        at: Positions,
        places: Whereabouts,
        wanted: Mask,
        open_: Mask,
        view: View,
        scores: Scores,
    ) -> list[Decision]:
        """Holds the best moments of tracks, and asks about those that may be asked about."""
        self.forget_unhidden(rows, at)
        gains = self._model.gains_of(scores[at], np.sqrt(box_areas(places.boxes)))
        hidden = view.redaction.hidden_shares(places.boxes) > HIDDEN_SHARE
        whole = ~(places.cut | hidden)
        held = rows["held_merit"][at]
        # What is offered for the first time is asked about now, or held from the next frame on.
        known = rows["offered"][at] | ~open_ | (held > 0)
        merit = self._hold(rows, at, view, places.boxes, whole & known, gains.max(axis=0))
        held = rows["held_merit"][at]
        stale = (held > 0) & (~whole | (merit < _STALE * held))
        kept = open_ & ~whole & ~stale
        self._note(rows, at[kept & hidden], Suppression.HIDDEN)
        self._note(rows, at[kept & ~hidden], Suppression.CUT_BY_FRAME)
        offered = _Offers(rows, at, places, wanted & whole, open_ & whole & ~stale, open_ & stale)
        if not (offered.now | offered.of_moment).any():
            return []
        values = np.maximum(gains * self._worth.of(rows, at, *view.size), self._aim.least)
        prices = self._aim.prices(view.now_ns)
        self._learn(offered, values, view, prices)
        return list(self._spend(offered, gains, values, view, prices))

    def forget_unhidden(self, rows: Rows, at: Positions) -> None:
        """Forgets moments of tracks at these positions that show what is to be hidden by now.

        They were cut while the track passed for another class.
        """
        if not self._hidden_labels:
            return
        at = at[rows["held_merit"][at] > 0]
        tracks = rows[at]
        labels = zip(tracks["edge_label"].tolist(), labels_of(tracks).tolist(), strict=True)
        for position, track_id, known_as in zip(
            at.tolist(), tracks["track_id"].tolist(), labels, strict=True
        ):
            moment = self.moments.of(track_id)
            hides_as = self._hidden_labels.intersection(known_as)
            if moment is not None and not hides_as <= {moment.label}:
                self.moments.forget(track_id)
                rows["held_merit"][position] = 0

    def suppress_all(self, rows: Rows) -> None:
        """Notes that there is nobody to ask."""
        self.suppressed.clear()
        due = rows["confirmed"] & (rows["suppression"] != Suppression.NO_ESCALATOR)
        if due.any():
            at = due.nonzero()[0]
            self._note(rows, at[self._in_band(rows, at)], Suppression.NO_ESCALATOR)

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

    def _in_band(self, rows: Rows, at: Positions) -> Mask:
        label = rows["edge_label"][at]
        in_band: Mask = rows["best_score"][at] >= self._low[label]
        in_band &= rows["score"][at] < self._high[label]
        return in_band

    def _wanted(self, rows: Rows, at: Positions) -> Mask:
        """Which tracks (N,) the aim wants to ask about, by their band and the edge's doubt."""
        score = rows["score"][at]
        stands = rows["best_score"][at] >= self._report[rows["edge_label"][at]]
        return self._aim.wants(self._in_band(rows, at), np.where(stands, 1 - score, score))

    def _hold(
        self, rows: Rows, at: Positions, view: View, boxes: Boxes, whole: Mask, value: Floats
    ) -> Floats:
        """Holds what is a better moment than before; returns the merit (N,) of the present one.

        Sharpness costs time, so it is measured of a few tracks: the most valuable, and of the
        others each in its turn. What was not measured is taken for as good as it was.
        """
        merit = np.full(len(at), np.inf, np.float32)
        may_hold = whole & (value > 0)
        if self.moments.full:
            known = rows["held_merit"][at] > 0
            self.moments.refused += int(np.count_nonzero(may_hold & ~known))
            may_hold &= known
        hopeful = may_hold.nonzero()[0]
        if hopeful.size > _LOOKS_MAX:
            hopeful = hopeful[(-value[hopeful]).argsort(kind="stable")]
            hopeful = hopeful[[0, 1 + view.sequence % (hopeful.size - 1)]]
        for number, position in zip(hopeful.tolist(), at[hopeful].tolist(), strict=True):
            box = boxes[number]
            size = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
            now = float(value[number]) * size * math.sqrt(sharpness_of(view.pixels, box))
            merit[number] = now
            if now > BETTER * rows["held_merit"][position]:
                region = self.planner.region_of(box, view.size)
                when = (view.sequence, view.captured_at_ns)
                if self.moments.hold(
                    moment_of(rows, position, view.cut(region), region, when, now)
                ):
                    rows["held_merit"][position] = now
        return merit

    def _learn(self, offers: _Offers, values: Floats, view: View, prices: Prices) -> None:
        """Lets the aim hear of each track once, when it may first be asked about."""
        rows, at = offers.rows, offers.at
        fresh = ((offers.now | offers.of_moment) & ~rows["offered"][at]).nonzero()[0]
        if fresh.size == 0:
            return
        boxes = offers.places.boxes[fresh]
        self._aim.learn(
            *self.planner.quote(boxes, values[:, fresh], view.size, prices), view.now_ns
        )
        rows["offered"][at[fresh]] = True

    def _spend(
        self, offers: _Offers, gains: Floats, values: Floats, view: View, prices: Prices
    ) -> Iterator[Decision]:
        """Plans and pays: what the present frame shows, then what was held of an earlier one."""
        rows, at, riders = offers.rows, offers.at, offers.riders
        boxes, leaving = offers.places.boxes, offers.places.leaving
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
            reason = Reason.LEAVING if leaving[members[0]] else Reason.UNCERTAIN
            yield from self._pay(rows, (at[members], at[anchors]), ask, gain, reason, view)
        for position in (offers.of_moment & ~rows["pending"][at]).nonzero()[0].tolist():
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
        if at.size == 0:
            return
        changed = at[rows["suppression"][at] != cause]
        if changed.size:
            rows["suppression"][changed] = cause
            self.suppressed[cause] = self.suppressed.get(cause, 0) + changed.size
