"""What is remembered of tracks beside their rows, and the rows of those that ended too early.

Invariant: a track that has ended is kept only while a question that shows it is open, so the memory
is bounded by the tracks alive and the escalations outstanding. Single-threaded; owned by the frame
lane through its `Reconciler`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from edge_node.logic.pairing import Box
from edge_node.logic.records import Record
from edge_node.logic.rows import Rows
from edge_node.logic.track import Tracker
from edge_node.values import Finding, Standing


@dataclass(slots=True)
class TrackMemory:
    """What is remembered of one track.

    Attributes:
        open_questions: How many show it.
        note: Its last escalation, for the record.
        standing: The worth of the finding that stands.
        asked_sequence: The latest frame in which the cloud looked at it.
        ended: Its row (1,) after its end.
        unfused: Its box in frame `fused_at` as it was before verdicts moved it.
        fused_at: Sequence number of the frame in which a verdict last moved its box.
    """

    open_questions: int = 0
    note: Record | None = None
    standing: Standing | None = None
    asked_sequence: int = -1
    ended: Rows | None = None
    unfused: Box | None = None
    fused_at: int = -1

    def yields_to(self, finding: Finding) -> bool:
        """Whether the finding outranks what stands."""
        return self.standing is None or finding.standing > self.standing

    def box_before_fusion(self, box: Box, sequence: int) -> Box:
        """The box that the edge has for the present frame, given that of the row.

        A second verdict within one frame must start from where the first one did.
        """
        if self.fused_at != sequence or self.unfused is None:
            self.fused_at, self.unfused = sequence, box
        return self.unfused


class Memories:
    """The memories by track, and where their rows are."""

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

    def positions(self, track_ids: Sequence[int]) -> list[int]:
        """Where tracks (N,) are in the table; -1 for those that are not alive."""
        # Ids rise, for the tracker appends, and what it removes leaves the others in order.
        known = self._tracker.rows["track_id"].tolist()
        places = []
        for track_id in track_ids:
            place = bisect_left(known, track_id)
            places.append(place if place < len(known) and known[place] == track_id else -1)
        return places
