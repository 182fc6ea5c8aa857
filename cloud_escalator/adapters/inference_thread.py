"""Runs the model in the one thread that ever touches it.

Owns the thread `inference_0` and, inside it, the detector. Opening verifies the model on this
machine (smoke test) and measures what each batch size costs (warm-up), before anything is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cloud_escalator.handoff import Mailbox
from cloud_escalator.ports import BatchResult
from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import IntegrityError, RejectedError
from foundation.frames import Pixels


class InferenceThread:
    """The model and its thread, ready to run.

    Args:
        detector: touched by the thread only.
        thread: an executor with one thread.
        done: where finished batches go.
        warm_up_s: seconds that a batch took, by its size, for every size from 1 to the largest.
    """

    def __init__(
        self,
        detector: Detector,
        thread: ThreadPoolExecutor,
        done: Mailbox[Future[BatchResult]],
        warm_up_s: Mapping[int, float],
    ) -> None:
        self._detector = detector
        self._thread = thread
        self._done = done
        self.warm_up_s = warm_up_s

    def submit(self, crops: list[Pixels]) -> None:
        """Starts a batch; never called while another one runs."""
        self._thread.submit(_run, self._detector, crops).add_done_callback(self._done.post)

    def take(self) -> list[BatchResult]:
        """Returns the batches that are done, each once."""
        return [future.result() for future in self._done.take() if not future.cancelled()]


@contextlib.asynccontextmanager
async def open_inference_thread(
    bundle: Bundle,
    *,
    intra_op_threads: int,
    providers: Sequence[str],
    batch_size_max: int,
    done: Mailbox[Future[BatchResult]],
) -> AsyncIterator[InferenceThread]:
    """Loads, checks and warms up a model in a thread of its own.

    Args:
        bundle: the model to run.
        intra_op_threads: CPU threads of one run.
        providers: ONNX Runtime execution providers.
        batch_size_max: largest batch.
        done: where finished batches go.

    Raises:
        ConfigError: a provider is not available.
        IntegrityError: the model does not load, or detects here something else than promised.
    """

    def load() -> tuple[Detector, Mapping[int, float]]:
        try:
            detector = Detector.open(
                bundle,
                intra_op_threads=intra_op_threads,
                providers=providers,
                batch_max=batch_size_max,
            )
            detector.check_smoke()
        except IntegrityError as error:
            name = f"{bundle.info.name} {bundle.info.version}"
            raise IntegrityError(
                f"Cannot serve the bundle {name}: {error.message}", remedy=error.remedy
            ) from error
        return detector, _warm_up(detector, bundle.smoke.pixels, batch_size_max)

    thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
    try:
        loop = asyncio.get_running_loop()
        detector, warm_up_s = await loop.run_in_executor(thread, load)
        yield InferenceThread(detector, thread, done, warm_up_s)
    finally:
        # A batch cannot be interrupted; its own duration bounds the wait.
        thread.shutdown(wait=True, cancel_futures=True)


def _warm_up(detector: Detector, crop: Pixels, batch_size_max: int) -> Mapping[int, float]:
    costs: dict[int, float] = {}
    for size in range(1, batch_size_max + 1):
        # The first run of a size allocates and binds; the second one is what it costs.
        for _ in range(2):
            started_s = time.perf_counter()
            detector.detect_batch([crop] * size)
            costs[size] = time.perf_counter() - started_s
    return costs


def _run(detector: Detector, crops: list[Pixels]) -> BatchResult:
    started_s = time.perf_counter()
    try:
        outcome = detector.detect_batch(crops)
    except RejectedError as error:
        return BatchResult(error, time.perf_counter() - started_s)
    return BatchResult(outcome, time.perf_counter() - started_s)
