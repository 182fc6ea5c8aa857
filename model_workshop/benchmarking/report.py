"""A benchmark in words, as JSON, and as the tuning file that comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foundation.errors import ConfigError
from foundation.tuning import Tuning
from model_workshop.benchmarking.benchmark import CPU_SLACK, TAIL_SLACK, Benchmark, Measured
from model_workshop.benchmarking.configurations import PLAIN, short_name
from model_workshop.benchmarking.latency import PERCENTILES, Latency, samples_needed
from model_workshop.benchmarking.operators import KernelCost
from model_workshop.benchmarking.sustained import SLOWER_RATIO, Sustained

OPERATORS_MAX = 10
_OWN_SHARE_MIN = 0.9
_NAMES = tuple(f"p{percentile:g}" for percentile in PERCENTILES)


def describe(found: Benchmark) -> str:
    """Everything for a person at a terminal."""
    info = found.bundle.info
    lines = [
        f"{info.name} {info.version} ({found.bundle.digest[:12]}), ONNX Runtime {found.runtime}",
        f"{found.processor}; {found.cores} cores",
    ]
    plain = found.measured[0]
    own = plain.latency.cpu_s / plain.latency.p50_s
    if own < _OWN_SHARE_MIN:
        lines.append(
            f"The cores were shared: {plain.configuration} had one for {own:.0%} of its time. Wall "
            "times and tails tell of the company as much as of the model; CPU time hardly does"
        )
    lines += ["", *_latency_lines(found), "", *_coverage_lines(found)]
    if found.operators is not None:
        lines += ["", f"The costliest operators, {plain.configuration}:"]
        lines += [_cost_line(cost) for cost in found.operators.by_type[:OPERATORS_MAX]]
        lines += ["", f"The costliest nodes, {plain.configuration}:"]
        lines += [_cost_line(cost) for cost in found.operators.by_node[:OPERATORS_MAX]]
    if found.sustained is not None:
        lines += ["", *_sustained_lines(found.sustained)]
    lines += ["", *_choice_lines(found)]
    return "\n".join(lines)


def to_document(found: Benchmark) -> dict[str, Any]:
    """Everything as plain values, unit in every key."""
    return {
        "format": "hardcase-bench/1",
        "bundle": f"{found.bundle.info.name} {found.bundle.info.version}",
        "bundle_digest": found.bundle.digest,
        "processor": found.processor,
        "cores": found.cores,
        "runtime": found.runtime,
        "load_before": found.load,
        "absent_providers": list(found.absent),
        "failures": [
            {"what": failure.what, "error": failure.error.message, "remedy": failure.error.remedy}
            for failure in found.failures
        ],
        "coverage": [asdict(coverage) for coverage in found.coverage],
        "measured": [asdict(each) for each in found.measured],
        "reference": found.reference
        and {"bundle": found.reference[0], **asdict(found.reference[1])},
        "operators": found.operators
        and {
            "by_type": [asdict(cost) for cost in found.operators.by_type],
            "by_node": [asdict(cost) for cost in found.operators.by_node],
        },
        "chosen": found.chosen and asdict(found.chosen.configuration),
        "sustained": found.sustained
        and {
            "minutes": [asdict(minute) for minute in found.sustained.minutes],
            "wall_ratio": found.sustained.wall_ratio,
            "cpu_ratio": found.sustained.cpu_ratio,
            "verdict": str(found.sustained.verdict),
        },
    }


def to_tuning(found: Benchmark, chosen: Measured) -> Tuning:
    """The tuning file for what was chosen."""
    latency = chosen.latency
    figures: dict[str, int | float | None] = {
        f"{name.replace('.', '_')}_s": None if name in latency.thin else latency.at(name)
        for name in _NAMES
    }
    figures |= {
        "cpu_s": latency.cpu_s,
        "samples": latency.samples,
        "ready_s": chosen.ready_s,
        "peak_bytes": chosen.peak_bytes,
    }
    return Tuning(
        bundle=f"{found.bundle.info.name} {found.bundle.info.version}",
        bundle_digest=found.bundle.digest,
        processor=found.processor,
        runtime=found.runtime,
        provider=chosen.configuration.provider,
        intra_op_threads=chosen.configuration.threads,
        spinning=chosen.configuration.spinning,
        figures=figures,
    )


def write_json(document: dict[str, Any], path: Path) -> None:
    """Writes figures for programs to read.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(
            f"Cannot write {path}: {error}", remedy="Check the folder and its space"
        ) from error


