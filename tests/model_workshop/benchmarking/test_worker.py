"""One configuration in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError, HardcaseError
from model_workshop.benchmarking.configurations import CPU, PLAIN, Configuration
from model_workshop.benchmarking.sustained import SLOWER_RATIO, Sustained, sustain
from model_workshop.benchmarking.worker import Worker, open_worker
from tests.support.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle on disk."""
    return write_bundle(tmp_path_factory.mktemp("worker") / "bundle")


@pytest.fixture(scope="module")
def worker(bundle: Path) -> Iterator[Worker]:
    """The plain configuration, running."""
    with open_worker(bundle, PLAIN) as running:
        yield running


def test_it_times_as_many_runs_as_asked(worker: Worker) -> None:
    """Each by itself, with the work of them all."""
    worker.warm_up(2)
    block = worker.time(7)
    assert block.seconds.shape == (7,)
    assert (block.seconds > 0).all()
    assert block.cpu_s > 0
    assert len(worker.time_for(0.0).seconds) == 1


def test_it_is_pinned_where_that_is_allowed(worker: Worker) -> None:
    """To one core of those that this process may use, which itself stays free."""
    assert len(worker.cores) == 1
    assert set(worker.cores) <= os.sched_getaffinity(0)


def test_it_detects_what_this_process_detects(worker: Worker, bundle: Path) -> None:
    """The same code on the same bundle."""
    opened = Bundle.open(bundle)
    worker.check_smoke()
    (found,) = worker.detect([opened.smoke.pixels])
    expected = Detector.open(opened).detect(opened.smoke.pixels)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_its_peak_is_its_own(worker: Worker) -> None:
    """More than an interpreter, and without the memory of the one that asks."""
    ballast = np.ones(256_000_000 // 8)
    assert 10_000_000 < worker.peak_bytes() < ballast.nbytes
    assert worker.ready_s > 0


def test_what_goes_wrong_in_it_is_raised_here(bundle: Path) -> None:
    """With its remedy."""
    absent = Configuration("QuantumExecutionProvider")
    with pytest.raises(ConfigError, match="QuantumExecutionProvider") as caught:
        open_worker(bundle, absent).__enter__()
    assert CPU in caught.value.remedy


def test_a_worker_that_dies_is_named(bundle: Path) -> None:
    """As it would by the hand of the out-of-memory killer."""
    with open_worker(bundle, PLAIN, pin=False) as running:
        assert running.cores == ()
        os.kill(running.process_id, 9)
        with pytest.raises(HardcaseError, match=r"cpu x1 died \(exit code -9\)"):
            running.time(1)


def test_a_sustained_run_has_a_first_and_a_last_minute(worker: Worker) -> None:
    """Ratios are of the last over the first; every minute is reported as it ends."""
    told: list[int] = []
    found = sustain(worker, 3, minute_s=0.02, on_minute=lambda _, minute: told.append(minute.runs))
    assert told == [minute.runs for minute in found.minutes]
    assert len(told) == 3
    assert all(0 < minute.p50_s <= minute.p99_s and minute.cpu_s > 0 for minute in found.minutes)
    first, last = found.minutes[0], found.minutes[-1]
    assert found.wall_ratio == pytest.approx(last.p50_s / first.p50_s)
    assert Sustained((first, first)).verdict == "steady"
    assert SLOWER_RATIO > 1.0
