from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.batch import BatchPolicy, Waiting, plan_batch
from cloud_escalator.logic.cost import BatchCost

MS = 1_000_000
NOW_NS = 1_000_000 * MS
AT_ONCE = BatchPolicy(size_max=4, idle_wait_s=0.0)
PATIENT = BatchPolicy(size_max=4, idle_wait_s=0.050)


def cost_of(alone_ms: float, each_ms: float, size_max: int = 4) -> BatchCost:
    """A model that takes `alone_ms` for one crop and `each_ms` for every further one."""
    cost = BatchCost(size_max)
    for size in range(1, size_max + 1):
        cost.observe(size, (alone_ms + each_ms * (size - 1)) / 1000)
    return cost


def crop(*, age_ms: float = 0.0, left_ms: float = 10_000.0) -> Waiting:
    """A crop that arrived `age_ms` ago and has `left_ms` left."""
    return Waiting(NOW_NS - round(age_ms * MS), NOW_NS + round(left_ms * MS))


def test_nothing_waits_nothing_runs() -> None:
    """An empty queue asks for nothing."""
    plan = plan_batch([], NOW_NS, PATIENT, cost_of(10, 10))
    assert (plan.expired, plan.taken, plan.wait_s) == ((), (), 0.0)


def test_idle_model_takes_one_crop_at_once() -> None:
    """Without idle_wait_s a lonely crop runs alone and now."""
    plan = plan_batch([crop()], NOW_NS, AT_ONCE, cost_of(10, 10))
    assert plan.taken == (0,)
    assert plan.wait_s == 0.0


def test_full_batch_closes_by_size() -> None:
    """Five crops and room for four: the four oldest run, however patient the policy."""
    plan = plan_batch([crop()] * 5, NOW_NS, PATIENT, cost_of(10, 10))
    assert plan.taken == (0, 1, 2, 3)


def test_patient_policy_waits_for_company() -> None:
    """With idle_wait_s a batch that is not full waits, counted from its oldest crop."""
    plan = plan_batch([crop(age_ms=20), crop(age_ms=5)], NOW_NS, PATIENT, cost_of(10, 10))
    assert plan.taken == ()
    assert round(plan.wait_s, 6) == 0.030


def test_patience_ends() -> None:
    """Once the oldest crop has waited for so long, the batch closes as it is."""
    plan = plan_batch([crop(age_ms=50), crop(age_ms=5)], NOW_NS, PATIENT, cost_of(10, 10))
    assert plan.taken == (0, 1)


def test_slack_closes_a_batch_early() -> None:
    """Waiting leaves time to run the company that is waited for: 55 ms left, 30 ms for three."""
    plan = plan_batch([crop(), crop(left_ms=55)], NOW_NS, PATIENT, cost_of(10, 10))
    assert round(plan.wait_s, 6) == 0.025
    tight = plan_batch([crop(), crop(left_ms=30)], NOW_NS, PATIENT, cost_of(10, 10))
    assert tight.taken == (0, 1)


def test_expired_crops_are_taken_out() -> None:
    """A crop whose time is over does not run and does not fill the batch."""
    queue = [crop(left_ms=0), crop(), crop(left_ms=-5), crop()]
    plan = plan_batch(queue, NOW_NS, AT_ONCE, cost_of(10, 10))
    assert plan.expired == (0, 2)
    assert plan.taken == (1, 3)


def test_batch_shrinks_for_an_urgent_crop() -> None:
    """A crop with 25 ms left rides with one other and not with three."""
    queue = [crop(left_ms=25), crop(), crop(), crop()]
    plan = plan_batch(queue, NOW_NS, AT_ONCE, cost_of(10, 10))
    assert plan.taken == (0, 1)


def test_hopeless_crop_gives_way() -> None:
    """A crop that could not make it even alone does not cost the others a place."""
    queue = [crop(left_ms=5), crop(), crop(), crop()]
    plan = plan_batch(queue, NOW_NS, AT_ONCE, cost_of(10, 10))
    assert plan.expired == (0,)
    assert plan.taken == (1, 2, 3)


def test_one_is_tried_when_all_seem_hopeless() -> None:
    """What a batch costs may be overestimated, and only a batch can show it."""
    queue = [crop(left_ms=-1), crop(left_ms=5), crop(left_ms=5)]
    plan = plan_batch(queue, NOW_NS, AT_ONCE, cost_of(10, 10))
    assert plan.expired == (0, 2)
    assert plan.taken == (1,)


crops = st.builds(
    crop, age_ms=st.floats(0, 200), left_ms=st.floats(-100, 500).filter(lambda v: abs(v) > 1e-3)
)


@given(
    st.lists(crops, max_size=12),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.floats(0.1, 100),
    st.floats(0.1, 50),
)
def test_plan_keeps_its_promises(
    queue: list[Waiting], size_max: int, idle_wait_s: float, alone_ms: float, each_ms: float
) -> None:
    """What runs is alive and in order; an idle model runs or waits, never longer than allowed."""
    policy = BatchPolicy(size_max, idle_wait_s)
    cost = cost_of(alone_ms, each_ms, size_max)
    plan = plan_batch(queue, NOW_NS, policy, cost)
    alone_ns = NOW_NS + cost.predict(1) * 1e9
    hopeful = [i for i, waiting in enumerate(queue) if waiting.deadline_ns >= alone_ns]
    alive = hopeful or [i for i, crop in enumerate(queue) if crop.deadline_ns > NOW_NS][:1]
    assert set(plan.expired) == set(range(len(queue))) - set(alive)
    assert list(plan.taken) == alive[: len(plan.taken)]
    assert len(plan.taken) <= size_max
    if alive:
        assert bool(plan.taken) != (plan.wait_s > 0)
    if plan.wait_s > 0:
        assert plan.wait_s <= idle_wait_s
        assert len(alive) < size_max
        # After the wait, even with one crop more, every crop can still be answered in time.
        finish_ns = NOW_NS + (plan.wait_s + cost.predict(len(alive) + 1)) * 1e9
        assert finish_ns <= min(queue[i].deadline_ns for i in alive) + 1


@given(st.lists(crops, min_size=1, max_size=30), st.integers(1, 6), st.floats(0.1, 40))
def test_driven_to_the_end_every_crop_ends_once(
    queue: list[Waiting], size_max: int, batch_ms: float
) -> None:
    """Driven by a clock, every crop runs or expires once, and none starts after its deadline."""
    policy = BatchPolicy(size_max, 0.02)
    cost = cost_of(batch_ms, 0.0, size_max)
    now_ns, left, ended = NOW_NS, list(queue), 0
    while left:
        plan = plan_batch(left, now_ns, policy, cost)
        assert all(left[i].deadline_ns > now_ns for i in plan.taken)
        gone = {*plan.expired, *plan.taken}
        ended += len(gone)
        left = [waiting for i, waiting in enumerate(left) if i not in gone]
        now_ns += round((plan.wait_s or batch_ms / 1000) * 1e9) + 1
    assert ended == len(queue)
