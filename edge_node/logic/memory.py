"""What is remembered of tracks beside their rows, and the rows of those that ended too early.

Invariant: a track that has ended is kept only while a question that shows it is open, so the memory
is bounded by the tracks alive and the escalations outstanding. Single-threaded; owned by the frame
lane through its `Reconciler`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_node.logic.fuse import Finding, Standing
from edge_node.logic.records import Record
from edge_node.logic.rows import Positions, Rows
from edge_node.logic.track import Tracker
from foundation.frames import Boxes


@dataclass(slots=True)
class TrackMemory:
    """What is remembered of one track.

    Attributes:
        open_questions: How many show it.
        note: Its last escalation, for the record.
        standing: The worth of the finding that stands.
        asked_sequence: The latest frame in which the cloud looked at it.
        ended: Its row (1,) after its end.
        unfused: Its box (4,) in frame `fused_at` as it was before verdicts moved it.
        fused_at: Sequence number of the frame in which a verdict last moved its box.
    """

    open_questions: int = 0
    note: Record | None = None
    standing: Standing | None = None
    asked_sequence: int = -1
    ended: Rows | None = None
    unfused: Boxes | None = None
    fused_at: int = -1

    def yields_to(self, finding: Finding) -> bool:
        """Whether the finding outranks what stands."""
        return self.standing is None or finding.standing > self.standing

    def box_before_fusion(self, box: Boxes, sequence: int) -> Boxes:
        """The box (4,) that the edge has for the present frame, given that of the row.

        A second verdict within one frame must start from where the first one did.
        """
        if self.fused_at != sequence or self.unfused is None:
            self.fused_at, self.unfused = sequence, box.copy()
        return self.unfused


class Memories:
    """The memories by track, and access to rows by track, whether alive or ended."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._memories: dict[int, TrackMemory] = {}

    def of(self, track_id: int) -> TrackMemory:
        """The memory of a track, begun if there was none."""
        memory = self._memories.get(track_id)
        if memory is None:
            memory = self._memories[track_id] = TrackMemory()
        return memory

    def note(self, track_id: int) -> Record | None:
        """A copy of the note of its last escalation."""
        memory = self._memories.get(track_id)
        return None if memory is None or memory.note is None else dict(memory.note)

    def close(self, track_id: int, row: Rows) -> None:
        """Notes that a track has ended with this row (1,)."""
        memory = self._memories.get(track_id)
        if memory is not None and memory.open_questions:
            memory.ended = row.copy()
        elif memory is not None:
            del self._memories[track_id]

    def forget(self, track_id: int) -> None:
        """Forgets a track that has ended and that no open question shows any more."""
        del self._memories[track_id]

    def positions(self, track_ids: Sequence[int]) -> Positions:
        """Where tracks (N,) are in the table; -1 for those that are not alive."""
        known = self._tracker.rows["track_id"]
        if len(known) == 0:
            return np.full(len(track_ids), -1, np.intp)
        wanted = np.array(track_ids, np.int64)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[at] == wanted, at, -1)

    def with_rows(self, track_ids: Sequence[int], at: Positions) -> list[int]:
        """Which of the tracks, by number, are alive or kept since their end."""
        return [
            number
            for number, place in enumerate(at.tolist())
            if place >= 0 or self.of(track_ids[number]).ended is not None
        ]

    def read(self, track_ids: Sequence[int], at: Positions) -> Rows:
        """Copies of the rows (N,) of tracks, at these positions or else ended."""
        alive, table = at >= 0, self._tracker.rows
        if alive.all():
            found: Rows = table[at]
            return found
        rows: Rows = np.zeros(len(at), table.dtype)
        rows[alive] = table[at[alive]]
        for number in np.flatnonzero(~alive).tolist():
            ended = self._memories[track_ids[number]].ended
            if ended is not None:
                rows[number] = ended[0]
        return rows

    def write(self, track_ids: Sequence[int], at: Positions, rows: Rows) -> None:
        """Puts rows (N,) back to where `read` found them."""
        alive = at >= 0
        if alive.all():
            self._tracker.rows[at] = rows
            return
        self._tracker.rows[at[alive]] = rows[alive]
        for number in np.flatnonzero(~alive).tolist():
            ended = self._memories[track_ids[number]].ended
            if ended is not None:
                ended[0] = rows[number]
