"""From detections to tracks: constant velocity, two-stage association, votes on the class.

Single writer: the frame lane's thread. Per frame call `advance`, then either `observe` (detections
are known) or nothing more (the frame was coasted or failed), then `retire`. `rows` is the table of
live tracks, a view that is new after tracks came or went.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_node.config import TrackSettings
from edge_node.logic.associate import assign, distances
from edge_node.logic.pairing import Box
from edge_node.logic.rows import (
    BEFORE_FIRST,
    NO_LABEL,
    Floats,
    Mask,
    Positions,
    Rows,
    new_rows,
    put_rows,
    take_rows,
)
from foundation.frames import Detections

_LIMIT_FRESH = np.float32(1.5)
"""Distance within which a track whose velocity is not yet known may be found again."""
_LIMIT_SETTLED = np.float32(0.9)
_OTHER_CLASS_PRICE = np.float32(0.25)
_SETTLED_DETECTIONS = 4
_STEADY_DETECTIONS = 8
"""Detections after which a velocity is known well enough to tell a conveyor from traffic."""
_SAME_OBJECT_DISTANCE = np.float32(0.3)
_SCORE_MEMORY = np.float32(0.7)
# Gains of the least-squares straight line through k detections, floored so that a track can turn.
# Source: Brookner, Tracking and Kalman Filtering Made Easy, section 1.2.10 (growing-memory filter).
_COUNTS = np.arange(1, 33, dtype=np.float32)
_CENTER_GAINS = np.maximum(2 * (2 * _COUNTS - 1) / (_COUNTS * (_COUNTS + 1)), 0.35)[:, None]
_VELOCITY_GAINS = np.maximum(6 / (_COUNTS * (_COUNTS + 1)), 0.06)[:, None]
_CENTER_GAINS[0] = _VELOCITY_GAINS[0] = 1.0
# Large enough to follow an object that grows as it enters the frame.
_SIZE_GAINS = np.maximum(1 / _COUNTS, 0.4)[:, None]


class Tracker:
    """Owns the table of live tracks.

    Attributes:
        rows: The table; columns in `edge_node.logic.rows`.
        refused_starts: How many detections started no track because there were too many.
    """

    def __init__(self, settings: TrackSettings, score_start: Floats) -> None:
        """Takes the calibrated score (classes,) from which a detection may start a track."""
        self._settings = settings
        self._start = np.asarray(score_start, np.float32)
        self._keep = self._start * np.float32(settings.score_keep_ratio)
        self._classes = len(self._start)
        self._table = new_rows(settings.tracks_max, self._classes)
        self._blank = new_rows(1, self._classes)
        self.rows: Rows = self._table[:0]
        self.refused_starts = 0
        self._next_id = 1
        self._sequence = self._began = BEFORE_FIRST
        self._scene = np.zeros(2, np.float32)
        self._rigid = False
        self._looks_since_scene = 0
        self._looked = BEFORE_FIRST

    def advance(self, sequence: int) -> None:
        """Carries every track to the frame with this sequence number by its own velocity."""
        if self._sequence == BEFORE_FIRST:
            self._began, steps = sequence, 1
        else:
            steps = max(0, sequence - self._sequence)
        self._sequence = sequence
        if len(self.rows) == 0 or steps == 0:
            return
        if self._rigid:
            # What rides on the belt keeps the belt's pace, which is known better than its own.
            lost = (self.rows["missed"] > 0) & self._rides()
            self.rows["velocity"][lost] = self._scene
        motion = self.rows["velocity"] * np.float32(steps)
        self.rows["box"][:, :2] += motion
        self.rows["box"][:, 2:] += motion
        self.rows["coasted"] += steps

    def observe(self, detections: Detections) -> None:
        """Joins the detections of the present frame, with calibrated scores, to the tracks."""
        self._looked = self._sequence
        self.rows["missed"] += 1
        floor = self._keep[detections.class_ids]
        kept = (detections.scores >= floor).nonzero()[0]
        if kept.size < len(detections):
            detections = detections.take(kept)
        may_start = detections.scores >= self._start[detections.class_ids]
        taken = np.zeros(len(detections), np.bool_)
        if len(self.rows) and len(detections):
            costs = distances(self.rows["box"], detections.boxes)
            # A second detection of what is tracked already, by another class, is no new object.
            taken |= costs.min(axis=0) < _SAME_OBJECT_DISTANCE
            other = self.rows["edge_label"][:, None] != detections.class_ids
            costs += other * _OTHER_CLASS_PRICE
            settled = self.rows["detections"] >= _SETTLED_DETECTIONS
            limits = np.where(settled, _LIMIT_SETTLED, _LIMIT_FRESH)[:, None]
            # Two stages, strong detections first: Zhang et al., ByteTrack, arXiv 2110.06864.
            strong = np.where(may_start, costs, np.float32(np.inf))
            row, column = assign(strong, limits)
            if row.size < len(self.rows) and not may_start.all():
                weak = np.where(may_start, np.float32(np.inf), costs)
                weak[row] = np.inf
                more_rows, more_columns = assign(weak, limits)
                row = np.concatenate([row, more_rows])
                column = np.concatenate([column, more_columns])
            self._update(row, detections.take(column))
            taken[column] = True
        self._learn_scene()
        self._mark_doubles()
        fresh = (may_start & ~taken).nonzero()[0]
        if fresh.size:
            self._start_tracks(detections.take(fresh))

    def retire(self, frame_width: int, frame_height: int) -> Rows:
        """Removes the tracks that have ended and returns those of them that had been confirmed.

        A track ends when the model has looked for it in too many frames and not found it, or when
        its centre has left the frame; a frame that nobody looked at is no evidence against it. On a
        belt, where everything moves as one, a known object that blinks has not gone: it is carried
        until it leaves the frame, at most `carried_frames_max` frames. So is, where most of the
        scene moves together, what only the cloud saw and no detection can confirm. A track that
        turned out to be another one, too, ends at once.
        """
        if len(self.rows) == 0:
            return self.rows
        limit, carried = self._settings.max_missed_frames, self._settings.carried_frames_max
        rows = self.rows
        absent = rows["missed"]
        allowed = np.where(rows["confirmed"], limit, limit // 2)
        if self._rigid:
            allowed = np.where(rows["confirmed"] & self._rides(), max(limit, carried), allowed)
        if rows["from_cloud"].any():
            allowed = np.where(rows["from_cloud"], self._unseen_frames_max, allowed)
            absent = np.where(rows["from_cloud"], rows["coasted"], absent)
        twice_center = rows["box"][:, :2] + rows["box"][:, 2:]
        size = np.array([2 * frame_width, 2 * frame_height], np.float32)
        outside = ((twice_center < 0) | (twice_center > size)).any(axis=1)
        ended = outside | (absent > allowed) | (rows["double_of"] > 0)
        return self._remove(ended) if ended.any() else rows[:0]

    def end_all(self) -> Rows:
        """Ends every track (the stream ends, or its frames change size)."""
        self._sequence = self._looked = BEFORE_FIRST
        self._forget_scene()
        return self._remove(np.ones(len(self.rows), np.bool_))

    def add_from_cloud(self, box: Box, *, label: int, score: float) -> int | None:
        """Adds an object that only the cloud saw, at its present box.

        Returns:
            Its track id, or None when there are too many tracks.
        """
        if len(self.rows) >= self._settings.tracks_max:
            self.refused_starts += 1
            return None
        at = len(self.rows)
        (track_id,) = self._append(self._blank).tolist()
        rows = self.rows
        rows["box"][at] = rows["seen_box"][at] = rows["best_box"][at] = box
        rows["velocity"][at] = self._scene
        rows["confirmed"][at] = rows["from_cloud"][at] = rows["answered"][at] = True
        rows["cloud_label"][at], rows["cloud_score"][at] = label, score
        rows["first_sequence"][at] = rows["last_sequence"][at] = max(0, self._sequence)
        return int(track_id)

    def carries_from(self, sequence: int) -> bool:
        """Whether an object that only the cloud saw, in this frame, would be carried still."""
        return self.has_seen(sequence) and self._sequence - sequence <= self._unseen_frames_max

    def has_seen(self, sequence: int) -> bool:
        """Whether this frame is of the present scene, and none of before all tracks ended."""
        return self._sequence != BEFORE_FIRST and sequence >= self._began

    @property
    def sequence(self) -> int:
        """Sequence number of the present frame."""
        return self._sequence

    @property
    def knows_scene(self) -> bool:
        """Whether something can be said about the present frame, if only that it is empty.

        Detections are known of a frame not long ago, by what a track needs to be given up, or there
        are tracks of before that are carried on.
        """
        if self._looked == BEFORE_FIRST:
            return False
        lately = self._sequence - self._looked <= self._settings.max_missed_frames
        return lately or bool(self.rows["confirmed"].any())

    @property
    def scene_velocity(self) -> Floats:
        """Pixels per frame (2,) that most settled tracks share; zero where they do not."""
        return self._scene

    @property
    def scene_moves(self) -> bool:
        """Whether the scene moves as a whole, like a conveyor."""
        return bool(np.abs(self._scene).max() > 0.5)

    @property
    def _unseen_frames_max(self) -> int:
        """How many frames an object is carried that only the cloud saw."""
        settings = self._settings
        return settings.carried_frames_max if self.scene_moves else 2 * settings.max_missed_frames

    def _update(self, at: Positions, found: Detections) -> None:
        if at.size == 0:
            return
        rows = take_rows(self.rows, at)
        count = rows["detections"] + 1
        gain_at = np.minimum(count, len(_COUNTS)) - 1
        seen = found.boxes
        residual = seen - rows["box"]
        half = np.float32(0.5)
        shift = (residual[:, :2] + residual[:, 2:]) * half
        center = _CENTER_GAINS[gain_at] * shift
        side = _SIZE_GAINS[gain_at] * (residual[:, 2:] - residual[:, :2]) * half
        opinion = rows["cloud_label"] != NO_LABEL
        if opinion.any():
            # The size that the cloud gave is better than any the edge will measure.
            side[opinion] = 0
        rows["box"][:, :2] += center - side
        rows["box"][:, 2:] += center + side
        steps = np.maximum(rows["coasted"], 1).astype(np.float32)
        rows["velocity"] += _VELOCITY_GAINS[gain_at] / steps[:, None] * shift
        memory = np.where(count == 1, np.float32(0), _SCORE_MEMORY)
        rows["score"] = memory * rows["score"] + (1 - memory) * found.scores
        rows["votes"][np.arange(len(rows)), found.class_ids] += found.scores
        rows["edge_label"] = rows["votes"].argmax(axis=1)
        better = (found.scores > rows["best_score"]).nonzero()[0]
        if better.size:
            rows["best_score"][better] = found.scores[better]
            rows["best_box"][better] = seen[better]
            rows["best_sequence"][better] = self._sequence
        rows["seen_box"] = seen
        rows["detections"] = count
        rows["coasted"] = rows["missed"] = 0
        rows["last_sequence"] = self._sequence
        rows["confirmed"] |= count >= self._settings.min_detections
        put_rows(self.rows, at, rows)

    def _learn_scene(self) -> None:
        """Learns how the scene moves from three settled tracks or more.

        Fewer cannot tell a motion that is common, but that one is over: it is forgotten at once
        where none of them shares it, and after `carried_frames_max` frames in any case.
        """
        rows = self.rows
        settled = (rows["detections"] >= _SETTLED_DETECTIONS) & (rows["coasted"] == 0)
        velocities = rows["velocity"][settled]
        if len(velocities) < 3:
            self._looks_since_scene += 1
            alone = velocities.size > 0 and not self._shares_scene(velocities).any()
            if alone or self._looks_since_scene > self._settings.carried_frames_max:
                self._forget_scene()
            return
        self._looks_since_scene = 0
        median = np.sort(velocities, axis=0)[len(velocities) // 2]
        off = np.abs(velocities - median).max(axis=1)
        speed = np.abs(median).max()
        together = off <= 1.0 + 0.25 * speed
        self._scene = median if np.count_nonzero(together) >= 0.6 * len(off) else median * 0
        steady = off[rows["detections"][settled] >= _STEADY_DETECTIONS]
        if len(steady) >= 3:
            # Traffic that flows one way does not keep to a twentieth of its speed; a belt does.
            at_pace = np.count_nonzero(steady <= 0.3 + 0.05 * speed)
            self._rigid = bool(at_pace >= 0.8 * len(steady))
        self._rigid = self._rigid and self.scene_moves

    def _forget_scene(self) -> None:
        self._scene = np.zeros(2, np.float32)
        self._rigid = False
        self._looks_since_scene = 0

    def _mark_doubles(self) -> None:
        """Finds tracks of one object: one is seen where another, not seen, is expected.

        An object that blinked may have started a track beside its own, and its detections then
        fall to the two by turns.
        """
        rows = self.rows
        known = rows["confirmed"] & (rows["detections"] >= _SETTLED_DETECTIONS)
        lost = np.flatnonzero(known & (rows["missed"] > 0))
        seen = np.flatnonzero(known & (rows["missed"] == 0))
        if lost.size == 0 or seen.size == 0:
            return
        near = distances(rows["box"][lost], rows["box"][seen]) < _SAME_OBJECT_DISTANCE
        for row, column in np.argwhere(near).tolist():
            first, second = int(lost[row]), int(seen[column])
            if self._are_one(first, second):
                stays, goes = sorted((first, second), key=self._weight, reverse=True)
                rows["double_of"][goes] = rows["track_id"][stays]

    def _are_one(self, first: int, second: int) -> bool:
        """Whether two tracks in one place move alike and the cloud does not tell them apart."""
        pair = self.rows[[first, second]]
        labels, velocity = pair["cloud_label"], pair["velocity"]
        told_apart = labels.min() != NO_LABEL and labels[0] != labels[1]
        apart = np.abs(velocity[0] - velocity[1]).max()
        alike = apart <= 1.0 + 0.25 * np.abs(velocity).max()
        return bool(alike and not told_apart and not pair["double_of"].any())

    def _weight(self, position: int) -> tuple[bool, bool, int]:
        """Which of two tracks of one object goes on: the cloud's, the asked about, the longer."""
        row = self.rows[position]
        has_opinion = bool(row["cloud_label"] != NO_LABEL)
        return has_opinion, bool(row["pending"]), int(row["detections"])

    def _rides(self) -> Mask:
        """Which tracks move with the scene, as well as their own velocity tells."""
        return self._shares_scene(self.rows["velocity"])

    def _shares_scene(self, velocities: Floats) -> Mask:
        off = np.abs(velocities - self._scene).max(axis=1)
        return np.asarray(off <= 1.0 + 0.25 * np.abs(self._scene).max(), np.bool_)

    def _start_tracks(self, found: Detections) -> None:
        """Starts tracks for detections that no track explains, best first."""
        order = np.argsort(-found.scores, kind="stable")
        found = found.take(order)
        if len(found) > 1:
            near = distances(found.boxes, found.boxes) < _SAME_OBJECT_DISTANCE
            found = found.take(~np.asarray(np.triu(near, k=1).any(axis=0), np.bool_))
        room = max(0, self._settings.tracks_max - len(self.rows))
        self.refused_starts += max(0, len(found) - room)
        if len(found) == 0 or room == 0:
            return
        found = found.take(np.arange(min(room, len(found))))
        rows = new_rows(len(found), self._classes)
        rows["box"] = rows["seen_box"] = rows["best_box"] = found.boxes
        rows["velocity"] = self._scene
        rows["score"] = rows["best_score"] = found.scores
        rows["votes"][np.arange(len(rows)), found.class_ids] = found.scores
        rows["edge_label"] = found.class_ids
        rows["detections"] = 1
        rows["confirmed"] = self._settings.min_detections <= 1
        rows["first_sequence"] = rows["last_sequence"] = rows["best_sequence"] = self._sequence
        self._append(rows)

    def _append(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Adds rows, of which there is room for the first ones at least; returns their ids."""
        ids = np.arange(self._next_id, self._next_id + len(rows))
        self._next_id += len(rows)
        rows["track_id"] = ids
        alive = len(self.rows)
        put_rows(self._table, slice(alive, alive + len(rows)), rows)
        self.rows = self._table[: alive + len(rows)]
        return ids

    def _remove(self, ended: Mask) -> Rows:
        known = take_rows(self.rows, ended & self.rows["confirmed"])
        kept = take_rows(self.rows, ~ended)
        put_rows(self._table, slice(len(kept)), kept)
        self.rows = self._table[: len(kept)]
        return known
