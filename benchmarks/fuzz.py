"""Whether anything that a client can send makes the escalator crash, hang, leak or lose a request.

    python -m benchmarks.fuzz [--requests N] [--seed N] [--seconds S] [--json FILE]

Mutated Escalations (benchmarks/rig/mutations.py) go as raw bytes over several gRPC streams to an
escalator in a process of its own, with the reference line's model and quotas out of the way. What
is protobuf must get exactly one verdict, what is none must end its stream with INVALID_ARGUMENT
after the verdicts that came before, a message above the limit with RESOURCE_EXHAUSTED; some
messages are sent twice, and some streams are abandoned half-way. Between them sound requests must
be answered. At the end the escalator's books are compared with what was sent, its log is searched
for bugs, its memory, threads and files are compared with those before, and it must stop as asked.
Every difference is a violation and is listed; there should be none.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from benchmarks.escalator_throughput import METHOD, NO_QUOTA
from benchmarks.rig.fuzz_stream import STALL_S, Account, Session
from benchmarks.rig.mutations import Mutant, Mutator
from benchmarks.rig.report import end
from benchmarks.rig.services import HOST, Service, escalator
from protos.escalation.v1 import escalation_pb2 as pb
from reference_line.demo_plan import free_ports

_STREAMS = 4
_STREAM_MESSAGES_MAX = 250
_TWICE_SHARE = 0.02
_ABANDONED_SHARE = 0.02
_OVERSIZE_SHARE = 0.002
_OVERSIZE_BYTES = 5 << 20
_SETTLE_S = 15.0
_PROBE_EVERY = 2000
_SAMPLES = 100
_LEAK_MB = 64.0
_MORE_THREADS = 4
_MORE_FILES = 4
_BUGS = ("Traceback", "ended by a bug", "never retrieved", " CRITICAL ", " ERROR ", "Segmentation")
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Sample:
    """The escalator's process at one moment; memory in MB, time in seconds of wall clock."""

    sent: int
    at_s: float
    rss_mb: float
    threads: int
    files: int


class Fuzzer:
    """Keeps several streams busy until enough was sent or time is over."""

    def __init__(self, service: Service, port: int, arguments: argparse.Namespace) -> None:
        self._service = service
        self._target = f"{HOST}:{port}"
        self._wanted: int = arguments.requests
        self._random = random.Random(arguments.seed)
        self._mutator = Mutator(self._random, time.time_ns)
        self._began_s = time.monotonic()
        self._until_s = self._began_s + arguments.seconds
        self._begun = 0
        self._probed_at = 0
        self.account = Account()
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """All of it."""
        await self._probe()
        self.take_sample()
        await asyncio.gather(*(self._keep_busy() for _ in range(_STREAMS)))
        await self._probe()
        self.take_sample()

    def take_sample(self) -> None:
        """Notes how the process stands."""
        process = self._service.process
        self.samples.append(
            Sample(
                self.account.sent.total(),
                time.monotonic() - self._began_s,
                process.memory_info().rss / 1e6,
                process.num_threads(),
                process.num_fds(),
            )
        )

    def _goes_on(self) -> bool:
        if not self._service.is_running:
            if not any("ended" in text for text in self.account.violations):
                self.account.violations.append(f"it ended: {self._service.last_words()[-600:]}")
            return False
        return self._begun < self._wanted and time.monotonic() < self._until_s

    async def _keep_busy(self) -> None:
        """One stream after another, on a connection that is sometimes a new one."""
        while self._goes_on():
            async with grpc.aio.insecure_channel(self._target, options=_OPTIONS) as channel:
                for _ in range(self._random.randrange(1, 200)):
                    if not self._goes_on():
                        return
                    await self._one_stream(channel)
                    await self._look()

    async def _one_stream(self, channel: Any) -> None:  # the stubs do not know calls of bytes
        if self._random.random() < _OVERSIZE_SHARE:
            await self._send_oversize(channel)
            return
        abandon = self._random.random() < _ABANDONED_SHARE
        mutants = self._make_mutants()
        self._begun += len(mutants)
        session = Session(channel.stream_stream(METHOD)(), self.account)
        await session.run(mutants, abandon=abandon)

    def _make_mutants(self) -> list[Mutant]:
        """Up to the first that is no protobuf: it ends its stream."""
        mutants: list[Mutant] = []
        most = min(_STREAM_MESSAGES_MAX, self._wanted - self._begun)
        while len(mutants) < most:
            mutant = self._mutator.next()
            mutants.append(mutant)
            try:
                pb.Escalation.FromString(mutant.message)
            except DecodeError:
                break
            if len(mutants) < most and self._random.random() < _TWICE_SHARE:
                mutants.append(Mutant("streams: sent twice", mutant.message))
        return mutants

    async def _send_oversize(self, channel: Any) -> None:
        call = channel.stream_stream(METHOD)()
        try:
            async with asyncio.timeout(STALL_S):
                await call.write(bytes(_OVERSIZE_BYTES))
                status = await call.code()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            status = await call.code()
        except TimeoutError:
            self.account.violations.append("a message above the limit hangs")
            return
        self.account.statuses[f"{status.name} (a message above the limit)"] += 1
        if status is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.account.violations.append(f"a message above the limit ended as {status.name}")

    async def _look(self) -> None:
        """From time to time: the process's state, and a sound request."""
        sent = self.account.sent.total()
        if sent - self.samples[-1].sent >= self._wanted / _SAMPLES:
            self.take_sample()
        if sent - self._probed_at >= _PROBE_EVERY:
            self._probed_at = sent
            await self._probe()

    async def _probe(self) -> None:
        """A sound request on a connection of its own must be answered."""
        asked = self._mutator.sound()
        asked.value = 1e6  # what the fuzz sends may claim any value and crowd others out
        began_s = time.monotonic()
        outcome = "no verdict"
        try:
            async with (
                asyncio.timeout(STALL_S),
                grpc.aio.insecure_channel(self._target, options=_OPTIONS) as channel,
            ):
                raw: Any = channel
                call = raw.stream_stream(METHOD)()
                await call.write(asked.SerializeToString())
                reply = await call.read()
                if reply is not grpc.aio.EOF:  # type: ignore[attr-defined]
                    outcome = pb.Verdict.FromString(reply).WhichOneof("outcome") or "none"
                await call.done_writing()
                await call.code()
        except TimeoutError:
            outcome = "no verdict in time"
        except grpc.aio.AioRpcError as error:
            outcome = error.code().name
        self.account.probes += 1
        self.account.probe_s.append(time.monotonic() - began_s)
        if outcome != "answer":
            self.account.violations.append(f"a sound request got {outcome}")


