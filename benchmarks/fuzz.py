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
import contextlib
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from benchmarks.escalator_throughput import METHOD, NO_QUOTA
from benchmarks.rig.mutations import Mutant, Mutator
from benchmarks.rig.services import HOST, Service, escalator, write_json
from protos.escalation.v1 import escalation_pb2 as pb
from reference_line.demo_plan import free_ports

_STREAMS = 4
_STREAM_MESSAGES_MAX = 250
_TWICE_SHARE = 0.02
_ABANDONED_SHARE = 0.02
_OVERSIZE_SHARE = 0.002
_OVERSIZE_BYTES = 5 << 20
_ECHO_LENGTH_MAX = 256
_STALL_S = 120.0
_SETTLE_S = 15.0
_PROBE_EVERY = 2000
_SAMPLES = 100
_LEAK_MB = 64.0
_MORE_THREADS = 4
_MORE_FILES = 4
_BUGS = ("Traceback", "ended by a bug", "never retrieved", " CRITICAL ", " ERROR ", "Segmentation")
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


@dataclass(slots=True)
class Account:
    """What was sent and what came of it.

    Attributes:
        sent: messages by kind of mutation.
        foreign: of these, those that are not protobuf, by kind.
        outcomes: verdicts by outcome.
        statuses: streams by how they ended.
        uncertain: messages on abandoned streams, which may or may not have been read.
        probes: sound requests in between, all answered.
        probe_s: how long each took, seconds.
        violations: what should not have happened.
    """

    sent: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    uncertain: int = 0
    probes: int = 0
    probe_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """The escalator's process at one moment; memory in MB, time in seconds of wall clock."""

    sent: int
    at_s: float
    rss_mb: float
    threads: int
    files: int


class Session:
    """One stream: what is sent on it, and what must come back."""

    def __init__(self, call: Any, account: Account) -> None:
        self._call = call
        self._account = account
        self._asked: Counter[str] = Counter()
        self._got: Counter[str] = Counter()
        self._foreign = False

    async def run(self, mutants: list[Mutant], *, abandon: bool) -> None:
        """Sends all, and takes what comes; `abandon` cancels the stream after the last."""
        reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(_STALL_S):
                for mutant in mutants:
                    self._note(mutant)
                    await self._call.write(mutant.message)
                if abandon:
                    self._account.statuses["abandoned"] += 1
                    self._account.uncertain += self._asked.total()
                    return
                await self._call.done_writing()
                await reader
                status = await self._call.code()
        except TimeoutError:
            self._account.violations.append(f"a stream hangs: {self._missing()}")
            return
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._account.violations.append(f"a stream ended while it was written: {error}")
            return
        finally:
            reader.cancel()
            self._call.cancel()
            await asyncio.wait({reader})
        self._account.statuses[status.name] += 1
        self._compare(status)

    def _note(self, mutant: Mutant) -> None:
        """What the escalator should make of a message."""
        self._account.sent[mutant.kind] += 1
        try:
            id_ = pb.Escalation.FromString(mutant.message).id
        except DecodeError:
            id_ = ""
            self._foreign = True
            self._account.foreign[mutant.kind] += 1
        self._asked[id_ if len(id_) <= _ECHO_LENGTH_MAX else ""] += 1

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # its status is looked at afterwards
            async for message in self._call:
                verdict = pb.Verdict.FromString(message)
                self._got[verdict.escalation_id] += 1
                outcome = verdict.WhichOneof("outcome") or "none"
                if outcome == "rejection":
                    outcome = pb.RejectReason.Name(verdict.rejection.reason).lower()
                    outcome = outcome.removeprefix("reject_reason_")
                self._account.outcomes[outcome] += 1

    def _missing(self) -> str:
        return f"{(self._asked - self._got).total()} of {self._asked.total()} verdicts are missing"

    def _compare(self, status: grpc.StatusCode) -> None:
        found = self._account.violations
        wanted = grpc.StatusCode.INVALID_ARGUMENT if self._foreign else grpc.StatusCode.OK
        if status is not wanted:
            found.append(f"a stream ended with {status.name} instead of {wanted.name}")
        for id_ in self._asked.keys() | self._got.keys():
            asked, got = self._asked[id_], self._got[id_]
            # One that is sent again while it is under way gets its verdict once.
            if not (got == asked or (id_ and 1 <= got < asked)):
                found.append(f"{got} verdicts about {asked} requests with the id {id_[:80]!r}")


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
            async with asyncio.timeout(_STALL_S):
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
                asyncio.timeout(_STALL_S),
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
    for violation in figures["violations"][:50]:
        print(f"  {violation}")
    write_json(arguments.json, figures)
    return int(bool(figures["violations"]))


if __name__ == "__main__":
    raise SystemExit(main())
