"""Where the frame lane waits."""

from __future__ import annotations

import threading

import numpy as np

from edge_node.pipeline.inbox import NEWS_AT_ONCE, Arrival, LaneInbox
from edge_node.values import Encoded


def arrival(sequence: int) -> Arrival:
    """A frame without pixels."""
    return Arrival(sequence, 0, None)


def test_newest_frame_wins_and_the_displaced_one_is_returned() -> None:
    """So that it can be counted."""
    inbox = LaneInbox()
    assert inbox.offer(arrival(0)) is None
    assert inbox.offer(arrival(1)) == arrival(0)
    assert inbox.take(ended_before=False).arrival == arrival(1)
    assert inbox.offer(arrival(2)) is None


def test_lost_picture_displaces_no_picture() -> None:
    """It comes back itself, to be counted; another lost one it displaces."""
    inbox = LaneInbox()
    shown, lost = Arrival(0, 0, np.zeros((2, 2, 3), np.uint8)), arrival(1)
    assert inbox.offer(shown) is None
    assert inbox.offer(lost) is lost
    assert inbox.take(ended_before=False).arrival is shown
    assert inbox.offer(lost) is None
    assert inbox.offer(shown) is lost


def test_hand_over_waits_until_the_slot_is_empty() -> None:
    """Nothing is displaced."""
    inbox = LaneInbox()
    inbox.hand_over(arrival(0))
    waiting = threading.Thread(target=inbox.hand_over, args=(arrival(1),))
    waiting.start()
    assert inbox.take(ended_before=False).arrival == arrival(0)
    waiting.join(5.0)
    assert inbox.take(ended_before=False).arrival == arrival(1)


def test_hand_over_to_a_closed_inbox_returns_the_frame() -> None:
    """A capture thread never waits for a lane that is gone."""
    inbox = LaneInbox()
    inbox.hand_over(arrival(0))
    returned: list[Arrival | None] = []
    waiting = threading.Thread(target=lambda: returned.append(inbox.hand_over(arrival(1))))
    waiting.start()
    inbox.close()
    waiting.join(5.0)
    assert returned == [arrival(1)]


def test_frame_of_a_source_that_was_given_up_comes_back_to_be_counted() -> None:
    """One that waits for its turn, and one that comes after all."""
    inbox = LaneInbox()
    inbox.hand_over(arrival(0))
    returned: list[Arrival | None] = []
    waiting = threading.Thread(
        target=lambda: returned.append(inbox.hand_over(arrival(1))), daemon=True
    )
    waiting.start()
    inbox.end_frames()
    waiting.join(5.0)
    assert returned == [arrival(1)]
    assert inbox.take(ended_before=False).arrival == arrival(0), "it came before"
    assert inbox.offer(arrival(2)) == arrival(2)
    inbox.close()
    assert inbox.offer(arrival(3)) == arrival(3)


def test_news_comes_with_and_without_a_frame() -> None:
    """All that came, in order."""
    inbox = LaneInbox()
    inbox.post(Encoded("a", 1))
    inbox.post(Encoded("b", 2))
    work = inbox.take(ended_before=False)
    assert work.news == (Encoded("a", 1), Encoded("b", 2))
    assert work.arrival is None
    inbox.post(Encoded("c", 3))
    inbox.offer(arrival(4))
    work = inbox.take(ended_before=False)
    assert (len(work.news), work.arrival) == (1, arrival(4))


def test_end_of_frames_is_told_once_and_news_still_comes() -> None:
    """A lane that knows of the end waits for news, not in a loop."""
    inbox = LaneInbox()
    inbox.end_frames()
    assert inbox.take(ended_before=False).frames_ended
    inbox.post(Encoded("a", 1))
    assert len(inbox.take(ended_before=True).news) == 1
    inbox.close()
    assert inbox.take(ended_before=True).closed


def test_frame_waits_for_little_news_and_none_is_lost() -> None:
    """Thousands of endings at once do not hold it up; the end comes after the last of them."""
    inbox = LaneInbox()
    posted = [Encoded(str(number), 1) for number in range(3 * NEWS_AT_ONCE + 1)]
    for news in posted:
        inbox.post(news)
    inbox.offer(arrival(0))
    inbox.end_frames()
    inbox.close()
    taken = [inbox.take(ended_before=False)]
    assert taken[0].arrival == arrival(0)
    while not taken[-1].closed:
        assert not taken[-1].frames_ended
        taken.append(inbox.take(ended_before=False))
    assert [news for work in taken for news in work.news] == posted
    assert max(len(work.news) for work in taken) == NEWS_AT_ONCE