async def settle(service: Service) -> dict[str, float]:
    """Waits until nothing is under way; returns the sums of its books."""
    until_s = time.monotonic() + _SETTLE_S
    while True:
        metrics = await asyncio.to_thread(service.metrics)
        sums: Counter[str] = Counter()
        for (name, _), value in metrics.items():
            sums[name] += value  # type: ignore[assignment] # a Counter of floats
        idle = not sums["escalator_streams"] and not sums["escalator_queue_requests"]
        if idle or time.monotonic() > until_s:
            return dict(sums)
        await asyncio.sleep(0.2)


def compare_books(fuzzer: Fuzzer, sums: dict[str, float]) -> list[str]:
    """Where the escalator's books and what was sent differ."""
    account = fuzzer.account
    found = [
        f"{gauge} is {sums[gauge]:.0f} after the last stream"
        for gauge in ("escalator_streams", "escalator_queue_requests")
        if sums[gauge]
    ]
    sent = account.sent.total() + account.probes
    read = round(sums["escalator_requests_total"])
    if not sent - account.uncertain <= read <= sent:
        found.append(f"{sent} were sent ({account.uncertain} uncertain), and it counts {read}")
    first, last = fuzzer.samples[0], fuzzer.samples[-1]
    if last.threads > first.threads + _MORE_THREADS:
        found.append(f"threads went from {first.threads} to {last.threads}")
    if last.files > first.files + _MORE_FILES:
        found.append(f"open files went from {first.files} to {last.files}")
    if (grown := last.rss_mb - sample_at(fuzzer.samples, 0.5).rss_mb) > _LEAK_MB:
        found.append(f"memory grew by {grown:.0f} MB in the second half")
    return found


def sample_at(samples: list[Sample], share: float) -> Sample:
    """The sample nearest to a share of all that was sent."""
    return min(samples, key=lambda sample: abs(sample.sent - share * samples[-1].sent))


def slope(samples: list[Sample]) -> float:
    """MB of memory per 100,000 requests, a straight line through the second half of the run."""
    late = [sample for sample in samples if sample.sent >= samples[-1].sent / 2]
    if len(late) < 3:
        return 0.0
    line = np.polyfit([sample.sent for sample in late], [sample.rss_mb for sample in late], 1)
    return float(line[0]) * 1e5


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Starts the escalator, sends everything, compares; returns the figures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        [port] = free_ports(1)
        limits = {**NO_QUOTA, "device_streams_max": 10_000}
        with escalator(folder, port, limits=limits) as service:
            service.start()
            service.wait_ready()
            pid = service.process.pid
            fuzzer = Fuzzer(service, port, arguments)
            asyncio.run(fuzzer.run())
            violations = fuzzer.account.violations
            cpu_s = 0.0
            if service.is_running and service.process.pid == pid:
                sums = asyncio.run(settle(service))
                fuzzer.take_sample()
                cpu_s = sum(service.process.cpu_times()[:2])
                violations += compare_books(fuzzer, sums)
                if status := service.stop():
                    violations.append(f"it stopped with {status}")
            log = (folder / "log.txt").read_text(errors="replace")
    violations += [f"its log says {text!r}" for text in _BUGS if text in log]
    return report(fuzzer, cpu_s, log)


def report(fuzzer: Fuzzer, cpu_s: float, log: str) -> dict[str, Any]:
    """The figures, as JSON."""
    account, samples = fuzzer.account, fuzzer.samples
    marks = {"start": samples[0], "10 %": sample_at(samples, 0.1), "50 %": sample_at(samples, 0.5)}
    marks["end"] = samples[-1]
    return {
        "requests": account.sent.total(),
        "no protobuf": account.foreign.total(),
        "seconds": round(samples[-1].at_s, 1),
        "escalator CPU seconds": round(cpu_s, 1),
        "kinds": dict(sorted(account.sent.items())),
        "no protobuf by kind": dict(sorted(account.foreign.items())),
        "outcomes": dict(account.outcomes.most_common()),
        "streams": dict(account.statuses.most_common()),
        "sound requests": account.probes,
        "slowest sound request, s": round(max(account.probe_s), 2),
        "memory, MB": {name: round(sample.rss_mb, 1) for name, sample in marks.items()},
        "MB per 100,000 requests": round(slope(samples), 2),
        "threads": {name: sample.threads for name, sample in marks.items()},
        "open files": {name: sample.files for name, sample in marks.items()},
        "log bytes": len(log),
        "violations": account.violations,
    }


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=7200.0, help="stop sending after so long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(words)


def main() -> int:
    """Prints what was sent and what came of it; returns 1 where something is wrong."""
    arguments = parse()
    figures = run(arguments)
    for name, value in figures.items():
        print(f"{name:<26}{len(value) if name == 'violations' else value}")
    return end(figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
