"""Whether anything is lost or done twice while services are killed at random moments.

    python -m benchmarks.nothing_lost [--cycles N] [--seed N] [--work FOLDER] [--json FILE]

An edge node on the reference line, an escalator, and between them a relay that breaks streams,
swallows verdicts and repeats them. In each cycle the edge node, the escalator or both are killed
(SIGKILL) at a random moment and started again. At the end all is sound, a film without objects
plays, and the backlog is answered. Then the books are compared: the edge node's spool, its results
and what passed the relay. Every difference is a violation and is listed; there should be none.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.rig.books import Books, read_entries
from benchmarks.rig.calls import CallRelay
from benchmarks.rig.report import end
from benchmarks.rig.services import calm_source, edge, edge_document, escalator
from edge_node.adapters.spool.entries import Entry
from reference_line.demo_plan import free_ports

VICTIMS = ("edge", "escalator", "both")
_FAULT_SHARE = 0.03
_LIFE_S = (0.2, 6.0)
_SETTLE_S = 300.0
_POLL_S = 1.0
_LIVELY = {
    "policy": {
        "expiry_s": 2.0,
        "uplink_bytes_per_s": 2e6,
        "uplink_bytes_burst": 4e6,
        "requests_per_s": 100.0,
        "requests_burst": 100.0,
    },
    "escalator": {"backoff_min_s": 0.05, "backoff_max_s": 0.5, "connect_timeout_s": 2.0},
    "drain_s": 0.5,
}


class Site:
    """The services, in a folder."""

    def __init__(self, folder: Path, relay: CallRelay, port: int) -> None:
        self.folder = folder / "edge"
        self.edge = edge(self.folder, relay.port)
        self.cloud = escalator(folder / "cloud", port)
        self._relay = relay
        self._port = relay.port
        self._calm = calm_source(folder / "calm", int(_SETTLE_S) + 60)

    def document(self, *, calm: bool) -> dict[str, Any]:
        """The edge node's settings."""
        document = edge_document(self.edge, self.folder, self._port, **_LIVELY)
        document["escalator"]["address"] = f"127.0.0.1:{self._port}"
        document["spool"]["backlog_share"] = 0.9
        if calm:
            document["source"] = self._calm
        return document

    def entries(self) -> dict[str, Entry]:
        """What the spool holds."""
        return read_entries(self.folder / "spool")

    def books(self) -> Books:
        """What the spool holds and the results say."""
        return Books(self.folder / "spool", self.folder / "results.jsonl")


def kill_cycles(site: Site, cycles: int, rng: random.Random) -> Counter[str]:
    """Kills at random moments; returns how often whom."""
    victims: Counter[str] = Counter()
    for number in range(cycles):
        for service in (site.cloud, site.edge):
            if not service.is_running:
                service.start()
        site.edge.wait_ready()
        time.sleep(rng.uniform(*_LIFE_S))
        victim = rng.choice(VICTIMS)
        victims[victim] += 1
        if victim != "escalator":
            site.edge.kill()
        if victim != "edge":
            site.cloud.kill()
        if (number + 1) % 10 == 0:
            print(f"{number + 1} cycles, {len(site.entries())} escalations", flush=True)
    return victims


def settle(site: Site, relay: CallRelay) -> float:
    """Lets the backlog be answered in peace; returns how long it took."""
    relay.fault_share = 0.0
    site.edge.kill()
    if not site.cloud.is_running:
        site.cloud.start()
    site.cloud.wait_ready()
    site.edge.configure(site.document(calm=True))
    begun = time.monotonic()
    site.edge.start()
    site.edge.wait_ready()
    while time.monotonic() - begun < _SETTLE_S:
        if all(entry.outcome for entry in site.entries().values()):
            break
        time.sleep(_POLL_S)
    taken_s = time.monotonic() - begun
    site.edge.stop()
    site.cloud.stop()
    return taken_s


def compare(site: Site, relay: CallRelay) -> tuple[dict[str, Any], list[str]]:
    """The books side by side: figures, and every violation in words."""
    books = site.books()
    entries, found = books.entries, books.differences()
    for id_, entry in entries.items():
        if entry.outcome == "answered" and not relay.answered[id_]:
            found.append(f"{id_} is answered, and no answer passed the relay")
        if relay.answered[id_] and entry.outcome != "answered":
            found.append(f"{id_} was answered, and ended as {entry.outcome}")
    totals = Counter(entry.outcome or "waiting" for entry in entries.values())
    figures = {
        "escalations_in_the_spool": len(entries),
        "outcomes": dict(totals),
        "closed_in_the_results": len(books.ends),
        "answered_at_the_edge": totals["answered"],
        "answered_past_the_relay": sum(1 for id_ in entries if relay.answered[id_]),
        "asked_more_than_once": sum(1 for n in relay.asked.values() if n > 1),
        "sent_and_not_yet_kept_when_killed": len(relay.asked.keys() - entries.keys()),
        "answers_repeated": sum(n - 1 for n in relay.answered.values()),
        "corrections": books.effects.total(),
        "frames": books.frames,
        "faults": dict(relay.faults),
    }
    return figures, found


def run(cycles: int, seed: int, folder: Path) -> dict[str, Any]:
    """All of it."""
    rng = random.Random(seed)
    [port] = free_ports(1)
    with CallRelay(port, seed, _FAULT_SHARE) as relay:
        site = Site(folder, relay, port)
        with site.edge, site.cloud:
            site.edge.configure(site.document(calm=False))
            victims = kill_cycles(site, cycles, rng)
            settled_s = settle(site, relay)
        figures, violations = compare(site, relay)
    return {
        "cycles": cycles,
        "seed": seed,
        "killed": dict(victims),
        "settled_s": round(settled_s, 1),
        **figures,
        "violations": violations,
    }


def main() -> int:
    """Prints the books; returns 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="a new folder, kept; else a temporary one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if arguments.work is None:
        with tempfile.TemporaryDirectory() as folder:
            report = run(arguments.cycles, arguments.seed, Path(folder))
    else:
        report = run(arguments.cycles, arguments.seed, arguments.work)
    for name, value in report.items():
        print(f"{name:<26}{len(value) if name == 'violations' else value}")
    return end(report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
