"""Where the time of a run goes: the runtime's trace of a bundle, summed up by operator.

The runtime writes an event for every kernel it ran. Runs that warmed it up are left out. Tracing
itself costs some microseconds a kernel, so shares are to be trusted and sums are not: latency is
measured without it.
"""

from __future__ import annotations

import collections
import json
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.session import CPU_PROVIDERS, AssignedNode

WARM_UP_RUNS = 5
_KERNEL = "_kernel_time"


@dataclass(frozen=True, slots=True)
class KernelCost:
    """What one kernel, or all kernels of a kind, cost.

    Attributes:
        op_type: what it computes, as the optimized graph names it.
        dtype: of its first input and first output: `uint8`, or `float→uint8` where they differ.
        provider: who ran it.
        name: of the node; empty where the kernels of a kind are summed up.
        calls: kernels in one run.
        seconds: in one run, the median over runs.
        share: of all kernels' time.
    """

    op_type: str
    dtype: str
    provider: str
    name: str
    calls: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class OperatorProfile:
    """Every kernel of a run, costliest first.

    Attributes:
        runs: how many runs were looked at.
        by_type: kernels summed up by operator, dtype and provider.
        by_node: single kernels.
        assigned: the graph's nodes with the provider that took each.
    """

    runs: int
    by_type: tuple[KernelCost, ...]
    by_node: tuple[KernelCost, ...]
    assigned: tuple[AssignedNode, ...]


def profile_bundle(
    bundle: Bundle,
    *,
    providers: Sequence[str] = CPU_PROVIDERS,
    threads: int = 1,
    runs: int = 30,
) -> OperatorProfile:
    """Runs a bundle's smoke input under the runtime's trace.

    What the providers leave falls to the CPU here, so that the profile can show it.

    Raises:
        ConfigError: a provider is not available, or the runtime is too old.
        IntegrityError: the model does not load or is not what its manifest says.
    """
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        detector = Detector.open(
            bundle, providers=providers, intra_op_threads=threads, trace=Path(folder) / "trace"
        )
        buffers = detector.load([bundle.smoke.pixels])
        for _ in range(WARM_UP_RUNS + runs):
            buffers.run()
        assigned = detector.session.assignment()
        events = json.loads(detector.session.end_trace().read_text("utf-8"))
    return summarize(last_runs(events, runs), runs, assigned)


def last_runs(events: Sequence[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """The kernel events of the last runs in a trace."""
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    begin = starts[-runs]
    return [
        event
        for event in events
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= begin
    ]


def summarize(
    kernels: Iterable[dict[str, Any]], runs: int, assigned: tuple[AssignedNode, ...]
) -> OperatorProfile:
    """Sums kernel events up, by node and by kind."""
    durations: dict[tuple[str, str, str, str], list[float]] = collections.defaultdict(list)
    for event in kernels:
        details = event["args"]
        name = event["name"].removesuffix(_KERNEL)
        key = (details["op_name"], _dtype_of(details), details["provider"], name)
        durations[key].append(event["dur"] * 1e-6)
    # The median of each: what else the machine did during one run is not this model's doing.
    costs = {key: statistics.median(found) * len(found) / runs for key, found in durations.items()}
    total = sum(costs.values()) or 1.0
    kinds: dict[tuple[str, str, str], list[float]] = collections.defaultdict(list)
    for key, seconds in costs.items():
        kinds[key[:3]].append(seconds)
    by_type = (
        KernelCost(*kind, "", len(found), sum(found), sum(found) / total)
        for kind, found in kinds.items()
    )
    by_node = (KernelCost(*key, 1, seconds, seconds / total) for key, seconds in costs.items())
    return OperatorProfile(runs, _costliest_first(by_type), _costliest_first(by_node), assigned)


def _costliest_first(costs: Iterable[KernelCost]) -> tuple[KernelCost, ...]:
    return tuple(sorted(costs, key=lambda cost: -cost.seconds))


def _dtype_of(details: dict[str, Any]) -> str:
    ends = [
        next(iter(tensors[0]), "") if tensors else ""
        for tensors in (details["input_type_shape"], details["output_type_shape"])
    ]
    return "→".join(dict.fromkeys(filter(None, ends)))
