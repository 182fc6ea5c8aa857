"""Two hosts of this machine, with a wire between them whose faults are set while it is in use.

Each host is a network namespace. The wire joins a TUN device in each: the kernels' TCP runs
unchanged on both sides, and this process carries every packet across, late, seldom or not at all.
(`tc netem` would do the same, and is not built into every kernel.) Beside it each host has a veth
pair to the namespace of this process, over which metrics are read. Needs root, `ip` and
/dev/net/tun.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_TUN = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_MTU_BYTES = 1500
_WIRE = "10.231.0"
_QUEUE_BYTES = 32 << 10
"""What a slow wire holds back at each end before it drops: four seconds of 64 kbit/s."""
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What the wire does to packets, in each direction.

    Attributes:
        loss: Share that vanishes.
        delay_s: Later by so much.
        bits_per_s: What it carries; zero: anything.
        cut: Nothing passes.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    bits_per_s: float = 0.0
    cut: bool = False


SOUND = Fault()


def why_not() -> str:
    """Why there can be no such hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if shutil.which("ip") is None:
        return "`ip` is not installed"
    try:
        with Wire.device("hcprobe"):
            pass
        _ip("netns", "add", "hc-probe")
        _ip("netns", "del", "hc-probe")
    except (OSError, subprocess.CalledProcessError) as error:
        return f"network namespaces or TUN devices are not permitted: {error}"
    return ""


class Host:
    """A network namespace.

    Attributes:
        prefix: Runs a command there, put before it.
        wire_address: On the wire.
        address: On the way to this process.
    """

    def __init__(self, name: str, number: int) -> None:
        self._name = f"hc-{os.getpid()}-{name}"
        self._veth = f"hc{os.getpid()}v{number}"
        self.prefix = ("ip", "netns", "exec", self._name)
        self.wire_address = f"{_WIRE}.{number}"
        # Of this process's namespace, so different for each process: a /30 for each host.
        block = os.getpid() % 4096
        net = f"10.{240 + block // 256}.{block % 256}"
        self._here = f"{net}.{4 * number + 1}/30"
        self.address = f"{net}.{4 * number + 2}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        with contextlib.ExitStack() as stack:
            stack.push(self)
            inside = ("-n", self._name)
            peer = f"{self._veth}p"
            _ip("link", "add", self._veth, "type", "veth", "peer", "name", peer)
            _ip("link", "set", peer, "netns", self._name)
            _ip("addr", "add", self._here, "dev", self._veth)
            _ip("link", "set", self._veth, "up")
            _ip(*inside, "addr", "add", f"{self.address}/30", "dev", peer)
            _ip(*inside, "link", "set", peer, "up")
            _ip(*inside, "link", "set", "lo", "up")
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A namespace lives on while a process or a packet holds it; its veth goes at once.
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._veth)
        _ip("netns", "del", self._name)

    def take(self, device: str) -> None:
        """Takes a device of this process's namespace as its end of the wire."""
        _ip("link", "set", device, "netns", self._name)
        inside = ("-n", self._name)
        _ip(*inside, "addr", "add", f"{self.wire_address}/24", "dev", device)
        _ip(*inside, "link", "set", device, "up")


class Wire:
    """Carries packets between two hosts, in a thread.

    Attributes:
        fault: What it does at this moment; may be set at any time.
        carried_bytes: By direction, from the first host and from the second.
        lost_packets: Dropped by lot, for want of room, or because the wire was cut.
    """

    def __init__(self, first: Host, second: Host, seed: int) -> None:
        self.fault = SOUND
        self.carried_bytes = [0, 0]
        self.lost_packets = 0
        self._hosts = (first, second)
        self._rng = random.Random(seed)
        self._stack = contextlib.ExitStack()
        self._ends: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)

    @staticmethod
    @contextlib.contextmanager
    def device(name: str) -> Iterator[int]:
        """A TUN device; yields its file descriptor."""
        end = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = _IFF_TUN | _IFF_NO_PI
            fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            yield end
        finally:
            os.close(end)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for number, host in enumerate(self._hosts):
                name = f"hc{os.getpid()}w{number}"
                self._ends.append(stack.enter_context(self.device(name)))
                host.take(name)
            self._stack = stack.pop_all()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_JOIN_S)
        self._stack.close()

    def _carry(self) -> None:
        """Reads packets at both ends, and writes each at the other when it is due."""
        count = itertools.count()
        due: list[tuple[float, int, int, bytes]] = []
        free_at = [0.0, 0.0]
        before = self.fault
        while not self._stop.is_set():
            wait_s = min(0.1, max(0.0, due[0][0] - time.monotonic())) if due else 0.1
            readable, _, _ = select.select(self._ends, [], [], wait_s)
            now, fault = time.monotonic(), self.fault
            if fault is not before:  # what has waited at the old rate goes on at once
                due = [(now, number, side, packet) for _, number, side, packet in due]
                heapq.heapify(due)
                before, free_at = fault, [0.0, 0.0]
            for side, end in enumerate(self._ends):
                packet = _read(end) if end in readable else b""
                if not packet:
                    continue
                held_s = max(0.0, free_at[side] - now)
                full = held_s * fault.bits_per_s > 8 * _QUEUE_BYTES
                if fault.cut or full or self._rng.random() < fault.loss:
                    self.lost_packets += 1
                    continue
                if fault.bits_per_s:
                    held_s += 8 * len(packet) / fault.bits_per_s
                    free_at[side] = now + held_s
                heapq.heappush(due, (now + held_s + fault.delay_s, next(count), side, packet))
            while due and due[0][0] <= now:
                _, _, side, packet = heapq.heappop(due)
                if fault.cut:
                    self.lost_packets += 1
                    continue
                self.carried_bytes[side] += len(packet)
                with contextlib.suppress(OSError):  # that host's end is not up yet
                    os.write(self._ends[1 - side], packet)


def _read(end: int) -> bytes:
    try:
        return os.read(end, _MTU_BYTES + 64)
    except (BlockingIOError, OSError):
        return b""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
