"""The one place where the frame lane waits: for a frame, for news of an escalation, or for the end.

Three threads meet here: the capture thread brings frames, encoder and event loop bring news, the
frame lane takes. One condition, so that news is applied at once even between frames.

Capacities: one frame (newest wins, but a lost picture displaces none; or the capture thread waits);
news is bounded by its makers, since every outstanding escalation brings at most two and only the
taker makes escalations.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edge_node.values import News
from foundation.frames import Pixels

NEWS_AT_ONCE = 32
"""News that a frame may have to wait for, some fifty microseconds each: a spool that makes room, or
an outage's backlog that expires, ends thousands of escalations in one moment."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame as it came from the source.

    Attributes:
        sequence: Position in the camera's stream.
        captured_at_ns: When.
        pixels: uint8 BGR (height, width, 3); None when the picture was lost on the way.
        on_demand: The picture waits for the lane, as one of an unpaced file does: it counts as
            captured when the lane takes it, and there is nothing to catch up with by coasting.
    """

    sequence: int
    captured_at_ns: int
    pixels: Pixels | None
    on_demand: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What the frame lane took.

    Attributes:
        news: What came since the last time, in order, at most `NEWS_AT_ONCE`.
        arrival: The newest frame, if any.
        frames_ended: No further frame will come, and all news from before has been taken.
        closed: No further news will come either: finish.
    """

    news: tuple[News, ...]
    arrival: Arrival | None
    frames_ended: bool
    closed: bool


class LaneInbox:
    """Single-slot frames plus news, under one condition."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._taken = threading.Condition(lock)
        self._arrival: Arrival | None = None
        self._news: deque[News] = deque()
        self._frames_ended = False
        self._closed = False

    def offer(self, arrival: Arrival) -> Arrival | None:
        """Puts a live frame in the slot, in the place of an older one.

        Returns:
            What the lane will not get: the older one, if any, or this one, where its picture was
            lost and the older one still has its own, or where frames have been said to have ended.
        """
        with self._changed:
            if self._frames_ended or self._closed:
                return arrival
            older = self._arrival
            if arrival.pixels is None and older is not None and older.pixels is not None:
                return arrival
            displaced, self._arrival = self._arrival, arrival
            self._changed.notify()
        return displaced

    def hand_over(self, arrival: Arrival) -> Arrival | None:
        """Waits until the slot is empty, then puts the frame there.

        Returns:
            The frame itself where frames have been said to have ended: the lane does not take it.
        """
        with self._changed:
            while self._arrival is not None and not (self._frames_ended or self._closed):
                self._taken.wait()
            if self._frames_ended or self._closed:
                return arrival
            self._arrival = arrival
            self._changed.notify()
        return None

    def post(self, news: News) -> None:
        """Brings news of an escalation."""
        with self._changed:
            self._news.append(news)
            self._changed.notify()

    def end_frames(self) -> None:
        """Says that the source has ended, or is given up; news may still come."""
        with self._changed:
            self._frames_ended = True
            self._changed.notify()
            self._taken.notify_all()

    def close(self) -> None:
        """Says that nothing more will come; what is there is still taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._taken.notify_all()

    def take(self, *, ended_before: bool) -> Work:
        """Waits for work; `ended_before` says that the end of frames is no news any more."""
        with self._changed:
            while not (
                self._news
                or self._arrival is not None
                or self._closed
                or (self._frames_ended and not ended_before)
            ):
                self._changed.wait()
            count = min(len(self._news), NEWS_AT_ONCE)
            news = tuple(self._news.popleft() for _ in range(count))
            drained = not self._news
            arrival, self._arrival = self._arrival, None
            if arrival is not None:
                self._taken.notify()
            return Work(news, arrival, self._frames_ended and drained, self._closed and drained)
