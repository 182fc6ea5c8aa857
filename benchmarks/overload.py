"""What the escalator still answers when ten times more is asked than it can do.

    python benchmarks/overload.py [--seconds 60] [--factor 10] [--rounds 3] [--json FILE]

The escalator is `cloud-escalator serve` in a process of its own. Polite devices ask steadily for
most of their equal share of the model; one noisy device asks for everything else up to `--factor`
times the capacity, whatever it is told. They run in two further processes, over gRPC on loopback,
every request on time even when the last ones were shed. Phases: calm (the polite devices alone),
peak (the noisy device keeps just as many under way as the model needs to be busy); then in rounds
overload, calm, peak. Goodput counts answers that came before their expiry, on the clock of who
asked; it is compared with the mean of the peaks around it, which saw about the same machine.

Quotas and the bound of requests per stream are lifted, so that all of the load reaches the queue.
Clients and server share the machine; so that their cost counts little against the server, as it
would not count at all on machines of their own, clients have low priority. How much was asked is
said, and a phase in which they fell behind would show there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.escalator_throughput import serving
from benchmarks.overload_parts.asking import Asked, Device, ask, make_messages
from foundation.bundle import Bundle

NOISY = "noisy"
_POLITE_SHARE = 0.8
"""Of its equal share of the model, what a polite device asks for."""
_SETTLE_S = 1.0
_FILLING_S = 1.0
_FIRST_LOOK_S = 4.0


class Memory:
    """Samples the resident memory of a process from a thread, between `with` and its end."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory")
        self.bytes_max = self.bytes_now = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            self.bytes_now = self._process.memory_info().rss
            self.bytes_max = max(self.bytes_max, self.bytes_now)


@dataclass(frozen=True, slots=True)
class Round:
    """One overload, between two peaks.

    Attributes:
        peaks: what was asked before and after.
        overload: what was asked while the noisy device did.
        after: what the polite devices asked when it had stopped.
        stopped_s: when it stopped.
        backlog_s: after how long it had its last verdict.
    """

    peaks: tuple[list[Asked], list[Asked]]
    overload: list[Asked]
    after: list[Asked]
    stopped_s: float
    backlog_s: float


class Bench:
    """Runs the phases against one escalator."""

    def __init__(self, options: argparse.Namespace, port: int, messages: list[bytes]) -> None:
        self._options = options
        self._port = port
        self._messages = messages
        self._names = [f"polite-{number}" for number in range(1, options.polite + 1)]
        spawn = multiprocessing.get_context("spawn")
        self._workers = [ProcessPoolExecutor(1, mp_context=spawn) for _ in range(2)]

    def run(self) -> tuple[list[Asked], list[Round]]:
        """What was asked when all was calm, and in every round."""
        options = self._options
        capacity = good(self._peak(0.0, _FIRST_LOOK_S), options.expiry)[0]
        rate = _POLITE_SHARE * capacity / (options.polite + 1)
        calm = self._ask([], self._polite(rate, options.calm))
        rounds: list[Round] = []
        before = self._peak(rate, options.peak)
        for _ in range(options.rounds):
            capacity = good(before, options.expiry)[0]
            rate = _POLITE_SHARE * capacity / (options.polite + 1)
            rest = options.factor * capacity - options.polite * rate
            both = self._ask(
                [Device(NOISY, rest, 1, options.seconds)],
                self._polite(rate, options.seconds + options.calm),
            )
            noisy = [asked for asked in both if asked.device == NOISY]
            stopped_s = max(asked.sent_s for asked in noisy)
            after = self._peak(rate, options.peak)
            rounds.append(
                Round(
                    (before, after),
                    [asked for asked in both if asked.sent_s <= stopped_s],
                    [asked for asked in both if asked.sent_s > stopped_s],
                    stopped_s,
                    max(asked.done_s for asked in noisy) - stopped_s,
                )
            )
            before = after
        return calm, rounds

    def close(self) -> None:
        """Ends the client processes."""
        for worker in self._workers:
            worker.shutdown()

    def _peak(self, polite_per_s: float, seconds: float) -> list[Asked]:
        # Two batches: one runs, and the next one is full.
        noisy = Device(NOISY, 0.0, 2 * self._options.batch, seconds)
        return self._ask([noisy], self._polite(polite_per_s, seconds) if polite_per_s else [])

    def _polite(self, rate_per_s: float, seconds: float) -> list[Device]:
        return [Device(name, rate_per_s, 1, seconds) for name in self._names]

    def _ask(self, noisy: list[Device], polite: list[Device]) -> list[Asked]:
        running = [
            worker.submit(ask, self._port, devices, self._messages, self._options.expiry)
            for worker, devices in zip(self._workers, (noisy, polite), strict=True)
            if devices
        ]
        asked = [one for future in running for one in future.result()]
        time.sleep(_SETTLE_S)
        return asked


def good(asked: list[Asked], expiry_s: float) -> tuple[float, float]:
    """Answers in time, and what they are worth together, per second.

    Counted while it was asked, without the first second, in which the queue fills.
    """
    began_s = min(one.sent_s for one in asked) + _FILLING_S
    ended_s = max(one.sent_s for one in asked)
    found = [
        one.value
        for one in asked
        if one.outcome == "answer"
        and one.latency_s <= expiry_s
        and began_s <= one.done_s <= ended_s
    ]
    return len(found) / (ended_s - began_s), sum(found) / (ended_s - began_s)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; zero of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def recovery_s(one: Round, normal_s: float) -> float:
    """After the load stopped, until every request of a polite device is answered as when calm.

    Counted to the sending of the last request that was not.
    """
    bad = [
        asked.sent_s
        for asked in one.after
        if asked.outcome != "answer" or asked.latency_s > normal_s
    ]
    return max([one.stopped_s, *bad]) - one.stopped_s


