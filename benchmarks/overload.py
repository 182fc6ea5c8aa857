"""What the escalator still answers when ten times more is asked than it can do.

    python benchmarks/overload.py [--seconds 60] [--factor 10] [--json FILE]

The escalator is `cloud-escalator serve` in a process of its own. Polite devices ask steadily for
most of their equal share of the model; one noisy device asks for everything else up to `--factor`
times the capacity, whatever it is told. They run in two further processes, over gRPC on loopback,
every request on time even when the last ones were shed. Phases: calm (the polite devices alone),
peak (as many under way as the model can use), overload, calm again, peak again. Goodput counts
answers that came before their expiry, on the clock of who asked; peak is the mean of both.

Quotas and the bound of requests per stream are lifted, so that all of the load reaches the queue.
Clients and server share the machine, so on few cores their cost counts against the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import statistics
import struct
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc.aio
import psutil

from benchmarks.escalator_throughput import METHOD, make_crops, serving
from foundation.bundle import Bundle
from foundation.escalations import Encoding, Escalation, LabelledBoxes, Region
from foundation.wire import escalation_to_proto
from protos.escalation.v1 import escalation_pb2

NOISY = "noisy"
_POLITE_SHARE = 0.8
"""Of its equal share of the model, what a polite device asks for."""
_SETTLE_S = 1.0
_FILLING_S = 1.0


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
    """Runs devices side by side; the work of a client process."""

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


class Memory:
    """Samples the resident memory of a process from a thread, between `with` and its end."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")
        self.bytes_max = self.bytes_now = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            self.bytes_now = self._process.memory_info().rss
            self.bytes_max = max(self.bytes_max, self.bytes_now)


@dataclass(frozen=True, slots=True)
class Phases:
    """What was asked in each phase, and when the overload ended."""

    calm: list[Asked]
    peaks: list[list[Asked]]
    overload: list[Asked]
    after: list[Asked]
    stopped_s: float


class Bench:
    """Runs the phases against one escalator."""

    def __init__(self, options: argparse.Namespace, port: int, messages: list[bytes]) -> None:
        self._options = options
        self._port = port
        self._messages = messages
        spawn = multiprocessing.get_context("spawn")
        self._workers = [ProcessPoolExecutor(1, mp_context=spawn) for _ in range(2)]

    def run(self) -> Phases:
        """All phases, one after another."""
        options = self._options
        names = [f"polite-{number}" for number in range(1, options.polite + 1)]
        self._ask([], [Device(name, 0.0, 8, 2.0) for name in names])  # connections, caches
        calm_rate = 0.1 * good(self._peak(names, 4.0), options.expiry)[0]
        calm = self._ask([], [Device(name, calm_rate, 1, options.calm) for name in names])
        peaks = [self._peak(names, options.peak)]
        capacity = good(peaks[0], options.expiry)[0]
        share = capacity / (options.polite + 1)
        rest = options.factor * capacity - options.polite * _POLITE_SHARE * share
        polite = [
            Device(name, _POLITE_SHARE * share, 1, options.seconds + options.calm) for name in names
        ]
        both = self._ask([Device(NOISY, rest, 1, options.seconds)], polite)
        stopped_s = max(asked.sent_s for asked in both if asked.device == NOISY)
        peaks.append(self._peak(names, options.peak))
        return Phases(
            calm,
            peaks,
            [asked for asked in both if asked.sent_s <= stopped_s],
            [asked for asked in both if asked.sent_s > stopped_s],
            stopped_s,
        )

    def close(self) -> None:
        """Ends the client processes."""
        for worker in self._workers:
            worker.shutdown()

    def _peak(self, names: list[str], seconds: float) -> list[Asked]:
        return self._ask([], [Device(name, 0.0, 16, seconds) for name in names])

    def _ask(self, noisy: list[Device], polite: list[Device]) -> list[Asked]:
        running = [
            worker.submit(ask, self._port, devices, self._messages, self._options.expiry)
            for worker, devices in zip(self._workers, (noisy, polite), strict=True)
            if devices
        ]
        asked = [one for future in running for one in future.result()]
        time.sleep(_SETTLE_S)
        return asked


def good(asked: list[Asked], expiry_s: float) -> tuple[float, float]:
    """Answers in time, and what they are worth together, per second.

    Counted while it was asked, without the first second, in which the queue fills.
    """
    began_s = min(one.sent_s for one in asked) + _FILLING_S
    ended_s = max(one.sent_s for one in asked)
    found = [
        one.value
        for one in asked
        if one.outcome == "answer"
        and one.latency_s <= expiry_s
        and began_s <= one.done_s <= ended_s
    ]
    return len(found) / (ended_s - began_s), sum(found) / (ended_s - began_s)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; zero of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def recovery_s(phases: Phases, normal_s: float) -> float:
    """After the load stopped, until every request of a polite device is answered as when calm.

    Counted to the sending of the first request after the last one that was not.
    """
    last_bad_s = phases.stopped_s
    for one in phases.after:
        if one.outcome != "answer" or one.latency_s > normal_s:
            last_bad_s = max(last_bad_s, one.sent_s)
    return last_bad_s - phases.stopped_s


