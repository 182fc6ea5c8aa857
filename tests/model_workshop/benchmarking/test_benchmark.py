"""The benchmark as a whole, and what is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from foundation.session import available_providers
from foundation.tuning import read_tuning
from model_workshop.benchmarking.benchmark import (
    CPU_SLACK,
    TAIL_SLACK,
    Benchmark,
    Measured,
    Wishes,
    choose,
    run_benchmark,
)
from model_workshop.benchmarking.configurations import CPU, PLAIN, Configuration
from model_workshop.benchmarking.latency import Latency
from model_workshop.benchmarking.report import describe, to_document, to_tuning, write_json
from tests.support.bundles import make_bundle, write_bundle
from tests.support.graphs import family_model, replace_model

HERE = {name.lower() for name in available_providers()}
QUICK = Wishes(providers=["cpu"], threads=[1], samples=6, warm_up_runs=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle on disk."""
    return write_bundle(tmp_path_factory.mktemp("bench") / "bundle")


@pytest.fixture(scope="module")
def found(path: Path) -> Benchmark:
    """A benchmark with another bundle beside, an absent provider, and one that takes nothing."""
    present = [name for name in ("cpu", "azure") if f"{name}ExecutionProvider".lower() in HERE]
    wishes = replace(QUICK, providers=[*present, "tensorrt"], reference=path)
    return run_benchmark(path, wishes)


def measured(
    threads: int, tail_s: float, cpu_s: float, *, problem: str = "", thin: tuple[str, ...] = ()
) -> Measured:
    """A configuration with these costs."""
    latency = Latency(1000, tail_s / 2, tail_s, tail_s, 2 * tail_s, cpu_s, thin)
    return Measured(Configuration(CPU, threads), 0.1, latency, 1, (), None, problem)


def test_a_benchmark_measures_chooses_and_says_so(found: Benchmark, path: Path) -> None:
    """Every part of it is in the report."""
    (plain,) = found.measured
    assert plain.configuration == PLAIN
    assert plain.latency.samples == 6
    assert plain.agreement is not None
    assert not plain.agreement.problem
    assert plain.agreement.score_difference_max == 0.0
    assert found.chosen is plain
    text = describe(found)
    for words in ("cpu x1", "Chosen: cpu x1", "squares 1", "CPU ms", "100.0%", "costliest nodes"):
        assert words in text
    assert "too few samples" in text
    assert "times as fast as squares 1" in text
    replace(found, failures=[]).check(declared=False)


def test_a_provider_that_is_absent_is_a_row_and_a_failure_where_it_was_named(
    found: Benchmark,
) -> None:
    """It is no reason to fail where nobody asked for it."""
    if found.absent == ():
        pytest.skip("TensorRT is here")
    assert "tensorrt                  not available here" in describe(found)
    with pytest.raises(ConfigError, match="Not available here: tensorrt"):
        replace(found, failures=[]).check(declared=True)


def test_every_figure_is_in_the_document(found: Benchmark, tmp_path: Path) -> None:
    """And it is plain JSON."""
    write_json(to_document(found), tmp_path / "figures" / "bench.json")
    document = json.loads((tmp_path / "figures" / "bench.json").read_text())
    assert document["bundle_digest"] == found.bundle.digest
    assert document["chosen"] == {"provider": CPU, "threads": 1, "spinning": False}
    assert document["measured"][0]["latency"]["samples"] == 6
    assert document["coverage"][0]["shares"][0]["node_share"] == 1.0
    assert document["reference"]["bundle"] == "squares 1"
    assert {"op_type", "dtype", "share"} <= set(document["operators"]["by_type"][0])


def test_what_was_chosen_becomes_a_tuning_file(found: Benchmark, tmp_path: Path) -> None:
    """That holds for this bundle here, and claims no percentile that its samples do not bear."""
    assert found.chosen is not None
    target = tmp_path / "tuning.yaml"
    to_tuning(found, found.chosen).write(target)
    tuning = read_tuning(target)
    tuning.check(found.bundle, target)
    assert (tuning.provider, tuning.intra_op_threads, tuning.spinning) == (CPU, 1, False)
    assert tuning.figures["p99_s"] is None
    assert (tuning.figures["p50_s"] or 0) > 0


def test_an_accelerator_that_leaves_work_behind_is_a_failure(found: Benchmark) -> None:
    """In a real run; nothing of it is timed, the rest is."""
    if not found.failures:
        pytest.skip("this build of the runtime has no provider that takes nothing")
    assert [each.configuration for each in found.measured] == [PLAIN]
    assert "FAILED: AzureExecutionProvider takes 0 of" in describe(found)
    with pytest.raises(ConfigError, match="AzureExecutionProvider takes 0 of"):
        found.check(declared=False)


def test_a_model_that_detects_otherwise_is_not_chosen(tmp_path: Path) -> None:
    """The smoke test decides, however fast it is."""
    blind = replace_model(make_bundle(), family_model(score_bias=-30.0))
    blind.write(tmp_path / "blind")
    found = run_benchmark(tmp_path / "blind", QUICK)
    assert found.chosen is None
    assert "cannot be chosen" in describe(found)
    with pytest.raises(ConfigError, match="No configuration can be chosen"):
        found.check(declared=False)


def test_the_lowest_tail_of_the_thrifty_is_chosen() -> None:
    """Not of those that burn the cores which tracking and encoding need."""
    plain = measured(1, 0.010, 0.010)
    two = measured(2, 0.006, 0.010 * CPU_SLACK)
    greedy = measured(3, 0.004, 0.010 * CPU_SLACK * 1.01)
    assert choose([plain, two, greedy]) is two


def test_spinning_is_never_chosen() -> None:
    """What it burns between the frames of a camera is not in its figures."""
    plain, two = measured(1, 0.010, 0.010), measured(2, 0.001, 0.010)
    spinning = replace(two, configuration=replace(two.configuration, spinning=True))
    assert choose([plain, spinning]) is plain


def test_a_tail_hardly_lower_is_no_reason_to_take_more() -> None:
    """The next benchmark may order them otherwise."""
    plain = measured(1, 0.010, 0.010)
    assert choose([plain, measured(2, 0.010 / TAIL_SLACK * 1.001, 0.011)]) is plain


def test_what_has_a_problem_is_never_chosen() -> None:
    """However fast it is; and then perhaps nothing is."""
    plain, wrong = measured(1, 0.010, 0.010), measured(2, 0.001, 0.001, problem="disagrees")
    assert choose([plain, wrong]) is plain
    assert choose([wrong]) is None


def test_a_thin_tail_does_not_decide() -> None:
    """Then the highest percentile that the samples bear does."""
    thin = measured(1, 0.010, 0.010, thin=("p99", "p99.9"))
    assert thin.latency.tail == "p95"
    assert choose([thin]) is thin


def test_configurations_that_disagree_are_reported_with_their_figures(found: Benchmark) -> None:
    """By name, with what speaks against them."""
    wrong = measured(2, 0.001, 0.001, problem="3 of 4 detections have no counterpart")
    text = describe(replace(found, measured=[*found.measured, wrong]))
    assert "cpu x2 cannot be chosen: 3 of 4 detections have no counterpart" in text
