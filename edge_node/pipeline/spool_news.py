"""What the spool's thread tells the escalation lane, brought to the event loop."""

from __future__ import annotations

from collections.abc import Sequence

from edge_node.pipeline.escalation_lane import EscalationLane
from edge_node.pipeline.in_hand import Keeping
from edge_node.values import Ending, Kept


class SpoolNews:
    """Implements `ports.SpoolListener`; called from the spool's thread."""

    def __init__(self, lane: EscalationLane) -> None:
        self._lane = lane

    def note_kept(self, escalation_ids: Sequence[str], *, written: bool) -> None:
        """What was appended is on disk, or cannot be kept."""
        keeping = Keeping.YES if written else Keeping.NO
        self._lane.call(self._lane.hear_kept, escalation_ids, keeping)

    def note_backlog(self, backlog: Sequence[Kept]) -> None:
        """What the backlog asked for."""
        self._lane.call(self._lane.hear_backlog, backlog)

    def note_claimed(self, escalation_id: str, kept: Kept | None) -> None:
        """Whether the spool has what an unexpected verdict is about."""
        self._lane.call(self._lane.hear_claimed, escalation_id, kept)

    def note_gone(self, reason: str, ending: Ending) -> None:
        """The spool has let go of one."""
        self._lane.call(self._lane.hear_gone, reason, ending)

    def note_lost(self, reason: str, ending: Ending) -> None:
        """The file that held one was damaged: it has ended, unless it is in hand."""
        self._lane.call(self._lane.hear_lost, reason, ending)

    def note_ended(self, escalation_ids: Sequence[str]) -> None:
        """The spool knows of these too, so it hands them out no more."""
        self._lane.call(self._lane.hear_ended, escalation_ids)
