"""What a poor network does to both services, on two hosts with real TCP between them.

    python -m benchmarks.real_network [--seconds S] [--cut-s S] [--cuts N] [--quiet-cuts N]
                                      [--frame-rate-hz F] [--work FOLDER] [--json FILE]

An edge node on the reference line and an escalator, in network namespaces, with mutual TLS. The
wire between them goes through the conditions one after another; after each it is sound until the
backlog is answered. Then the edge node watches a film without objects, nothing is sent, and the
wire is cut at random moments: how long until it notices, and until it is back. At the end the books
are compared: every escalation ended once, no verdict acted twice. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults import frame_counts
from benchmarks.rig.books import Books, read_entries
from benchmarks.rig.network import SOUND, Fault, Host, Wire, why_not
from benchmarks.rig.report import end
from benchmarks.rig.services import calm_source, edge, edge_document, escalator
from certificates.__main__ import main as hardcase_certs
from edge_node.adapters.spool.entries import Entry
from reference_line.demo_plan import free_ports

CONDITIONS = {
    "sound": SOUND,
    "1 % loss": Fault(loss=0.01),
    "10 % loss": Fault(loss=0.1),
    "500 ms later": Fault(delay_s=0.5),
    "64 kbit/s": Fault(bits_per_s=64e3),
}
CUT = "cut"
_DRAIN_S = 180.0
_QUIET_S = 600.0
_POLL_S = 0.02
_FRESH_S = 10.0
_IDLE_S = (1.0, 8.0)
_AWAY_S = (2.0, 25.0)
_BACK_S = 60.0
_ERRORS = "edge_uplink_errors_total"


@dataclass(frozen=True, slots=True)
class Period:
    """One condition while it lasted, and what was counted meanwhile.

    Attributes:
        condition: Its name.
        begin_ns: Since the Unix epoch.
        end_ns: When it ended.
        counts: What the counters rose by.
    """

    condition: str
    begin_ns: int
    end_ns: int
    counts: dict[str, float]

    def captured(self, entry: Entry) -> bool:
        """Whether a crop is of this period."""
        return self.begin_ns <= entry.captured_at_ns < self.end_ns


class Site:
    """Both services, on their hosts, and the wire."""

    def __init__(self, folder: Path, wire: Wire, at: Host, cloud_at: Host, rate_hz: float) -> None:
        self.folder = folder / "edge"
        self.wire = wire
        self._rate_hz = rate_hz
        port, telemetry_port = free_ports(2)
        self._address = f"{cloud_at.wire_address}:{port}"
        self._certificates = folder / "certificates"
        options = ["--host", cloud_at.wire_address, "--out", str(self._certificates)]
        if hardcase_certs(["quickstart", "site", "line", *options]):
            raise RuntimeError("no certificates are made")
        self._calm = calm_source(folder / "calm", int(_QUIET_S))
        self.cloud = escalator(
            folder / "cloud",
            port,
            listen=self._address,
            tls=self._tls(cloud_at.wire_address),
            telemetry_listen=f"{cloud_at.address}:{telemetry_port}",
        )
        self.cloud.telemetry_port = telemetry_port
        self.edge = edge(self.folder, port)
        for service, host in ((self.cloud, cloud_at), (self.edge, at)):
            service.prefix, service.telemetry_host = host.prefix, host.address

    def document(self, *, calm: bool) -> dict[str, Any]:
        """The edge node's settings."""
        line = {"kind": "line", "pace": "realtime", "parameters": {"seed": 4}}
        document = edge_document(self.edge, self.folder, 0)
        return document | {
            "source": self._calm if calm else {**line, "frame_rate_hz": self._rate_hz},
            "deadline": {"deadline_s": round(0.99 / self._rate_hz, 4)},
            "escalator": {"address": self._address, "tls": self._tls("site-line")},
            "telemetry": {"host": self.edge.telemetry_host, "port": self.edge.telemetry_port},
        }

    def start(self) -> None:
        """Both, on the reference line."""
        self.cloud.start()
        self.cloud.wait_ready()
        self.edge.configure(self.document(calm=False))
        self.edge.start()
        self.edge.wait_ready()
        self.wait_connected(True, _BACK_S)

    def counts(self) -> dict[str, float]:
        """Counters of this moment, by a short name."""
        metrics = self.edge.metrics()
        up, down = self.wire.carried_bytes
        return {
            **frame_counts(self.edge),
            "errors": sum(n for (name, _), n in metrics.items() if name.startswith(_ERRORS)),
            "deferred": metrics["edge_escalations_deferred_total", ()],
            "bytes_up": float(up),
            "bytes_down": float(down),
            "packets_lost": float(self.wire.lost_packets),
        }

    def live(self, condition: str, fault: Fault, seconds: float) -> Period:
        """A condition for so long."""
        before, begin_ns = self.counts(), time.time_ns()
        self.wire.fault = fault
        time.sleep(seconds)
        self.wire.fault = SOUND
        end_ns, after = time.time_ns(), self.counts()
        return Period(condition, begin_ns, end_ns, {n: after[n] - before[n] for n in before})

    def drain(self, period: Period) -> None:
        """Waits, on a sound wire, until all of a period has ended."""
        until = time.monotonic() + _DRAIN_S
        while time.monotonic() < until:
            entries = read_entries(self.folder / "spool").values()
            if all(entry.outcome for entry in entries if entry.captured_at_ns < period.end_ns):
                break
            time.sleep(0.5)
        time.sleep(max(0.0, _FRESH_S - (time.time_ns() - period.end_ns) / 1e9))

    def watch_calm(self) -> None:
        """Starts the edge node again, on a film without objects, and lets all be answered."""
        self.edge.stop()
        self.edge.configure(self.document(calm=True))
        self.edge.start()
        self.edge.wait_ready()
        until = time.monotonic() + _DRAIN_S
        while time.monotonic() < until:
            if all(one.outcome for one in read_entries(self.folder / "spool").values()):
                return
            time.sleep(1.0)

    def wait_connected(self, connected: bool, timeout_s: float) -> float:
        """Waits until the edge node says so; returns how long it took, infinity: longer."""
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < timeout_s:
            if self.edge.metrics()["edge_uplink_connected", ()] == connected:
                return waited
            time.sleep(_POLL_S)
        return float("inf")

    def cut_quietly(self, rng: random.Random, then: Fault) -> dict[str, float]:
        """Cuts the wire of an edge node that sends nothing, until some seconds after it notices.

        Args:
            rng: Draws the seconds.
            then: What the wire does when it is back.
        """
        time.sleep(rng.uniform(*_IDLE_S))
        sent = self.edge.metrics()["edge_uplink_bytes_total", ()]
        self.wire.fault = Fault(cut=True)
        noticed_s = self.wait_connected(False, 30.0)
        time.sleep(rng.uniform(*_AWAY_S))
        sent = self.edge.metrics()["edge_uplink_bytes_total", ()] - sent
        self.wire.fault = then
        back_s = self.wait_connected(True, _BACK_S)
        return {"noticed_s": round(noticed_s, 2), "back_s": round(back_s, 2), "sent_bytes": sent}

    def _tls(self, name: str) -> dict[str, str]:
        folder = self._certificates
        return {
            "ca": str(folder / "ca.crt"),
            "certificate": str(folder / f"{name}.crt"),
            "key": str(folder / f"{name}.key"),
        }


