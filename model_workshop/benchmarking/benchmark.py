"""The benchmark: every configuration in turn, again and again, so that all meet the same weather.

A configuration takes part once its provider has taken the whole graph. It can be chosen once it
passes the bundle's smoke test and agrees with the plain one: one thread of the runtime's own
kernels.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from foundation.bundle import Bundle
from foundation.errors import ConfigError, HardcaseError
from foundation.session import RUNTIME_VERSION, available_providers
from foundation.tuning import core_count, processor_name
from model_workshop.benchmarking.agreement import Agreement, agreement_images, compare
from model_workshop.benchmarking.configurations import (
    CPU,
    PLAIN,
    Configuration,
    find_providers,
    find_threads,
    plan,
    short_name,
)
from model_workshop.benchmarking.coverage import Coverage, cover
from model_workshop.benchmarking.latency import Latency, summarize_latency
from model_workshop.benchmarking.operators import OperatorProfile
from model_workshop.benchmarking.sustained import Sustained, sustain
from model_workshop.benchmarking.worker import Block, Worker, open_worker, profile_apart

CPU_SLACK = 1.25
"""A configuration may cost this many times the processor seconds of the thriftiest to be chosen."""
TAIL_SLACK = 1.10
"""Tails no further apart than this are equal: the next benchmark may order them otherwise."""
_TURNS_MIN = 10
_TURN_RUNS_MAX = 50


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asked for.

    Attributes:
        providers: short or full names; None looks for the usual ones.
        threads: counts to try; None tries powers of two.
        reference: another bundle to time beside this one, on the plain configuration.
        images: directory of pictures to compare outputs on; None takes views of the smoke input.
        samples: runs timed of each configuration.
        warm_up_runs: before the first turn.
        pin: whether to pin each process to as many cores as it has threads.
        sustain_minutes: how long to run the chosen one without a pause; 0 for not at all.
    """

    providers: Sequence[str] | None = None
    threads: Sequence[int] | None = None
    reference: Path | None = None
    images: Path | None = None
    samples: int = 1000
    warm_up_runs: int = 50
    pin: bool = True
    sustain_minutes: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one configuration costs.

    Attributes:
        configuration: how it ran.
        ready_s: seconds from the bundle's bytes to the first output.
        latency: of one inference, without letterbox and decoding.
        peak_bytes: most resident memory of its process, interpreter included.
        cores: what it was pinned to; empty where that was not allowed or not asked for.
        agreement: with the plain configuration; None for another bundle.
        problem: why it cannot be chosen; empty where nothing speaks against it.
    """

    configuration: Configuration
    ready_s: float
    latency: Latency
    peak_bytes: int
    cores: tuple[int, ...]
    agreement: Agreement | None
    problem: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider or configuration that is here and does not do its work."""

    what: str
    error: HardcaseError


