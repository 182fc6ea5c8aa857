from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.fair import Claim, FairQueue

NUMBERS = itertools.count()


def claim(
    device: str, value: float = 0.0, deadline_ns: int = 1000, size_bytes: int = 1
) -> Claim[int]:
    """A claim with a number of its own."""
    return Claim(device, value, deadline_ns, size_bytes, next(NUMBERS))


def drain(queue: FairQueue[int]) -> list[Claim[int]]:
    """Everything that waits, in the order of service."""
    served = []
    while (one := queue.pop()) is not None:
        served.append(one)
    return served


def filled(*claims: Claim[int]) -> FairQueue[int]:
    """A queue with these claims, added in this order."""
    queue: FairQueue[int] = FairQueue()
    for one in claims:
        queue.add(one, 0)
    return queue


claims = st.builds(
    claim,
    device=st.sampled_from("abcd"),
    value=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    deadline_ns=st.integers(1, 50),
    size_bytes=st.integers(1, 20),
)


def test_devices_take_turns() -> None:
    """Ten requests of one device do not come before the one of another."""
    noisy = [claim("noisy") for _ in range(10)]
    polite = claim("polite")
    assert drain(filled(*noisy, polite)) == [noisy[0], polite, *noisy[1:]]


def test_the_most_valuable_of_a_device_is_next() -> None:
    """By value; among equals the one that expires first, then the one that came first."""
    low, first, later, urgent = (
        claim("a", 1.0),
        claim("a", 2.0, 500),
        claim("a", 2.0, 500),
        claim("a", 2.0, 400),
    )
    assert drain(filled(low, first, later, urgent)) == [urgent, first, later, low]


def test_value_buys_nothing_from_another_device() -> None:
    """Values are on each device's own scale."""
    boaster, modest = claim("a", 1e9), claim("b", 0.1)
    second = claim("a", 1e9)
    assert drain(filled(boaster, second, modest)) == [boaster, modest, second]


def test_a_backlog_counts_from_when_the_device_last_had_nothing() -> None:
    """Not from its oldest request: what is overtaken for long is no backlog by itself."""
    queue: FairQueue[int] = FairQueue()
    assert queue.backlog_ns("a", 10) == 0
    queue.add(claim("a"), 10)
    queue.add(claim("a"), 20)
    queue.pop()
    assert queue.backlog_ns("a", 30) == 20
    queue.pop()
    queue.add(claim("a"), 40)
    assert queue.backlog_ns("a", 45) == 5


def test_full_queue_gives_up_the_least_of_who_holds_most() -> None:
    """A newcomer of a device with little takes the place of the noisy one's least valuable."""
    noisy = [claim("noisy", value) for value in (3.0, 1.0, 2.0)]
    queue = filled(*noisy, claim("polite"))
    assert queue.make_room(claim("polite"), 4, 100) == [noisy[1]]
    assert len(queue) == 3


def test_newcomer_that_is_worth_least_is_given_up_itself() -> None:
    """Of the device that holds most the newcomer may be the least; then nothing else goes."""
    queue = filled(claim("noisy", 2.0), claim("noisy", 1.0), claim("polite"))
    assert queue.make_room(claim("noisy", 0.5), 3, 100) is None
    assert len(queue) == 3
    given_up = queue.make_room(claim("noisy", 1.5), 3, 100)
    assert given_up is not None
    assert [gone.value for gone in given_up] == [1.0]


def test_bytes_are_given_up_by_who_holds_most_of_them() -> None:
    """Large requests of one device make room for a small one of another."""
    large = [claim("large", size_bytes=40), claim("large", size_bytes=40)]
    queue = filled(*large, *(claim("small") for _ in range(5)))
    assert queue.make_room(claim("small", size_bytes=10), 100, 90) == [large[1]]
    assert queue.size_bytes == 45


@given(st.lists(claims, max_size=30), claims)
def test_place_is_where_it_is_served(waiting: list[Claim[int]], newcomer: Claim[int]) -> None:
    """The place predicted at the door is the number of requests served before it."""
    queue = filled(*waiting)
    place = queue.place_of(newcomer)
    queue.add(newcomer, 0)
    assert drain(queue).index(newcomer) == place


@given(st.lists(st.one_of(claims, st.none(), st.integers(0, 8)), max_size=60))
def test_every_claim_leaves_exactly_once(steps: list[Claim[int] | int | None]) -> None:
    """Added, served, given up or late: each once, and the bounds and the sums hold throughout."""
    queue: FairQueue[int] = FairQueue()
    entered, left = [], []
    for step in steps:
        if step is None:
            served = queue.pop()
            left += [served] if served is not None else []
        elif isinstance(step, int):
            left += [late for late, _ in queue.take_late(lambda one, at: at > one.deadline_ns)]
        else:
            given_up = queue.make_room(step, 8, 60)
            if given_up is not None:
                left += given_up
                queue.add(step, 0)
                entered.append(step)
        held = [one for one in entered if one not in left]
        assert len(queue) == len(held) <= 8
        assert queue.size_bytes == sum(one.size_bytes for one in held) <= 60
    left += drain(queue)
    assert Counter(one.item for one in left) == Counter(one.item for one in entered)


@given(st.lists(claims, min_size=1, max_size=40))
def test_between_two_turns_of_a_device_others_have_at_most_one(waiting: list[Claim[int]]) -> None:
    """While both have work, no device gets two places more than another: nobody starves."""
    order = [one.device for one in drain(filled(*waiting))]
    for first, second in itertools.permutations(set(order), 2):
        ends = max(position for position, device in enumerate(order) if device == first)
        got: Counter[str] = Counter()
        for device in order[: ends + 1]:
            got[device] += 1
            assert got[second] <= got[first] + 1


@given(st.lists(claims, min_size=1, max_size=40), claims, st.integers(1, 40), st.integers(20, 400))
def test_who_holds_less_than_an_equal_part_loses_nothing(
    waiting: list[Claim[int]], newcomer: Claim[int], count_max: int, bytes_max: int
) -> None:
    """Only the device that holds most, of places or of bytes, gives anything up, and its least."""
    queue = filled(*waiting)
    given_up = queue.make_room(newcomer, count_max, bytes_max)
    kept = [one for one in waiting if given_up is None or one not in given_up]
    assert {one.item for one in kept} == {one.item for one in drain(queue)}
    for gone in given_up or ():
        for one in kept:
            if one.device == gone.device:
                assert one.order <= gone.order
    if given_up and sum(one.size_bytes for one in (*waiting, newcomer)) <= bytes_max:
        counts = Counter(one.device for one in (*kept, newcomer))
        for gone in given_up:
            assert counts[gone.device] + 1 >= max(counts.values())


@given(st.lists(claims, max_size=40), st.integers(1, 10))
def test_late_claims_go_and_the_others_move_up(waiting: list[Claim[int]], each: int) -> None:
    """Every late request is named with the requests before it, and none is left that is late."""
    queue = filled(*waiting)

    def is_late(one: Claim[int], place: int) -> bool:
        return (place + 1) * each > one.deadline_ns

    late = queue.take_late(is_late)
    assert all(is_late(one, place) for one, place in late)
    assert len(queue) + len(late) == len(waiting)
    ready = {id(one) for one, _ in late}
    assert all(id(one) not in ready for one in drain(queue))