def _latency_lines(found: Benchmark) -> Iterator[str]:
    names = "".join(f"{name:>10}" for name in _NAMES)
    work = f"{'CPU ms':>10}{'ready ms':>10}{'peak MB':>9}"
    yield f"{'ms per inference':24}{names}{work}{'off by':>10}  pinned to"
    for each in found.measured:
        yield _row(str(each.configuration), each)
    if found.reference is not None:
        name, reference = found.reference
        yield _row(name[:23], reference)
    for provider in found.absent:
        yield f"{short_name(provider):24}  not available here"
    for failure in found.failures:
        yield f"{short_name(failure.what):24}  FAILED: {failure.error.message}"
    thin = found.measured[0].latency.thin
    if thin:
        needed = ", ".join(
            f"{name} takes {samples_needed(float(name[1:])):,}" for name in _NAMES if name in thin
        )
        yield f"(in brackets: too few samples to bear the percentile; {needed})"
    yield f"(off by: largest difference from a score of {PLAIN}; lost: detections that one lacks)"
    if found.reference is not None:
        name, reference = found.reference
        ratio = reference.latency.p50_s / found.measured[0].latency.p50_s
        by_work = reference.latency.cpu_s / found.measured[0].latency.cpu_s
        yield f"{ratio:.2f} times as fast as {name} ({by_work:.2f} by CPU time), both one thread"


def _row(name: str, each: Measured) -> str:
    latency: Latency = each.latency
    cells = []
    for percentile in _NAMES:
        text = f"{1e3 * latency.at(percentile):.2f}"
        cells.append(f"{f'({text})' if percentile in latency.thin else text:>10}")
    pinned = ", ".join(map(str, each.cores)) or "nothing"
    off = ""
    if each.agreement is not None:
        lost = each.agreement.missing
        off = f"lost {lost}" if lost else f"{each.agreement.score_difference_max:.3f}"
    return (
        f"{name:24}{''.join(cells)}{1e3 * latency.cpu_s:>10.2f}{1e3 * each.ready_s:>10.0f}"
        f"{each.peak_bytes / 1e6:>9.0f}{off:>10}  {pinned}"
    )


def _coverage_lines(found: Benchmark) -> Iterator[str]:
    yield "Which node ran where:"
    for coverage in found.coverage:
        parts = (
            f"{short_name(share.provider)} {share.nodes} nodes ({share.node_share:.1%}), "
            f"{share.time_share:.1%} of the time"
            for share in coverage.shares
        )
        yield f"  {short_name(coverage.declared)} declared: {'; '.join(parts)}"


def _cost_line(cost: KernelCost) -> str:
    name = cost.name or f"{cost.calls} kernel{'s' * (cost.calls > 1)}"
    return (
        f"  {cost.share:>6.1%} {1e3 * cost.seconds:>8.3f} ms  {cost.op_type:<20} {cost.dtype:<14} "
        f"{name}"
    )


def _sustained_lines(sustained: Sustained) -> Iterator[str]:
    first, last = sustained.minutes[0], sustained.minutes[-1]
    yield f"Sustained over {len(sustained.minutes)} minutes, without a pause:"
    for name, minute in (("minute 1", first), (f"minute {len(sustained.minutes)}", last)):
        clock = f", {minute.frequency_hz / 1e9:.2f} GHz" if minute.frequency_hz else ""
        yield (
            f"  {name}: p50 {1e3 * minute.p50_s:.2f} ms, p99 {1e3 * minute.p99_s:.2f} ms, "
            f"CPU {1e3 * minute.cpu_s:.2f} ms, {minute.runs} runs{clock}"
        )
    if last.frequency_hz is None:
        yield "  (this system does not tell the processor's clock)"
    yield (
        f"  {sustained.verdict}: last minute's p50 {sustained.wall_ratio:.2f} of the first's, "
        f"CPU time {sustained.cpu_ratio:.2f} (from {SLOWER_RATIO:.2f} of CPU time on: "
        "throttled; of wall time alone: contended)"
    )


def _choice_lines(found: Benchmark) -> Iterator[str]:
    for each in found.measured:
        if each.problem:
            yield f"{each.configuration} cannot be chosen: {each.problem}"
    if found.chosen is None:
        yield "Nothing can be chosen"
        return
    agreement = found.chosen.agreement
    yield (
        f"Chosen: {found.chosen.configuration} (not spinning; within {CPU_SLACK:g} of the "
        f"least CPU time, the lowest {found.chosen.latency.tail}; within {TAIL_SLACK:g} of that, "
        "the least CPU time)"
    )
    if agreement is not None:
        yield (
            f"Its detections agree with {found.measured[0].configuration}: {agreement.compared} "
            f"compared in {agreement.images} images, scores within "
            f"{agreement.score_difference_max:.3f}, boxes at IoU {agreement.iou_min:.2f} or more"
        )
