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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.config import PolicySettings
from edge_node.logic.aim import OUTBIDS, Aim
from edge_node.logic.bids import Bids
from edge_node.logic.due import (
    Offers,
    Whereabouts,
    cooling_down,
    due_tracks,
    foresee_draws,
    heaviness_of,
    whereabouts,
)
from edge_node.logic.egress import HIDDEN_SHARE
from edge_node.logic.looks import Looks
from edge_node.logic.moments import Moment
from edge_node.logic.plan import FREE, Ask, Planner, Prices
from edge_node.logic.rhythm import Rhythm
from edge_node.logic.rows import FORESEEN_DRAWN, FORESEEN_UNKNOWN, Floats, Mask, Positions, Rows
from edge_node.logic.spending import Reservation
from edge_node.logic.view import View
from edge_node.logic.worth import Worth
from edge_node.values import Reason, Suppression
from foundation.escalations import Region
from foundation.frames import Scores
from foundation.gains import GainModel, texture_of
from foundation.geometry import box_areas

_BID, _WORTH, _LOOK, _PRICE = range(4)
"""Chores: to compare bids with the price; to say anew what they rest on; to look at tracks for
their best moments; and to draw prices anew."""
_EARLY_S = 0.25
"""Prices that are due within so long are drawn anew in their turn, so that no offer has to."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One escalation to be made.

    Attributes:
        ask: The crop, its level, and what its answer is expected to be worth.
        asked: Positions in the track table that the verdict decides about; the first made the
            policy ask, the others are in the band and lie whole inside the crop. Empty where no
            track is meant.
        reason: Why.
        gain: What it is expected to gain, whatever that is worth.
        reservation: What the budget was charged.
        moment: The held moment that is sent; None: the present frame.
    """

    ask: Ask
    asked: tuple[int, ...]
    reason: Reason
    gain: float
    reservation: Reservation
    moment: Moment | None = None


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
        self._looks = Looks(model, planner, hidden_labels)
        self._bids = Bids(model, planner, aim, worth, self._looks)
        self._rhythm = Rhythm(4)
        self.suppressed: dict[Suppression, int] = {}
        self.moments = self._looks.moments
        self.forget_unhidden = self._looks.forget_unhidden

    def consider(
        self, rows: Rows, view: View, scores: Scores, *, busy: bool = False
    ) -> list[Decision]:
        """Decides about every track of the present frame, most valuable per byte first.

        Args:
            rows: The track table; marked.
            view: The frame.
            scores: (N,) calibrated scores of the tracks, as far as they are trusted in this frame.
            busy: The frame lane has had verdicts to fuse: chores wait for another frame.
        """
        self.suppressed.clear()
        turns, at = self._rhythm.turns(view.now_ns, busy=busy), due_tracks(rows)
        if turns[_PRICE]:
            self._aim.refresh(view.now_ns, _EARLY_S)
        if at.size == 0:
            return []
        wanted = self._wanted(rows, at)
        decisions = self._decide(rows, at, wanted, view, scores, turns)
        if turns[_LOOK]:
            may = (wanted | (rows["foreseen"][at] == FORESEEN_DRAWN)) > rows["pending"][at]
            self._looks.look(rows, at[may], view, scores)
        return decisions

    def _decide(
        self,
        rows: Rows,
        at: Positions,
        wanted: Mask,
        view: View,
        scores: Scores,
        turns: Sequence[bool],
    ) -> list[Decision]:
        """Decides about tracks that are due, of which the aim wants some."""
        bids, worths = turns[_BID], turns[_WORTH]
        waits = self._bids.waiting(rows, at, wanted, view, scores, bids=bids, worths=worths)
        # Most are as sure as they were, which has been noted, and will not be drawn.
        said = rows["suppression"][at]
        settled = (said == int(self._aim.unwanted)) & (rows["foreseen"][at] != FORESEEN_UNKNOWN)
        stirs = np.where(wanted, ~waits, ~settled).nonzero()[0]
        if stirs.size == 0:
            return []
        at, wanted = at[stirs], wanted[stirs]
        places = whereabouts(rows, at, self._settings.leaving_frames, view.size)
        seen_since = view.sequence + 1 - self._settings.min_track_frames
        open_ = (rows["first_sequence"][at] <= seen_since) | places.leaving
        self._note(rows, at[open_ & ~wanted], self._aim.unwanted)
        foresee_draws(rows, at[~wanted], self._foresees)
        open_ &= wanted
        cooling = cooling_down(rows, at, self._settings.cooldown_s, view.now_ns)
        self._note(rows, at[open_ & cooling], Suppression.COOLDOWN)
        open_ &= ~cooling
        if not open_.any():
            return []
        return self._offer(rows, at, places, (wanted, open_), view, scores)

    def _offer(
        self,
        rows: Rows,
        at: Positions,
        places: Whereabouts,
        which: tuple[Mask, Mask],
        view: View,
        scores: Scores,
    ) -> list[Decision]:
        """Asks about tracks that may be asked about.

        Args:
            rows: The track table.
            at: Positions (N,) in it.
            places: Where they are.
            which: (N,) which are wanted, and which of those may be asked about now.
            view: The frame.
            scores: Of all tracks.
        """
        wanted, open_ = which
        self.forget_unhidden(rows, at)
        hidden = view.redaction.hidden_shares(places.boxes) > HIDDEN_SHARE
        whole, held = ~(places.cut | hidden), rows["held_merit"][at] > 0
        now, of_moment = open_ & whole, (open_ & held) > whole
        kept = open_ > (whole | held)
        self._note(rows, at[kept & hidden], Suppression.HIDDEN)
        self._note(rows, at[kept > hidden], Suppression.CUT_BY_FRAME)
        if not (now | of_moment).any():
            return []
        gains = self._model.gains_of(scores[at], np.sqrt(box_areas(places.boxes)))
        offered = Offers(rows, at, places, wanted & whole, now, of_moment)
        rows["worth"][at] = worth = self._worth.of(rows, at, *view.size)
        values = np.maximum(gains * worth, self._aim.least)
        prices = self._aim.prices(view.now_ns)
        self._learn(offered, values, view, prices)
        return list(self._spend(offered, gains, values, view, prices))

    def suppress_all(self, rows: Rows) -> None:
        """Notes that there is nobody to ask."""
        self.suppressed.clear()
        due = rows["confirmed"] & (rows["suppression"] != int(Suppression.NO_ESCALATOR))
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
        share = 1.0 if by_lot or region.covers(*view.size) else self._model.crop_share
        values = np.float32(share * value) * self._model.retention
        ask = self.planner.choose(region, values, prices, view.texture(region))
        worth = OUTBIDS if by_lot else ask.value
        answer = self._aim.reserve(worth, ask.size_bytes, ask.encode_s, view.now_ns)
        return answer if isinstance(answer, Suppression) else (ask, answer)

    def pay_for_moment(self, moment: Moment, now_ns: int) -> tuple[Ask, Reservation] | Suppression:
        """Pays for a held crop that was drawn by lot, whatever the price; or says why not."""
        texture = texture_of(moment.pixels)
        ask = self.planner.choose(moment.region, self._model.retention, FREE, texture)
        answer = self._aim.reserve(OUTBIDS, ask.size_bytes, ask.encode_s, now_ns)
        return answer if isinstance(answer, Suppression) else (ask, answer)

    def _in_band(self, rows: Rows, at: Positions) -> Mask:
        label = rows["edge_label"][at]
        in_band: Mask = rows["best_score"][at] >= self._low[label]
        in_band &= rows["score"][at] < self._high[label]
        return in_band

    def _wanted(self, rows: Rows, at: Positions) -> Mask:
        """Which tracks (N,) the aim wants to ask about, by their band or the edge's doubt."""

        def doubts() -> Floats:
            score = rows["score"][at]
            stands = rows["best_score"][at] >= self._report[rows["edge_label"][at]]
            return np.where(stands, 1 - score, score)

        return self._aim.wants(self._in_band(rows, at), doubts)

    def _learn(self, offers: Offers, values: Floats, view: View, prices: Prices) -> None:
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
        self, offers: Offers, gains: Floats, values: Floats, view: View, prices: Prices
    ) -> Iterator[Decision]:
        """Plans and pays: what the present frame shows, then what was held of an earlier one."""
        rows, at, riders = offers.rows, offers.at, offers.riders
        boxes, leaving = offers.places.boxes, offers.places.leaving
        refused = np.ones(len(at), np.bool_)
        worth = np.where(riders, values, 0)
        heaviness = heaviness_of(rows, at, view.now_ns)
        asks = self.planner.plan(
            boxes, worth, offers.now, view.size, prices, view.texture, heaviness
        )
        of_moment = offers.of_moment.copy()
        for ask in asks:
            # Crops may overlap: what another crop of this frame has just asked about counts there.
            free = ~rows["pending"][at[ask.members]]
            ask = ask if free.all() else ask.about(free, worth[ask.level])  # noqa: PLW2901
            members = ask.members[riders[ask.members]]
            anchors = members[offers.now[members]]
            fading = self._fading(offers, anchors, gains, view)
            of_moment[anchors[fading]] = True
            anchors = anchors[~fading]
            if anchors.size == 0:
                continue
            others = members[members != anchors[0]]
            members = np.concatenate([anchors[:1], others])
            refused[anchors] = False
            gain = float(gains[ask.level, members].sum())
            reason = Reason.LEAVING if leaving[members[0]] else Reason.UNCERTAIN
            yield from self._pay(rows, (at[members], at[anchors]), ask, gain, reason, view)
        for position in (of_moment > rows["pending"][at]).nonzero()[0].tolist():
            moment = self.moments.of(int(rows["track_id"][at[position]]))
            if moment is None:
                continue
            texture = texture_of(moment.pixels)
            of_crop = np.float32(self._model.crop_share) * values[:, position]
            ask = self.planner.choose(
                moment.region, of_crop, prices, texture, moment.box, float(heaviness[position])
            )
            alone = at[position : position + 1]
            refused[position] = False
            gain = float(gains[ask.level, position])
            yield from self._pay(rows, (alone, alone), ask, gain, Reason.LEAVING, view, moment)
        refused &= (offers.now | of_moment) > rows["pending"][at]
        self._note(rows, at[refused], Suppression.PRICE)

    def _fading(self, offers: Offers, anchors: Positions, gains: Floats, view: View) -> Mask:
        """Which of the tracks that a crop is for (K,) are better asked about with what is held."""
        prefers, boxes = self._looks.prefers_held, offers.places.boxes
        return np.array(
            [
                prefers(offers.rows, position, view, boxes[anchor], float(gains[:, anchor].max()))
                for anchor, position in zip(
                    anchors.tolist(), offers.at[anchors].tolist(), strict=True
                )
            ],
            np.bool_,
        )

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
        yield Decision(ask, asked, reason, gain, answer, moment)

    def _note(self, rows: Rows, at: Positions, cause: Suppression) -> None:
        """Counts the tracks at these positions for which this cause is new."""
        if at.size == 0:
            return
        # As a number: numpy takes five times as long to compare with an enumeration's member.
        changed = at[rows["suppression"][at] != int(cause)]
        if changed.size:
            rows["suppression"][changed] = cause
            self.suppressed[cause] = self.suppressed.get(cause, 0) + changed.size
