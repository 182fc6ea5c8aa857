"""The devices that ask: each on a stream of its own, at the least cost of its own."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
from dataclasses import dataclass
from typing import Any

import grpc.aio

from benchmarks.escalator_throughput import METHOD, make_crops
from foundation.bundle import Bundle
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region
from foundation.wire import escalation_to_proto
from protos.escalation.v1 import escalation_pb2

_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Device:
    """How one device asks.

    Attributes:
        name: its camera.
        rate_per_s: requests per second, at random instants; zero keeps `under_way` requests open.
        under_way: requests open at once, when there is no rate.
        seconds: for how long it asks.
    """

    name: str
    rate_per_s: float
    under_way: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: by whom, when (monotonic clock of the machine), and what became of it."""

    device: str
    value: float
    sent_s: float
    done_s: float
    outcome: str

    @property
    def latency_s(self) -> float:
        """From sending to the verdict."""
        return self.done_s - self.sent_s


class Asker:
    """One device on one stream."""

    def __init__(self, device: Device, messages: list[bytes], expiry_s: float) -> None:
        self._device = device
        self._messages = messages
        self._expiry_s = expiry_s
        self._random = random.Random(device.name)
        self._open: dict[str, tuple[float, float]] = {}
        self._room = asyncio.Semaphore(device.under_way)
        self.asked: list[Asked] = []

    async def run(self, port: int) -> None:
        """Asks for as long as it should, and waits for what it is still owed."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            raw: Any = channel  # the stubs do not know that messages may stay bytes
            call = raw.stream_stream(METHOD)()
            await call.wait_for_connection()
            reader = asyncio.create_task(self._read(call))
            due_s = began_s = time.monotonic()
            while (now_s := time.monotonic()) < began_s + self._device.seconds:
                if not self._device.rate_per_s:
                    await self._room.acquire()
                elif due_s > now_s:
                    await asyncio.sleep(due_s - now_s)
                if self._device.rate_per_s:
                    due_s += self._random.expovariate(self._device.rate_per_s)
                await call.write(self._message())
            await call.done_writing()
            await asyncio.wait_for(reader, self._expiry_s + 30.0)

    def _message(self) -> bytes:
        # Fields may come in any order and the last one counts, so what differs is appended.
        value = self._random.expovariate(1.0)
        name = f"{self._device.name}{len(self.asked) + len(self._open)}-{os.getpid()}"
        name = f"{name}-{time.monotonic_ns()}"
        self._open[name] = (value, time.monotonic())
        sent_ns = time.time_ns()
        expires_ns = sent_ns + round(self._expiry_s * 1e9)
        text, camera = name.encode(), self._device.name.encode()
        return b"".join(
            (
                self._random.choice(self._messages),
                bytes([0x0A, len(text)]) + text,
                bytes([0x1A, len(camera)]) + camera,
                struct.pack("<BQBQ", 0x31, expires_ns, 0x39, sent_ns),
                struct.pack("<BBf", 0x8D, 0x01, value),
            )
        )

    async def _read(self, call: Any) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            verdict = escalation_pb2.Verdict.FromString(message)
            value, sent_s = self._open.pop(verdict.escalation_id)
            outcome = verdict.WhichOneof("outcome") or "none"
            now_s = time.monotonic()
            self.asked.append(Asked(self._device.name, value, sent_s, now_s, outcome))
            if not self._device.rate_per_s:
                self._room.release()
        for value, sent_s in self._open.values():
            self.asked.append(Asked(self._device.name, value, sent_s, time.monotonic(), "lost"))


def ask(port: int, devices: list[Device], messages: list[bytes], expiry_s: float) -> list[Asked]:
    """Runs devices side by side; the work of a client process, which gives way to the server."""
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)

    async def run_all() -> list[Asked]:
        askers = [Asker(device, messages, expiry_s) for device in devices]
        await asyncio.gather(*(asker.run(port) for asker in askers))
        return [asked for asker in askers for asked in asker.asked]

    return asyncio.run(run_all())


def make_messages(bundle: Bundle) -> list[bytes]:
    """Serialized requests without what differs between them."""
    side = Region(0, 0, bundle.info.input.width, bundle.info.input.height)
    template = Escalation(
        id="",
        site="bench",
        camera="",
        track_id=0,
        frame_sequence=0,
        captured_at_ns=1,
        expires_at_ns=1,
        frame_width=side.width,
        frame_height=side.height,
        region=side,
        encoding=Encoding.WEBP,
        image=b"0",
        proposals=LabelledBoxes.empty(),
        edge_bundle_digest="0" * 64,
        reason="benchmark",
    )
    messages = []
    for data in make_crops(bundle, Encoding.WEBP):
        message = escalation_to_proto(template, sent_at_ns=1)
        message.image = data
        messages.append(message.SerializeToString())
    return messages
