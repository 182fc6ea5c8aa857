"""Who asks, and within which quota: the streams and the messages of every device.

A device is what a client's certificate names; without one it is the site and camera that a request
states, which nothing proves. Event loop only.
"""

from __future__ import annotations

from collections import Counter

from cloud_escalator.adapters.grpc_server.stream import EscalationStream
from cloud_escalator.adapters.grpc_server.trust import Peer
from cloud_escalator.config import LimitSettings
from cloud_escalator.logic.quota import DeviceQuotas, Quota
from foundation.clock import Clock
from protos.escalation.v1 import escalation_pb2

_NAME_LENGTH_MAX = 256


class Devices:
    """Keeps the accounts of all devices.

    Args:
        limits: the quotas.
        clock: fills them.
    """

    def __init__(self, limits: LimitSettings, clock: Clock) -> None:
        self._clock = clock
        self._streams_max = limits.device_streams_max
        self._streams: Counter[str] = Counter()
        quota = Quota(
            limits.device_requests_per_s,
            limits.device_requests_burst,
            limits.device_bytes_per_s,
            limits.device_bytes_burst,
        )
        self._quotas = DeviceQuotas(quota, limits.devices_remembered_max)

    def name_of(self, peer: Peer) -> str:
        """The device that a client has proved to be; empty without TLS."""
        return " ".join(name.uri for name in peer.names or ())

    def name_stated(self, message: escalation_pb2.Escalation) -> str:
        """The device that a message says it is of; the message need not be well-formed."""
        return f"{message.site[:_NAME_LENGTH_MAX]}/{message.camera[:_NAME_LENGTH_MAX]}"

    def take_message(self, device: str, size_bytes: int) -> float:
        """Charges a message; returns zero, or after how many seconds it would be within quota."""
        return self._quotas.take(device, size_bytes, self._clock.now_ns())

    def take_stream(self, device: str, stream: EscalationStream) -> bool:
        """Counts a stream for the first device it is known to be of; False beyond its quota."""
        if stream.device:
            return True
        if self._streams[device] >= self._streams_max:
            return False
        stream.device = device
        self._streams[device] += 1
        return True

    def release_stream(self, stream: EscalationStream) -> None:
        """The stream has ended."""
        if stream.device:
            self._streams[stream.device] -= 1
            if not self._streams[stream.device]:
                del self._streams[stream.device]