def report(phases: Phases, options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    expiry_s = options.expiry
    counts, values = zip(*(good(peak, expiry_s) for peak in phases.peaks), strict=True)
    peak = statistics.mean(counts)
    answered = [one for one in phases.overload if one.outcome == "answer"]
    count, value = good(phases.overload, expiry_s)
    by_device: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in phases.overload:
        by_device[one.device][one.outcome] += 1
    polite = [one.latency_s for one in answered if one.device != NOISY]
    calm = [one.latency_s for one in phases.calm if one.outcome == "answer"]
    normal_s = 2.0 * percentile(calm, 0.99)
    return {
        "peak_per_s": peak,
        "peaks_per_s": counts,
        "peak_value_per_s": statistics.mean(values),
        "offered_per_s": len(phases.overload) / options.seconds,
        "goodput_per_s": count,
        "goodput_of_peak": count / peak,
        "goodput_value_per_s": value,
        "answered_late": sum(one.latency_s > expiry_s for one in answered),
        "answers": len(answered),
        "latency_s": {
            "calm": {"p50": percentile(calm, 0.5), "p99": percentile(calm, 0.99)},
            "polite": {"p50": percentile(polite, 0.5), "p99": percentile(polite, 0.99)},
            "all": {
                "p50": percentile([one.latency_s for one in answered], 0.5),
                "p99": percentile([one.latency_s for one in answered], 0.99),
                "max": max(one.latency_s for one in answered),
            },
            "promise": expiry_s,
        },
        "devices": {
            name: {
                "offered": outcomes.total(),
                **outcomes,
                "of_answers": outcomes["answer"] / len(answered),
                "mean_value_answered": statistics.fmean(
                    [one.value for one in answered if one.device == name] or [0.0]
                ),
            }
            for name, outcomes in sorted(by_device.items())
        },
        "recovery_s": recovery_s(phases, normal_s),
        "normal_s": normal_s,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs everything; returns what goes into the JSON file."""
    bundle = Bundle.open(options.bundle)
    messages = make_messages(bundle)
    limits = {"stream_requests_max": 10_000, "queue_requests_max": 256}
    with serving(options.bundle, options, limits) as (port, process):
        bench = Bench(options, port, messages)
        before = process.memory_info().rss
        with Memory(process) as memory:
            phases = bench.run()
        bench.close()
        after = process.memory_info().rss
    return {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
        "bundle": {"name": bundle.info.name, "digest": bundle.digest},
        "seconds": options.seconds,
        "factor": options.factor,
        **report(phases, options),
        "resident_mb": {
            "before": before / 1e6,
            "peak": memory.bytes_max / 1e6,
            "after": after / 1e6,
        },
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The table."""
    latency, memory = result["latency_s"], result["resident_mb"]
    rows: list[tuple[str, str]] = [
        (
            "peak goodput",
            " and ".join(f"{one:.1f}" for one in result["peaks_per_s"]) + " answers/s",
        ),
        ("offered in overload", f"{result['offered_per_s']:.1f} requests/s"),
        (
            "goodput in overload",
            f"{result['goodput_per_s']:.1f} answers/s, {result['goodput_of_peak']:.1%} of peak",
        ),
        (
            "value in overload",
            f"{result['goodput_value_per_s']:.1f}/s, at peak {result['peak_value_per_s']:.1f}/s",
        ),
        ("answered after expiry", f"{result['answered_late']} of {result['answers']}"),
    ]
    rows += [
        (f"latency, {name}", f"p50 {latency[name]['p50']:.3f} s, p99 {latency[name]['p99']:.3f} s")
        for name in ("calm", "polite", "all")
    ]
    rows += [
        ("promise", f"{latency['promise']:.3f} s"),
        ("back to normal after", f"{result['recovery_s']:.2f} s"),
        (
            "resident memory, MB",
            f"{memory['before']:.0f}, at most {memory['peak']:.0f}, then {memory['after']:.0f}",
        ),
    ]
    for name, device in result["devices"].items():
        ended = ", ".join(f"{key} {device.get(key, 0)}" for key in ("answer", "shed", "expired"))
        share = f"{device['of_answers']:.1%} of answers"
        worth = f"mean value {device['mean_value_answered']:.2f}"
        rows.append((name, f"asked {device['offered']}: {ended}; {share}, {worth}"))
    yield from (f"{name:<24}{text}" for name, text in rows)


def main() -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=Path("reference_line/bundles/cloud-reference")
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--factor", type=float, default=10.0, help="asked, of the capacity")
    parser.add_argument("--polite", type=int, default=4, help="devices beside the noisy one")
    parser.add_argument("--expiry", type=float, default=3.0, help="promise of a request, s")
    parser.add_argument("--calm", type=float, default=8.0, help="seconds before and after")
    parser.add_argument("--peak", type=float, default=15.0, help="seconds of each peak")
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--decode-threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = measure(options)
    for line in lines(result):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
