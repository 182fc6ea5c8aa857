from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.remember import VerdictMemory


def test_remembers_until_too_old() -> None:
    """A verdict is returned until it reaches its age limit, and not from then on."""
    memory: VerdictMemory[str, int] = VerdictMemory(4, ttl_ns=100)
    memory.put("a", 1, now_ns=0)
    assert memory.get("a", now_ns=99) == 1
    assert memory.get("a", now_ns=100) is None
    assert len(memory) == 0


def test_forgets_the_least_recently_used() -> None:
    """A verdict that was asked for again outlives one that was not."""
    memory: VerdictMemory[str, int] = VerdictMemory(2, ttl_ns=100)
    memory.put("a", 1, now_ns=0)
    memory.put("b", 2, now_ns=0)
    memory.get("a", now_ns=1)
    memory.put("c", 3, now_ns=2)
    assert memory.get("b", now_ns=3) is None
    assert memory.get("a", now_ns=3) == 1


def test_zero_remembers_nothing() -> None:
    """With room for none, every repeated request is a new one."""
    memory: VerdictMemory[str, int] = VerdictMemory(0, ttl_ns=100)
    memory.put("a", 1, now_ns=0)
    assert memory.get("a", now_ns=0) is None


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 30)), max_size=60)


@given(steps, st.integers(1, 5))
def test_behaves_like_a_plain_model(script: list[tuple[bool, int, int]], count_max: int) -> None:
    """Against an obvious model, no access order and no clock makes a difference."""
    memory: VerdictMemory[int, int] = VerdictMemory(count_max, ttl_ns=50)
    model: OrderedDict[int, tuple[int, int]] = OrderedDict()
    now_ns = 0
    for is_put, key, step_ns in script:
        now_ns += step_ns
        if is_put:
            memory.put(key, now_ns, now_ns)
            model.pop(key, None)
            model[key] = (now_ns, now_ns)
            while len(model) > count_max:
                model.popitem(last=False)
        else:
            held = model.get(key)
            expected = None
            if held is not None and now_ns - held[0] < 50:
                expected = held[1]
                model.move_to_end(key)
            elif held is not None:
                del model[key]
            assert memory.get(key, now_ns) == expected
        assert len(memory) <= count_max