@dataclass(slots=True)
class Benchmark:
    """Everything that was found out.

    Attributes:
        bundle: what was measured.
        processor: where.
        cores: that could be used.
        runtime: version of ONNX Runtime.
        load: other work before it began: runnable processes, averaged over a minute.
        absent: providers that are not here.
        coverage: of every provider that is.
        failures: what did not do its work.
        measured: every configuration, in the order of the plan.
        reference: name of the other bundle, and what it costs.
        operators: profile of the plain configuration.
        chosen: the best that may be chosen; None where there is none.
        sustained: the chosen one's long run.
    """

    bundle: Bundle
    processor: str = field(default_factory=processor_name)
    cores: int = field(default_factory=core_count)
    runtime: str = RUNTIME_VERSION
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    absent: tuple[str, ...] = ()
    coverage: list[Coverage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    reference: tuple[str, Measured] | None = None
    operators: OperatorProfile | None = None
    chosen: Measured | None = None
    sustained: Sustained | None = None

    def check(self, *, declared: bool) -> None:
        """Checks that every provider did its work and that something can be chosen.

        Args:
            declared: whether providers were named, so that an absent one is a failure as well.

        Raises:
            ConfigError: one is not available or leaves work to the processor, or no configuration
                detects what it should.
        """
        if self.failures:
            error = self.failures[0].error
            raise ConfigError(error.message, remedy=error.remedy)
        if declared and self.absent:
            raise ConfigError(
                f"Not available here: {', '.join(map(short_name, self.absent))}",
                remedy="Install what brings it (docs/workshop/bench.md), or leave it out of "
                "--providers",
            )
        if self.chosen is None:
            raise ConfigError(
                "No configuration can be chosen: " + "; ".join(m.problem for m in self.measured),
                remedy="Look at the bundle with `model-workshop evaluate`, or give --images that "
                "show what it knows",
            )


def run_benchmark(
    path: Path, wishes: Wishes, report: Callable[[str], None] = lambda _line: None
) -> Benchmark:
    """Measures a bundle as asked.

    Args:
        path: of the bundle.
        wishes: what to compare.
        report: told what is going on, a line at a time.

    Raises:
        ConfigError: a wish makes no sense here.
        IntegrityError: the bundle is damaged, or does not run on the plain configuration.
    """
    found = Benchmark(Bundle.open(path))
    images = agreement_images(found.bundle, wishes.images)
    reference = Bundle.open(wishes.reference) if wishes.reference else None
    available = available_providers()
    declared = find_providers(wishes.providers, available)
    threads = find_threads(wishes.threads, found.cores)
    found.absent = tuple(name for name in declared if name not in available)
    sound = _sound_providers(path, found, [name for name in declared if name in available])
    with contextlib.ExitStack() as stack:
        workers = _open_workers(stack, path, plan(sound, threads), wishes.pin, found)
        beside = list(workers)
        if wishes.reference:
            beside.append(stack.enter_context(open_worker(wishes.reference, PLAIN, pin=wishes.pin)))
        latencies = time_in_turns(beside, wishes, report)
        plain = workers[0].detect(images)
        for worker, latency in zip(workers, latencies, strict=False):
            agreement = compare(found.bundle, plain, worker.detect(images))
            problem = _problem(worker, agreement)
            found.measured.append(_measured(worker, latency, agreement, problem))
        if reference is not None:
            name = f"{reference.info.name} {reference.info.version}"
            found.reference = (name, _measured(beside[-1], latencies[-1], None, ""))
        found.chosen = choose(found.measured)
        if wishes.sustain_minutes and found.chosen is not None:
            worker = workers[found.measured.index(found.chosen)]
            found.sustained = sustain(
                worker,
                wishes.sustain_minutes,
                on_minute=lambda number, minute: report(
                    f"minute {number}: p50 {1e3 * minute.p50_s:.2f} ms"
                ),
            )
    return found


def choose(measured: Sequence[Measured]) -> Measured | None:
    """The lowest tail among the thrifty ones of those against which nothing speaks.

    The edge shares its cores with tracking and encoding: first those are kept whose processor
    seconds per inference are at most `CPU_SLACK` times the least. Of these the lowest tail wins
    (p99, or the highest percentile that has samples enough), and among those whose tails are within
    `TAIL_SLACK` of it the thriftiest.

    Spinning is measured and never chosen: runs follow one another without a pause here, so what a
    pool burns between the frames of a camera is not in these figures.
    """
    sound = [each for each in measured if not (each.problem or each.configuration.spinning)]
    if not sound:
        return None
    least = min(each.latency.cpu_s for each in sound)
    thrifty = [each for each in sound if each.latency.cpu_s <= CPU_SLACK * least]
    lowest = min(_tail_s(each) for each in thrifty)
    quick = [each for each in thrifty if _tail_s(each) <= TAIL_SLACK * lowest]
    return min(quick, key=lambda each: each.latency.cpu_s)


def _tail_s(measured: Measured) -> float:
    return measured.latency.at(measured.latency.tail)


def time_in_turns(
    workers: Sequence[Worker], wishes: Wishes, report: Callable[[str], None]
) -> list[Latency]:
    """Times every worker in turns, beginning each with another one."""
    for worker in workers:
        worker.warm_up(wishes.warm_up_runs)
    blocks: list[list[Block]] = [[] for _ in workers]
    turns = max(_TURNS_MIN, math.ceil(wishes.samples / _TURN_RUNS_MAX))
    parts = np.array_split(np.empty(wishes.samples), min(turns, wishes.samples))
    for turn, runs in enumerate(map(len, parts)):
        report(f"turn {turn + 1} of {len(parts)}")
        for step in range(len(workers)):
            position = (turn + step) % len(workers)
            blocks[position].append(workers[position].time(runs))
    return [
        summarize_latency(
            np.concatenate([block.seconds for block in own]), sum(block.cpu_s for block in own)
        )
        for own in blocks
    ]


def _sound_providers(path: Path, found: Benchmark, present: Sequence[str]) -> list[str]:
    """Those that take the whole graph; the others become failures."""
    sound = []
    for provider in dict.fromkeys([CPU, *present]):
        try:
            profile = profile_apart(path, provider)
            coverage = cover(provider, profile)
            found.coverage.append(coverage)
            coverage.check()
        except HardcaseError as error:
            if provider == CPU:
                raise
            found.failures.append(Failure(provider, error))
            continue
        if provider == CPU:
            found.operators = profile
        if provider in present:
            sound.append(provider)
    return sound


def _open_workers(
    stack: contextlib.ExitStack,
    path: Path,
    configurations: Sequence[Configuration],
    pin: bool,
    found: Benchmark,
) -> list[Worker]:
    """A worker for every configuration that loads, the plain one first; the rest are failures."""
    workers = []
    for configuration in configurations:
        try:
            workers.append(stack.enter_context(open_worker(path, configuration, pin=pin)))
        except HardcaseError as error:
            if configuration == PLAIN:
                raise
            found.failures.append(Failure(str(configuration), error))
    return workers


def _problem(worker: Worker, agreement: Agreement) -> str:
    try:
        worker.check_smoke()
    except HardcaseError as error:
        return error.message
    return agreement.problem


def _measured(
    worker: Worker, latency: Latency, agreement: Agreement | None, problem: str
) -> Measured:
    return Measured(
        worker.configuration,
        worker.ready_s,
        latency,
        worker.peak_bytes(),
        worker.cores,
        agreement,
        problem,
    )