def describe(period: Period, entries: list[Entry]) -> dict[str, Any]:
    """A period's figures, of the crops that were captured in it."""
    mine = [entry for entry in entries if period.captured(entry)]
    answered = [one for one in mine if one.outcome == "answered"]
    fresh = [one for one in answered if one.ended_at_ns <= one.fresh_until_ns]
    frames = {n: period.counts[n] for n in ("on_time", "late", "coasted", "dropped", "failed")}
    return {
        "seconds": round((period.end_ns - period.begin_ns) / 1e9, 1),
        "frames": int(sum(frames.values())),
        "on_time_share": round(frames["on_time"] / max(1.0, sum(frames.values())), 4),
        "asked": len(mine),
        "answered_fresh": len(fresh),
        "answered_late": len(answered) - len(fresh),
        **latencies(fresh),
        **{name: int(period.counts[name]) for name in ("deferred", "errors", "packets_lost")},
        **{name: int(period.counts[name]) for name in ("bytes_up", "bytes_down")},
        **after(period, entries),
    }


def latencies(entries: list[Entry]) -> dict[str, float | None]:
    """From capture to verdict."""
    taken = [(one.ended_at_ns - one.captured_at_ns) / 1e9 for one in entries]
    if not taken:
        return {"latency_p50_s": None, "latency_p99_s": None}
    p50, p99 = np.percentile(taken, (50, 99))
    return {"latency_p50_s": round(float(p50), 3), "latency_p99_s": round(float(p99), 3)}


