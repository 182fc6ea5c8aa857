"""One configuration in a process of its own, so that peaks of memory and pinning do not mix.

The benchmark asks, the worker answers; it runs nothing unasked, and ends when the benchmark does.
What goes wrong in it is raised in the benchmark as though it had happened there.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import contextlib
import gc
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError, HardcaseError, IntegrityError, RejectedError
from foundation.frames import Detections, Pixels
from model_workshop.benchmarking.configurations import Configuration
from model_workshop.benchmarking.latency import Seconds
from model_workshop.benchmarking.operators import OperatorProfile, profile_bundle

_KINDS: dict[str, type[HardcaseError]] = {
    kind.__name__: kind for kind in (HardcaseError, ConfigError, IntegrityError)
}
_ANSWER_WITHIN_S = 600.0
_STOP_WITHIN_S = 5.0
_REWARMING_RUNS = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Runs timed one after another: wall seconds of each, processor seconds of all."""

    seconds: Seconds
    cpu_s: float


class Worker:
    """The benchmark's end of a worker.

    Attributes:
        configuration: how it runs the bundle.
        process_id: of its process.
        ready_s: from the bundle's bytes to the first output, in seconds.
        cores: what it is pinned to; empty where pinning was not allowed.
    """

    def __init__(self, configuration: Configuration, connection: Connection, process: Any) -> None:
        self.configuration = configuration
        self._connection = connection
        self._process = process
        self.process_id: int = process.pid
        self.ready_s, self.cores = self._receive()

    def warm_up(self, runs: int) -> None:
        """Runs without timing."""
        self._ask("warm_up", runs)

    def time(self, runs: int) -> Block:
        """Times this many runs, after a few that fill the caches again."""
        return Block(*self._ask("time", runs))

    def time_for(self, seconds: float) -> Block:
        """Times runs for so long, at least one."""
        return Block(*self._ask("time_for", seconds))

    def detect(self, images: Sequence[Pixels]) -> list[Detections]:
        """Detections with raw scores in each image.

        Raises:
            HardcaseError: the model failed on one.
        """
        return [Detections(*arrays) for arrays in self._ask("detect", images)]

    def check_smoke(self) -> None:
        """Runs the bundle's smoke test.

        Raises:
            IntegrityError: the model does not detect here what it should.
        """
        self._ask("check_smoke")

    def peak_bytes(self) -> int:
        """The most memory that was resident in the worker's process, interpreter included."""
        return int(self._ask("peak_bytes"))

    def _ask(self, what: str, *arguments: object) -> Any:
        with contextlib.suppress(BrokenPipeError):  # the answer, or its absence, tells more
            self._connection.send((what, *arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self._connection.poll(_ANSWER_WITHIN_S):
                raise HardcaseError(
                    f"{self.configuration} did not answer within {_ANSWER_WITHIN_S:.0f} s",
                    remedy="Ask for fewer samples, or leave it out",
                )
            failure, answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join(_STOP_WITHIN_S)
            raise HardcaseError(
                f"The process of {self.configuration} died (exit code {self._process.exitcode})",
                remedy="Look for an out-of-memory kill, or leave this configuration out",
            ) from None
        if failure is not None:
            kind, message, remedy = failure
            raise _KINDS.get(kind, HardcaseError)(message, remedy=remedy)
        return answer


@contextlib.contextmanager
def open_worker(
    bundle: Path, configuration: Configuration, *, pin: bool = True
) -> Iterator[Worker]:
    """A worker that has loaded the bundle; its process ends with the context.

    Args:
        bundle: path of the bundle.
        configuration: how to run it.
        pin: whether to keep it on as many cores as it has threads, the last ones.

    Raises:
        HardcaseError: the bundle does not load so.
    """
    # A fresh interpreter: a fork would begin with the memory and the pools of this one.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve,
        args=(theirs, bundle, configuration, pin),
        name=str(configuration),
        daemon=True,
    )
    process.start()
    theirs.close()
    try:
        yield Worker(configuration, ours, process)
    finally:
        ours.close()
        process.join(_STOP_WITHIN_S)
        if process.is_alive():
            process.kill()
            process.join()


def profile_apart(bundle: Path, provider: str) -> OperatorProfile:
    """The profile of a bundle, made in a process that ends with it.

    Raises:
        HardcaseError: the bundle does not load or run so.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(_profile, bundle, provider).result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise HardcaseError(
                f"The process that ran {provider} died",
                remedy="Look for an out-of-memory kill, or leave this provider out",
            ) from error


def _profile(path: Path, provider: str) -> OperatorProfile:
    try:
        return profile_bundle(Bundle.open(path), providers=(provider,))
    except RejectedError as error:  # it does not travel between processes
        raise IntegrityError(error.message, remedy=error.remedy) from None


def _serve(connection: Connection, path: Path, configuration: Configuration, pin: bool) -> None:
    # Ctrl-C reaches every process of the terminal; the benchmark alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            cores = _pin(configuration.threads) if pin else ()
            runs = _Runs(Bundle.open(path), configuration)
            connection.send((None, (runs.ready_s, cores)))
        except HardcaseError as error:
            connection.send((_describe(error), None))
            return
        gc.disable()
        while True:
            what, *arguments = connection.recv()
            try:
                connection.send((None, getattr(runs, what)(*arguments)))
            except HardcaseError as error:
                connection.send((_describe(error), None))


def _describe(error: HardcaseError) -> tuple[str, str, str]:
    return type(error).__name__, error.message, error.remedy


def _pin(count: int) -> tuple[int, ...]:
    # The last ones: interrupts prefer the first.
    cores = sorted(os.sched_getaffinity(0))[-count:]
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return ()
    return tuple(cores)


class _Runs:
    """What a worker does when asked."""

    def __init__(self, bundle: Bundle, configuration: Configuration) -> None:
        begun = time.perf_counter()
        self._detector = Detector.open(
            bundle,
            providers=(configuration.provider,),
            intra_op_threads=configuration.threads,
            spinning=configuration.spinning,
        )
        self.ready_s = time.perf_counter() - begun
        self._pixels = bundle.smoke.pixels

    def warm_up(self, runs: int) -> None:
        buffers = self._detector.load([self._pixels])
        for _ in range(runs):
            buffers.run()

    def time(self, runs: int) -> tuple[Seconds, float]:
        buffers = self._detector.load([self._pixels])
        for _ in range(_REWARMING_RUNS):
            buffers.run()
        seconds = np.empty(runs)
        worked = time.process_time()
        for position in range(runs):
            begun = time.perf_counter()
            buffers.run()
            seconds[position] = time.perf_counter() - begun
        return seconds, time.process_time() - worked

    def time_for(self, seconds: float) -> tuple[Seconds, float]:
        buffers = self._detector.load([self._pixels])
        found: list[float] = []
        worked, first = time.process_time(), time.perf_counter()
        begun = first
        while not found or begun - first < seconds:
            buffers.run()
            ended = time.perf_counter()
            found.append(ended - begun)
            begun = ended
        return np.array(found), time.process_time() - worked

    def detect(self, images: Sequence[Pixels]) -> list[tuple[Any, Any, Any]]:
        found = (self._detector.detect(pixels) for pixels in images)
        return [(each.boxes, each.scores, each.class_ids) for each in found]

    def check_smoke(self) -> None:
        self._detector.check_smoke()

    def peak_bytes(self) -> int:
        # Not getrusage: its peak survives exec and so includes the parent's.
        status = Path("/proc/self/status").read_text("utf-8")
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
        return int(found.group(1)) * 1024 if found else 0
