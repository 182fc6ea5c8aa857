"""Whether memory, file handles and threads stay flat while the line runs and its link fails.

    python -m benchmarks.soak [--duration-s S] [--frame-rate-hz F] [--json FILE]

Both services as processes, the edge node with spool and ledger; every 20 seconds the link or the
escalator does something else: sound, cut, black-holed, slow, killed and started again. Resident
memory is sampled of the edge node without its camera's board renderer, a process of its own; how
much of it belongs to no file (heap and stacks) is told apart, as pages of files come and go at the
system's pleasure. Of each round of faults the median counts: every round has seen each fault once,
and samples seconds apart are not independent. The slope is a straight line through the rounds of
the last three quarters of the run, with its standard error; of an escalator that is killed it would
mean nothing and is not given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.rig.link import Link, Mode
from benchmarks.rig.report import write_json
from benchmarks.rig.services import Service, edge, escalator
from reference_line.demo_plan import free_ports

_STEP_S = 20.0
_SAMPLE_S = 5.0
_KINDS = ("resident_mb", "anonymous_mb", "handles", "threads")
_SCHEDULE = (Mode.SOUND, Mode.CUT, Mode.SOUND, Mode.HOLE, Mode.SOUND, Mode.SLOW, Mode.SOUND, None)
"""None: the escalator is killed and started again."""
_ROUND_S = _STEP_S * len(_SCHEDULE)
_LEAST_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """The edge node at one time."""

    at_s: float
    resident_mb: float
    anonymous_mb: float
    handles: int
    threads: int


def sample(process: psutil.Process, begun: float) -> Sample:
    """What the system says of a process."""
    with process.oneshot():
        memory = process.memory_info()
        return Sample(
            at_s=time.monotonic() - begun,
            resident_mb=memory.rss / 2**20,
            anonymous_mb=(memory.rss - memory.shared) / 2**20,
            handles=process.num_fds(),
            threads=process.num_threads(),
        )


def run(duration_s: float, frame_rate_hz: float, folder: Path) -> dict[str, Any]:
    """All figures."""
    [port] = free_ports(1)
    source = {"kind": "line", "pace": "realtime", "frame_rate_hz": frame_rate_hz}
    with escalator(folder / "cloud", port) as cloud, Link(port) as link:
        node = edge(
            folder / "edge",
            link.port,
            source={**source, "parameters": {"seed": 4}},
            deadline={"deadline_s": round(0.99 / frame_rate_hz, 4)},
            egress={"ledger": str(folder / "edge" / "ledger")},
            results={"path": "/dev/null"},
        )
        with node:
            cloud.start()
            cloud.wait_ready()
            node.start()
            node.wait_ready()
            samples = _watch(node, cloud, link, duration_s)
            figures = node.metrics()
            status = node.stop()
            spool = folder / "edge" / "spool"
            spool_mb = sum(one.stat().st_size for one in spool.iterdir()) / 2**20
    rounds = {kind: _rounds(samples, kind) for kind in _KINDS}
    totals = {
        name: {_label(labels): int(value) for (n, labels), value in figures.items() if n == name}
        for name in ("edge_frames_total", "edge_uplink_errors_total")
    }
    outcomes: dict[str, int] = {}
    for (name, labels), value in figures.items():
        if name == "edge_escalations_total" and value:
            outcome = dict(labels)["outcome"]
            outcomes[outcome] = outcomes.get(outcome, 0) + int(value)
    return {
        "duration_s": duration_s,
        "frame_rate_hz": frame_rate_hz,
        "exit_status": status,
        "slopes_per_hour": {kind: _slope(rounds[kind]) for kind in _KINDS},
        "rounds": {kind: [round(value, 2) for value in rounds[kind]] for kind in _KINDS},
        "spool_mb": round(spool_mb, 1),
        "escalations": outcomes,
        **totals,
    }


def _watch(node: Service, cloud: Service, link: Link, duration_s: float) -> list[Sample]:
    begun, step, samples = time.monotonic(), -1, []
    while (at_s := time.monotonic() - begun) < duration_s:
        if int(at_s / _STEP_S) != step:
            step = int(at_s / _STEP_S)
            mode = _SCHEDULE[step % len(_SCHEDULE)]
            link.set(Mode.SOUND if mode is None else mode)
            if mode is None:
                cloud.kill()
                cloud.start()
        samples.append(sample(node.process, begun))
        if step % 15 == 0 and len(samples) % 4 == 1:
            last = samples[-1]
            print(
                f"{at_s:6.0f} s  {last.resident_mb:7.1f} MB  {last.handles} handles  "
                f"{last.threads} threads",
                flush=True,
            )
        time.sleep(_SAMPLE_S)
    return samples


def _rounds(samples: list[Sample], kind: str) -> list[float]:
    """The median of each whole round of faults."""
    by_round: dict[int, list[float]] = {}
    for one in samples:
        by_round.setdefault(int(one.at_s / _ROUND_S), []).append(float(getattr(one, kind)))
    whole = int((samples[-1].at_s + _SAMPLE_S) / _ROUND_S)
    return [float(np.median(by_round[number])) for number in range(whole)]


def _slope(rounds: list[float]) -> dict[str, float]:
    """Per hour, with its standard error, from the last three quarters."""
    late = rounds[len(rounds) // 4 :]
    at_h = np.arange(len(late)) * _ROUND_S / 3600
    (slope, _), covariance = np.polyfit(at_h, late, 1, cov=True)
    return {"slope": round(float(slope), 3), "error": round(float(np.sqrt(covariance[0, 0])), 3)}


def _label(labels: tuple[tuple[str, str], ...]) -> str:
    return next(value for key, value in labels if key in ("outcome", "reason"))


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--duration-s", type=float, default=3600.0)
    parser.add_argument("--frame-rate-hz", type=float, default=30.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if arguments.duration_s < _LEAST_ROUNDS * _ROUND_S:
        parser.error(f"--duration-s: a slope needs {_LEAST_ROUNDS * _ROUND_S:.0f} s or more")
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments.duration_s, arguments.frame_rate_hz, Path(folder))
    for name, value in report.items():
        print(f"{name:<26}{value}")
    write_json(arguments.json, report)


if __name__ == "__main__":
    main()