def report(calm: list[Asked], rounds: list[Round], options: argparse.Namespace) -> dict[str, Any]:
    """The figures: per round what is compared with its peaks, together all others."""
    expiry_s = options.expiry
    overload = [asked for one in rounds for asked in one.overload]
    answered = [one for one in overload if one.outcome == "answer"]
    by_device: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for asked in overload:
        by_device[asked.device][asked.outcome] += 1
    usual = [one for one in calm if one.outcome == "answer"]
    normal_s = 2.0 * percentile([one.latency_s for one in usual], 0.99)
    figures = [compare(one, normal_s, options) for one in rounds]
    of_whom = {
        "calm": usual,
        "polite": [one for one in answered if one.device != NOISY],
        "noisy": [one for one in answered if one.device == NOISY],
        "all": answered,
    }
    return {
        "rounds": figures,
        "goodput_of_peak": statistics.median(one["goodput_of_peak"] for one in figures),
        "recovery_s": max(one["recovery_s"] for one in figures),
        "normal_s": normal_s,
        "answered_late": sum(one.latency_s > expiry_s for one in answered),
        "answers": len(answered),
        "promise_s": expiry_s,
        "latency_s": {
            name: {
                "p50": percentile([one.latency_s for one in some], 0.5),
                "p99": percentile([one.latency_s for one in some], 0.99),
            }
            for name, some in of_whom.items()
        },
        "devices": {
            name: {
                "offered": outcomes.total(),
                **outcomes,
                "of_answers": outcomes["answer"] / len(answered),
                "mean_value_answered": statistics.fmean(
                    [one.value for one in answered if one.device == name] or [0.0]
                ),
            }
            for name, outcomes in sorted(by_device.items())
        },
    }


def compare(one: Round, normal_s: float, options: argparse.Namespace) -> dict[str, float]:
    """One overload beside the peaks around it."""
    peaks = [good(peak, options.expiry) for peak in one.peaks]
    count, value = good(one.overload, options.expiry)
    peak = statistics.mean(number for number, _ in peaks)
    return {
        "peak_before_per_s": peaks[0][0],
        "peak_after_per_s": peaks[1][0],
        "peak_value_per_s": statistics.mean(worth for _, worth in peaks),
        "offered_per_s": len(one.overload) / options.seconds,
        "goodput_per_s": count,
        "goodput_of_peak": count / peak,
        "goodput_value_per_s": value,
        "recovery_s": recovery_s(one, normal_s),
        "backlog_s": one.backlog_s,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs everything; returns what goes into the JSON file."""
    bundle = Bundle.open(options.bundle)
    messages = make_messages(bundle)
    limits = {"stream_requests_max": 10_000, "queue_requests_max": 256}
    with serving(options.bundle, options, limits) as (port, process):
        bench = Bench(options, port, messages)
        before = process.memory_info().rss
        with Memory(process) as memory:
            calm, rounds = bench.run()
        bench.close()
        after = process.memory_info().rss
    return {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
        "bundle": {"name": bundle.info.name, "digest": bundle.digest},
        "seconds": options.seconds,
        "factor": options.factor,
        **report(calm, rounds, options),
        "resident_mb": {
            "before": before / 1e6,
            "peak": memory.bytes_max / 1e6,
            "after": after / 1e6,
        },
    }


def lines(result: dict[str, Any]) -> Iterator[str]:
    """The tables."""
    heads = ("peaks /s", "asked /s", "goodput /s", "of peak", "value, peak /s", "value /s")
    yield f"{'':>6}" + "".join(f"{head:>16}" for head in (*heads, "normal after", "backlog"))
    for number, one in enumerate(result["rounds"], start=1):
        peaks = f"{one['peak_before_per_s']:.1f}, {one['peak_after_per_s']:.1f}"
        yield (
            f"{number:>6}{peaks:>16}{one['offered_per_s']:>16.1f}{one['goodput_per_s']:>16.1f}"
            f"{one['goodput_of_peak']:>16.1%}{one['peak_value_per_s']:>16.1f}"
            f"{one['goodput_value_per_s']:>16.1f}{one['recovery_s']:>14.2f} s"
            f"{one['backlog_s']:>14.2f} s"
        )
    yield f"answered after expiry: {result['answered_late']} of {result['answers']}"
    yield f"promise: {result['promise_s']:.3f} s; normal: {result['normal_s']:.3f} s"
    for name, latency in result["latency_s"].items():
        yield f"latency, {name}: p50 {latency['p50']:.3f} s, p99 {latency['p99']:.3f} s"
    memory = result["resident_mb"]
    yield (
        f"resident: {memory['before']:.0f} MB, at most {memory['peak']:.0f}, "
        f"then {memory['after']:.0f}"
    )
    for name, device in result["devices"].items():
        ended = ", ".join(f"{key} {device.get(key, 0)}" for key in ("answer", "shed", "expired"))
        yield (
            f"{name}: asked {device['offered']}: {ended}; {device['of_answers']:.1%} of answers, "
            f"mean value {device['mean_value_answered']:.2f}"
        )


def main() -> None:
    """Measures, prints a table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=Path("reference_line/bundles/cloud-reference")
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--rounds", type=int, default=1, help="overloads, a peak around each")
    parser.add_argument("--factor", type=float, default=10.0, help="asked, of the capacity")
    parser.add_argument("--polite", type=int, default=4, help="devices beside the noisy one")
    parser.add_argument("--expiry", type=float, default=3.0, help="promise of a request, s")
    parser.add_argument("--calm", type=float, default=8.0, help="seconds before and after")
    parser.add_argument("--peak", type=float, default=15.0, help="seconds of each peak")
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--decode-threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    result = measure(options)
    for line in lines(result):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
