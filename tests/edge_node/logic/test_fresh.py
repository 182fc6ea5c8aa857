"""Escalations waiting in memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import SpoolSettings
from edge_node.logic.fresh import FreshEscalations
from tests.edge_node.escalations import escalation


def spool(escalations_max: int = 3, bytes_max: int = 1 << 20) -> FreshEscalations:
    """A small spool."""
    return FreshEscalations(SpoolSettings(fresh_max=escalations_max, fresh_bytes_max=bytes_max))


def test_most_valuable_goes_first() -> None:
    """Whenever it came."""
    waiting = spool()
    for id_, value in (("a", 0.1), ("b", 0.2), ("c", 0.15)):
        waiting.put(escalation(id_), value)
    order = [taken.id for taken in iter(waiting.take, None)]
    assert order == ["b", "c", "a"]
    assert len(waiting) == 3, "an escalation is held until it has ended"


def test_least_valuable_waiting_one_is_evicted() -> None:
    """Even when it is the newcomer; never one in flight."""
    waiting = spool()
    waiting.put(escalation("a"), 0.05)
    waiting.take()
    waiting.put(escalation("b"), 0.1)
    waiting.put(escalation("c"), 0.2)
    assert waiting.put(escalation("d"), 0.15) == ["b"]
    assert waiting.put(escalation("e"), 0.01) == ["e"]


def test_bytes_are_bounded() -> None:
    """Not only the number."""
    waiting = spool(bytes_max=2500)
    waiting.put(escalation("a", size=1000), 0.1)
    waiting.put(escalation("b", size=1000), 0.2)
    assert waiting.put(escalation("c", size=1000), 0.3) == ["a"]
    assert waiting.size_bytes == 2000


def test_given_back_is_sent_again() -> None:
    """After a broken stream."""
    waiting = spool()
    waiting.put(escalation("a"), 0.1)
    assert waiting.take() is not None
    assert waiting.take() is None
    waiting.give_back("a")
    again = waiting.take()
    assert again is not None
    assert again.id == "a"


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "take", "give_back", "discard"]),
        st.integers(0, 12),
        st.integers(1, 900),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_any_use_keeps_the_bounds_and_the_count(actions: list[tuple[str, int, int]]) -> None:
    """The bytes are those of what is held, and what is held is bounded but for what is flying."""
    waiting = spool(escalations_max=4, bytes_max=2000)
    held: dict[str, int] = {}
    flying: set[str] = set()
    for number, (action, which, size) in enumerate(actions):
        names = sorted(held)
        name = names[which % len(names)] if names else "none"
        if action == "put":
            new = f"{number:03}"
            held[new] = size
            for evicted in waiting.put(escalation(new, size=size + 1023), float(which)):
                assert evicted not in flying
                del held[evicted]
        elif action == "take":
            taken = waiting.take()
            assert (taken is None) == (set(held) == flying)
            if taken is not None:
                flying.add(taken.id)
        elif action == "give_back":
            waiting.give_back(name)
            flying.discard(name)
        else:
            waiting.discard(name)
            held.pop(name, None)
            flying.discard(name)
        assert len(waiting) == len(held) <= max(4, len(flying))
        assert waiting.size_bytes == sum(size + 1023 for size in held.values())
