from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud_escalator.logic.quota import DeviceQuotas, Quota

S = 1_000_000_000
QUOTA = Quota(requests_per_s=2.0, requests_burst=4.0, bytes_per_s=100.0, bytes_burst=1000.0)


def test_a_burst_and_then_the_rate() -> None:
    """Four at once, then one every half second; the refusal says when."""
    quotas = DeviceQuotas(QUOTA, 10)
    assert [quotas.take("a", 1, 0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert quotas.take("a", 1, S // 4) == 0.25
    assert quotas.take("a", 1, S // 2) == 0.0
    assert quotas.take("a", 1, S // 2) == 0.5


def test_large_message_is_paid_off() -> None:
    """A message above the burst is taken once, and then waited for until it is paid."""
    quotas = DeviceQuotas(QUOTA, 10)
    assert quotas.take("a", 1500, 0) == 0.0
    assert quotas.take("a", 1, 0) == 5.0
    assert quotas.take("a", 1, 5 * S) == 0.0


def test_devices_do_not_share() -> None:
    """What one has used up, another has not."""
    quotas = DeviceQuotas(QUOTA, 10)
    while not quotas.take("noisy", 1, 0):
        pass
    assert quotas.take("polite", 1, 0) == 0.0


def test_devices_remembered_are_bounded() -> None:
    """The one that asked least recently is forgotten, and starts anew."""
    quotas = DeviceQuotas(QUOTA, 2)
    for _ in range(4):
        quotas.take("a", 1, 0)
    for name in ("b", "a", "c"):
        quotas.take(name, 1, 0)
    assert len(quotas) == 2
    assert quotas.take("a", 1, 0) > 0.0


@given(
    st.lists(st.tuples(st.integers(0, 2 * S), st.integers(1, 500)), min_size=1, max_size=60),
)
def test_nobody_gets_more_than_burst_and_rate(asked: list[tuple[int, int]]) -> None:
    """Whatever the pattern; and after the wait that was named, the same message is taken."""
    quotas = DeviceQuotas(QUOTA, 4)
    now_ns = taken = taken_bytes = 0
    for pause_ns, size in asked:
        now_ns += pause_ns
        wait_s = quotas.take("a", size, now_ns)
        if wait_s:
            now_ns += round(wait_s * S) + 1
            assert quotas.take("a", size, now_ns) == 0.0
        taken += 1
        taken_bytes += size
    elapsed_s = now_ns / S
    assert taken <= QUOTA.requests_burst + QUOTA.requests_per_s * elapsed_s + 1e-3
    assert taken_bytes <= QUOTA.bytes_burst + QUOTA.bytes_per_s * elapsed_s + 500 + 1e-3
