"""Whether the frame lane feels what happens to the disk, and what is not kept is counted.

    python -m benchmarks.disk_faults [--rounds N] [--segment-s S] [--frame-rate-hz F]
                                     [--work FOLDER] [--json FILE]

One edge node runs all the time; its spool and its results lie on small file systems of their own.
Rounds go through the faults in an order that changes, with an undisturbed segment before each: the
spool's disk is full, it turns read-only and is mounted anew, every synchronization takes seconds,
the disk of the results is full. At the end the books are compared: whatever ended is in the spool,
or was counted as not kept. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults import frame_counts
from benchmarks.rig.books import Books, read_entries
from benchmarks.rig.mounts import SlowSync, SmallDisk, why_not
from benchmarks.rig.report import end
from benchmarks.rig.services import calm_source, edge, edge_document, escalator
from edge_node.adapters.spool.entries import Entry
from reference_line.demo_plan import free_ports

FAULTS = ("spool full", "spool read-only", "slow", "results full")
SOUND = "undisturbed"
_SLOW_S = 3.0
_SPOOL_BYTES, _RESULTS_BYTES = 16 << 20, 64 << 20
_SETTLE_S = 2.0
_DRAIN_S = 120.0
_CALM_S = 300
_FRAMES = ("on_time", "late", "coasted", "dropped", "failed")
_COUNTED = {
    "not_kept": "edge_spool_losses_total",
    "spool_errors": "edge_spool_errors_total",
    "results_dropped": "edge_results_dropped_total",
    "quarantined": "edge_spool_quarantines_total",
    "ended": "edge_escalations_total",
}


@dataclass
class Tally:
    """What was seen of one condition, over all rounds.

    Attributes:
        counts: Frames by outcome, and what the other counters rose by.
        differences: Of on-time shares, from the undisturbed segment before.
        ends_ns: When each segment was over, since the Unix epoch.
    """

    counts: Counter[str] = field(default_factory=Counter)
    differences: list[float] = field(default_factory=list)
    ends_ns: list[int] = field(default_factory=list)


class Site:
    """Both services, and the disks of the edge node."""

    def __init__(self, work: Path, spool: SmallDisk, results: SmallDisk, rate_hz: float) -> None:
        self._spool, self._results = spool, results
        self._slow = SlowSync(work / "slow")
        self._calm = calm_source(work / "calm", _CALM_S)
        self._rate_hz = rate_hz
        [port] = free_ports(1)
        self.cloud = escalator(work / "cloud", port)
        self._address = f"127.0.0.1:{port}"
        self.edge = edge(work / "edge", port)
        self.edge.environment = self._slow.environment
        self._folder = work / "edge"

    def start(self) -> None:
        """Both, on the reference line."""
        self.cloud.start()
        self.cloud.wait_ready()
        self._run_edge({})

    def _run_edge(self, changes: dict[str, Any]) -> None:
        line = {"kind": "line", "pace": "realtime", "parameters": {"seed": 4}}
        document = edge_document(self.edge, self._folder, 0)
        document |= {
            "source": {**line, "frame_rate_hz": self._rate_hz},
            "deadline": {"deadline_s": round(0.99 / self._rate_hz, 4)},
            "escalator": {"address": self._address},
            "spool": {"folder": str(self._spool.folder / "spool")},
            "results": {"path": str(self._results.folder / "results.jsonl")},
        }
        self.edge.configure(document | changes)
        self.edge.start()
        self.edge.wait_ready()

    def begin(self, condition: str) -> None:
        """Breaks something."""
        match condition:
            case "spool full":
                self._spool.fill()
            case "spool read-only":
                self._spool.break_down()
            case "slow":
                self._slow.set(_SLOW_S)
            case "results full":
                self._results.fill()

    def finish(self, condition: str) -> None:
        """Mends it."""
        match condition:
            case "spool full":
                self._spool.empty()
            case "spool read-only":
                self._spool.mend()
            case "slow":
                self._slow.set(0.0)
            case "results full":
                self._results.empty()

    def counts(self) -> Counter[str]:
        """Counters of this moment, by a short name."""
        metrics = self.edge.metrics()
        counts: Counter[str] = Counter()
        for outcome, value in frame_counts(self.edge).items():
            counts[outcome] += int(value)
            counts["frames"] += int(value)
        for short, name in _COUNTED.items():
            counts[short] += int(sum(n for (found, _), n in metrics.items() if found == name))
        return counts

    def segment(self, condition: str, seconds: float) -> Counter[str]:
        """What the counters rise by under a condition; afterwards all is sound again.

        Frames of the first two seconds do not count; the other counters do from the beginning.
        """
        begun = self.counts()
        self.begin(condition)
        time.sleep(_SETTLE_S)
        settled = self.counts()
        time.sleep(seconds)
        after = self.counts()
        self.finish(condition)
        since = {name: settled if name in _FRAMES else begun for name in after}
        return Counter({name: after[name] - since[name][name] for name in after})

    def restart(self, **changes: Any) -> Counter[str]:
        """Stops the edge node and starts it again, perhaps with other settings.

        Returns:
            Its counters before.
        """
        total = self.counts()
        self.edge.stop()
        self._run_edge(changes)
        return total

    def settle(self) -> Counter[str]:
        """Starts the edge node again, on a film without objects, until all has ended.

        Returns:
            Its counters before.
        """
        total = self.restart(source=self._calm)
        until = time.monotonic() + _DRAIN_S
        while time.monotonic() < until:
            if all(entry.outcome for entry in read_entries(self._spool.folder / "spool").values()):
                break
            time.sleep(1.0)
        self.edge.stop()
        self.cloud.stop()
        return total

    def books(self) -> Books:
        """What the spool holds and the results say."""
        return Books(self._spool.folder / "spool", self._results.folder / "results.jsonl")


def compare(books: Books, not_kept: int) -> list[str]:
    """Every violation in words; what ended and is not in the spool must have been counted."""
    unkept = len(books.ends.keys() - books.entries.keys())
    found = books.differences()
    if unkept != not_kept:
        found.append(f"{unkept} ended and are not in the spool, {not_kept} were counted")
    return found


def kept_again_s(ends_ns: list[int], entries: list[Entry]) -> list[float]:
    """After each of these instants, how old the first capture was that the spool has again."""
    captured = sorted(entry.captured_at_ns for entry in entries)
    found = [next((at for at in captured if at >= end_ns), None) for end_ns in ends_ns]
    pairs = zip(found, ends_ns, strict=True)
    return [round((at - end_ns) / 1e9, 1) for at, end_ns in pairs if at is not None]


def run(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All of it."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(SmallDisk(work / "of-spool", _SPOOL_BYTES))
        results = stack.enter_context(SmallDisk(work / "of-results", _RESULTS_BYTES))
        site = Site(work, spool, results, arguments.frame_rate_hz)
        stack.enter_context(site.cloud)
        stack.enter_context(site.edge)
        site.start()
        site.segment(SOUND, 5.0)
        total: Counter[str] = Counter()
        for number in range(arguments.rounds):
            # A log that has grown has room for a while; it begins anew with the process.
            total += site.restart()
            turn = number % len(FAULTS)
            for fault in FAULTS[turn:] + FAULTS[:turn]:
                shares = {}
                for condition in (SOUND, fault):
                    counts = site.segment(condition, arguments.segment_s)
                    tallies[condition].counts += counts
                    tallies[condition].ends_ns.append(time.time_ns())
                    shares[condition] = _share(counts)
                tallies[fault].differences.append(shares[fault] - shares[SOUND])
                print(
                    f"round {number + 1}, {fault}: {shares[fault]:.2%} on time, "
                    f"undisturbed before it {shares[SOUND]:.2%}; {dict(counts)}",
                    flush=True,
                )
        time.sleep(10.0)  # what the last fault left is over
        total += site.settle()
        books = site.books()
    entries = list(books.entries.values())
    return {
        "rounds": arguments.rounds,
        "segment_s": arguments.segment_s,
        "frame_rate_hz": arguments.frame_rate_hz,
        "conditions": {name: _describe(tally, entries) for name, tally in tallies.items()},
        "total": dict(total),
        "escalations_in_the_spool": len(entries),
        "closed_in_the_results": len(books.ends),
        "violations": compare(books, total["not_kept"]),
    }


def _share(counts: Counter[str]) -> float:
    return counts["on_time"] / max(1, sum(counts[name] for name in _FRAMES))


def _describe(tally: Tally, entries: list[Entry]) -> dict[str, Any]:
    points = 100 * np.array(tally.differences)
    paired = {}
    if len(points) > 1:
        error = float(points.std(ddof=1) / np.sqrt(len(points)))
        paired = {
            "difference_points": round(float(points.mean()), 3),
            "error_points": round(error, 3),
        }
    return {
        "frames": sum(tally.counts[name] for name in _FRAMES),
        "on_time_share": round(_share(tally.counts), 5),
        **paired,
        **{name: tally.counts[name] for name in _COUNTED},
        "kept_again_s": kept_again_s(tally.ends_ns, entries),
    }


def main() -> int:
    """Prints the figures; returns 1 where the books differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--segment-s", type=float, default=20.0)
    parser.add_argument("--frame-rate-hz", type=float, default=30.0)
    parser.add_argument("--work", type=Path, help="a new folder, kept; else a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    # What was made of the system is given back when this is ended, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments, arguments.work or Path(folder))
    print()
    for name, value in report.items():
        if name not in ("conditions", "violations"):
            print(f"{name:<26}{value}")
    for name, row in report["conditions"].items():
        print(f"{name:<16}{row}")
    print(f"{len(report['violations'])} violations")
    return end(report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
