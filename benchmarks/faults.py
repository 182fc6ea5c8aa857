"""Whether the frame lane feels what happens to the link and to the escalator.

    python -m benchmarks.faults [--rounds N] [--segment-s S] [--frame-rate-hz F] [--json FILE]

One edge node runs all the time, with its spool on disk; a relay spoils its link. Rounds go through
the conditions in an order that changes, and the undisturbed one comes before each other, so that
what else the machine does is felt by all alike. Counted are frames by their outcome, of whole
segments without their first two seconds. Where one inference takes longer than a frame (a processor
without fast INT8), give a lower frame rate: the deadline is one frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig.link import Link, Mode
from benchmarks.rig.report import write_json
from benchmarks.rig.services import Service, edge, escalator
from reference_line.demo_plan import free_ports

CONDITIONS = ("killed", "black-holed", "slow", "flapping")
_SETTLE_S = 2.0
_FLAP_S = 3.0
_OUTCOMES = ("on_time", "late", "coasted", "dropped", "failed")
Counts = dict[str, float]


def frame_counts(service: Service) -> Counts:
    """Frames so far by outcome."""
    return {
        dict(labels)["outcome"]: value
        for (name, labels), value in service.metrics().items()
        if name == "edge_frames_total"
    }


class Stage:
    """The services, the link, and what each condition does to them."""

    def __init__(self, cloud: Service, node: Service, link: Link) -> None:
        self._cloud = cloud
        self._node = node
        self._link = link

    def segment(self, condition: str, seconds: float) -> Counts:
        """Frames by outcome under a condition; afterwards all is sound again."""
        begin = {"black-holed": Mode.HOLE, "slow": Mode.SLOW}.get(condition, Mode.SOUND)
        self._link.set(begin)
        if condition == "killed":
            self._cloud.kill()
        self._wait(condition, _SETTLE_S)
        before = frame_counts(self._node)
        self._wait(condition, seconds)
        after = frame_counts(self._node)
        if condition == "killed":
            self._cloud.start()
            self._cloud.wait_ready()
        self._link.set(Mode.CUT if condition in ("black-holed", "slow") else Mode.SOUND)
        self._link.set(Mode.SOUND)
        return {name: after[name] - before[name] for name in _OUTCOMES}

    def _wait(self, condition: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if condition == "flapping":
                cut = int(time.monotonic() / _FLAP_S) % 2 == 1
                self._link.set(Mode.CUT if cut else Mode.SOUND)
            time.sleep(min(0.1, left))


def run(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    [port] = free_ports(1)
    rate_hz = arguments.frame_rate_hz
    source = {"frame_rate_hz": rate_hz, "parameters": {"seed": 4}}
    totals: dict[str, Counts] = defaultdict(lambda: dict.fromkeys(_OUTCOMES, 0.0))
    differences: dict[str, list[float]] = defaultdict(list)
    with escalator(folder / "cloud", port) as cloud, Link(port) as link:
        node = edge(
            folder / "edge",
            link.port,
            source={"kind": "line", "pace": "realtime", **source},
            deadline={"deadline_s": round(0.99 / rate_hz, 4)},
        )
        with node:
            cloud.start()
            cloud.wait_ready()
            node.start()
            node.wait_ready()
            stage = Stage(cloud, node, link)
            stage.segment("undisturbed", 5.0)
            for number in range(arguments.rounds):
                for condition in CONDITIONS[number % 4 :] + CONDITIONS[: number % 4]:
                    sound = stage.segment("undisturbed", arguments.segment_s)
                    faulty = stage.segment(condition, arguments.segment_s)
                    for name, counts in (("undisturbed", sound), (condition, faulty)):
                        for outcome, count in counts.items():
                            totals[name][outcome] += count
                    differences[condition].append(_share(faulty) - _share(sound))
                    print(
                        f"round {number + 1}, {condition}: {_share(faulty):.2%} on time, "
                        f"undisturbed before it {_share(sound):.2%}",
                        flush=True,
                    )
            node.stop()
    return {
        "rounds": arguments.rounds,
        "segment_s": arguments.segment_s,
        "frame_rate_hz": rate_hz,
        "conditions": {
            name: {
                "frames": int(sum(counts.values())),
                "outcomes": {outcome: int(count) for outcome, count in counts.items()},
                "on_time_share": round(_share(counts), 5),
                **_difference(differences.get(name, [])),
            }
            for name, counts in totals.items()
        },
    }


def _share(counts: Counts) -> float:
    return counts["on_time"] / max(1.0, sum(counts.values()))


def _difference(found: list[float]) -> dict[str, float]:
    """Mean of the paired differences of shares, in points, and its standard error."""
    if not found:
        return {}
    points = 100 * np.array(found)
    error = float(points.std(ddof=1) / np.sqrt(len(points))) if len(points) > 1 else float("nan")
    return {"difference_points": round(float(points.mean()), 3), "error_points": round(error, 3)}


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--segment-s", type=float, default=20.0)
    parser.add_argument("--frame-rate-hz", type=float, default=30.0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(arguments, Path(folder))
    print(f"\n{'':<14}{'frames':>8}{'on time':>10}{'difference, points':>20}")
    for name, row in report["conditions"].items():
        paired = ""
        if "difference_points" in row:
            paired = f"{row['difference_points']:+.2f} ± {row['error_points']:.2f}"
        print(f"{name:<14}{row['frames']:>8}{row['on_time_share']:>10.2%}{paired:>20}")
    write_json(arguments.json, report)


if __name__ == "__main__":
    main()
