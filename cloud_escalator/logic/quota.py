"""How much one device may ask, whatever the escalator has time for.

Two buckets per device, of requests and of bytes, each filling at its rate up to its burst. A
message is taken whole: it needs one request and a bucket of bytes that is not in debt, and may then
put the bytes in debt. Invariants: over any time a device gets at most burst plus rate x time, and
one message; what is refused costs nothing; the devices remembered are bounded, and the one that
asked least recently is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Quota:
    """What a device may ask.

    Attributes:
        requests_per_s: lasting rate of messages.
        requests_burst: messages at once, at least 1.
        bytes_per_s: lasting rate of serialized bytes.
        bytes_burst: bytes at once, positive.
    """

    requests_per_s: float
    requests_burst: float
    bytes_per_s: float
    bytes_burst: float


@dataclass(slots=True)
class _Buckets:
    requests: float
    bytes: float
    filled_at_ns: int


class DeviceQuotas:
    """The buckets of all devices.

    Args:
        quota: the same for every device.
        devices_max: devices remembered, at least 1. One that is forgotten starts anew with full
            buckets.
    """

    def __init__(self, quota: Quota, devices_max: int) -> None:
        self._quota = quota
        self._devices_max = devices_max
        self._buckets: OrderedDict[str, _Buckets] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, device: str, size_bytes: int, now_ns: int) -> float:
        """Charges a message of `size_bytes` to a device.

        Returns:
            Zero when it is within the quota; otherwise nothing is charged, and it would be
            taken after so many seconds.
        """
        quota = self._quota
        buckets = self._filled(device, now_ns)
        wait_s = max(
            (1.0 - buckets.requests) / quota.requests_per_s, -buckets.bytes / quota.bytes_per_s
        )
        if wait_s > 0.0:
            return wait_s
        buckets.requests -= 1.0
        buckets.bytes -= size_bytes
        return 0.0

    def _filled(self, device: str, now_ns: int) -> _Buckets:
        quota = self._quota
        buckets = self._buckets.get(device)
        if buckets is None:
            buckets = _Buckets(quota.requests_burst, quota.bytes_burst, now_ns)
            self._buckets[device] = buckets
            if len(self._buckets) > self._devices_max:
                self._buckets.popitem(last=False)
            return buckets
        self._buckets.move_to_end(device)
        elapsed_s = max(now_ns - buckets.filled_at_ns, 0) / NS_PER_S
        requests = buckets.requests + elapsed_s * quota.requests_per_s
        buckets.requests = min(requests, quota.requests_burst)
        buckets.bytes = min(buckets.bytes + elapsed_s * quota.bytes_per_s, quota.bytes_burst)
        buckets.filled_at_ns = now_ns
        return buckets