def after(period: Period, entries: list[Entry]) -> dict[str, Any]:
    """What followed once the wire was sound again: fresh crops, and the backlog."""
    up_ns = period.end_ns
    late = [one for one in entries if one.captured_at_ns < up_ns < one.ended_at_ns]
    fresh = [
        one.ended_at_ns
        for one in entries
        if up_ns < one.ended_at_ns <= one.fresh_until_ns and one.outcome == "answered"
    ]
    until_ns = up_ns + int(_FRESH_S * 1e9)
    next_ = [one for one in entries if up_ns <= one.captured_at_ns < until_ns]
    slowest = max(
        ((one.ended_at_ns - one.captured_at_ns) / 1e9 for one in next_ if one.outcome), default=0.0
    )
    return {
        "first_fresh_answer_s": round((min(fresh) - up_ns) / 1e9, 2) if fresh else None,
        "backlog": len(late),
        "backlog_s": round(max((o.ended_at_ns - up_ns for o in late), default=0) / 1e9, 1),
        "next_crops": len(next_),
        "next_answered_fresh": sum(one.ended_at_ns <= one.fresh_until_ns for one in next_),
        "next_slowest_s": round(slowest, 2),
    }


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All of it."""
    rng = random.Random(arguments.seed)
    with contextlib.ExitStack() as stack:
        at, cloud_at = (stack.enter_context(Host(n, i)) for i, n in ((1, "edge"), (2, "cloud")))
        wire = stack.enter_context(Wire(at, cloud_at, arguments.seed))
        site = Site(folder, wire, at, cloud_at, arguments.frame_rate_hz)
        stack.enter_context(site.cloud)
        stack.enter_context(site.edge)
        site.start()
        periods: list[Period] = []
        planned = [(name, fault, arguments.seconds) for name, fault in CONDITIONS.items()]
        planned += [(CUT, Fault(cut=True), arguments.cut_s)] * arguments.cuts
        for condition, fault, seconds in planned:
            periods.append(site.live(condition, fault, seconds))
            site.drain(periods[-1])
            entries = list(read_entries(site.folder / "spool").values())
            print(condition, describe(periods[-1], entries), flush=True)
        site.watch_calm()
        quiet: dict[str, list[dict[str, float]]] = {name: [] for name in CONDITIONS}
        for condition in ["sound"] * (arguments.quiet_cuts - 1) + list(CONDITIONS):
            found = site.cut_quietly(rng, CONDITIONS[condition])
            quiet[condition].append(found)
            print(f"nothing sent, cut, then {condition}", found, flush=True)
        site.edge.stop()
        site.cloud.stop()
    books = Books(site.folder / "spool", site.folder / "results.jsonl")
    entries = list(books.entries.values())
    return {
        "frame_rate_hz": arguments.frame_rate_hz,
        "periods": [{"condition": p.condition, **describe(p, entries)} for p in periods],
        "quiet_cuts": quiet,
        "escalations": len(entries),
        "corrections": books.effects.total(),
        "violations": books.differences(),
    }


def main() -> int:
    """Prints the figures; returns 1 where the books differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--cut-s", type=float, default=60.0)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--quiet-cuts", type=int, default=8)
    parser.add_argument("--frame-rate-hz", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
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
    print(f"\n{report['escalations']} escalations, {report['corrections']} corrections")
    print(f"{len(report['violations'])} violations")
    return end(report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
