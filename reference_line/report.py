"""The report: one HTML page that needs nothing but itself.

Style sheet, charts and pictures are inside the page; it asks the network for nothing and follows
the reader's choice of light or dark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from edge_node.values import Effect, EscalationOutcome
from foundation.errors import ConfigError
from reference_line.analysis import Analysis
from reference_line.charts import Bar, bars_over_time, grouped_bars, nice_ceiling, scatter
from reference_line.demo_plan import DemoPlan
from reference_line.gallery import VIEW_PX, build_gallery
from reference_line.line import Line
from reference_line.live import Sample
from reference_line.records import FrameRecord, RunRecords
from reference_line.terminal import SYSTEMS, headline, milliseconds, size
from reference_line.truth import LABELS

_CARDS_MAX = 12
_HALF_WIDTH = 520.0
_HALF_HEIGHT = 170.0
_KINDS = {"edge_only": "edge", "hybrid": "hybrid", "cloud_only": "cloud"}
# What was forgone was never sent, and may have been asked about again.
_ANSWERED_OR_LATER = (EscalationOutcome.ANSWERED, EscalationOutcome.FORGONE)
_UNANSWERED = tuple(str(one) for one in EscalationOutcome if one not in _ANSWERED_OR_LATER)


def write_report(plan: DemoPlan, analysis: Analysis) -> Path:
    """Writes the page and returns where it is.

    Raises:
        ConfigError: it cannot be written.
    """
    path = plan.folder / "report.html"
    gallery = build_gallery(analysis, Line(plan.seed), cards_max=_CARDS_MAX)
    page = render_page(
        analysis.summary,
        headline(analysis.summary),
        timelines(analysis.records, analysis.samples, analysis.summary),
        gallery,
    )
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"Cannot write the report {path}: {error.strerror}", remedy="Choose another --out"
        ) from error
    return path


def render_page(
    summary: Mapping[str, Any],
    facts: Sequence[tuple[str, str]],
    charts: Mapping[str, str],
    gallery: Sequence[Any],
) -> str:
    """Fills the template."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reference_line", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    environment.filters["size"] = size
    environment.filters["duration"] = milliseconds
    return environment.get_template("report.html.j2").render(
        summary=summary,
        facts=facts,
        charts=charts,
        gallery=gallery,
        systems=[(key, title, _KINDS[key]) for key, title in SYSTEMS],
        labels=LABELS,
        view_px=VIEW_PX,
    )


def timelines(
    records: RunRecords, samples: Sequence[Sample], summary: Mapping[str, Any]
) -> dict[str, str]:
    """The charts, as SVG by name."""
    begun_ns = records.frames[0].captured_at_ns
    length_s = max(1.0, (records.frames[-1].captured_at_ns - begun_ns) / 1e9)
    return {
        "latency": _latency(records.frames, begun_ns, length_s, summary["deadline_s"]),
        "bytes": _bytes(samples, length_s, summary["uplink_budget_bytes_per_s"]),
        "escalations": _escalations(records, samples, begun_ns, length_s),
        "verdicts": _verdicts(records, begun_ns, length_s),
        "sizes": _sizes(summary),
        "classes": _classes(summary),
    }


def _latency(
    frames: Sequence[FrameRecord], begun_ns: int, length_s: float, deadline_s: float
) -> str:
    series: dict[str, list[tuple[float, float]]] = {"good": [], "coasted": [], "bad": []}
    kinds = {"on_time": "good", "coasted": "coasted"}
    for frame in frames:
        at_s = (frame.captured_at_ns - begun_ns) / 1e9
        series[kinds.get(frame.outcome, "bad")].append((at_s, frame.latency_s))
    top = max(deadline_s * 1.5, 0.001)
    words = f"deadline {deadline_s * 1000:g} ms"
    return scatter(
        series,
        x_max=length_s,
        y_max=top,
        label=_axis_words,
        limit=(deadline_s, words),
    )


def _axis_words(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _bytes(samples: Sequence[Sample], length_s: float, budget: float) -> str:
    columns = []
    for second in range(int(length_s) + 1):
        sent = _counter_at(samples, second + 1) - _counter_at(samples, second)
        columns.append([Bar("hybrid", sent, f"second {second}: {size(sent)}")])
    # The budget is drawn where it can be seen without flattening what was used of it.
    used = max((column[0].value for column in columns), default=0.0)
    limit = (budget, f"budget {size(budget)}/s") if budget < 4 * used else None
    top = nice_ceiling(max(used, budget if limit else 0.0) * 1.05)
    return bars_over_time(
        columns,
        step_s=1,
        x_max=length_s,
        y_max=top,
        label=size,
        limit=limit,
        height=_HALF_HEIGHT,
        width=_HALF_WIDTH,
    )


def _counter_at(samples: Sequence[Sample], at_s: float) -> float:
    """The bytes sent by then, between two samples by proportion."""
    before = Sample(0.0, {}, {}, 0, 0, {})
    for sample in samples:
        if sample.at_s >= at_s:
            share = (at_s - before.at_s) / max(1e-9, sample.at_s - before.at_s)
            return before.uplink_bytes + share * (sample.uplink_bytes - before.uplink_bytes)
        before = sample
    return float(before.uplink_bytes)


def _escalations(
    records: RunRecords, samples: Sequence[Sample], begun_ns: int, length_s: float
) -> str:
    seconds = int(length_s) + 1
    counts: list[Counter[str]] = [Counter() for _ in range(seconds)]
    for one in records.corrections:
        second = int((one.captured_at_ns - begun_ns) / 1e9)
        counts[min(max(0, second), seconds - 1)][one.effect] += 1
    previous: Mapping[str, int] = {}
    for sample in samples:
        outcomes = sample.escalation_outcomes
        second = min(int(sample.at_s), seconds - 1)
        counts[second]["unanswered"] += sum(
            outcomes.get(name, 0) - previous.get(name, 0) for name in _UNANSWERED
        )
        previous = outcomes
    kinds = (*(str(effect) for effect in Effect), "unanswered")
    columns = [
        [Bar(kind, count[kind], f"second {second}: {count[kind]} {kind}") for kind in kinds]
        for second, count in enumerate(counts)
    ]
    top = nice_ceiling(max(sum(bar.value for bar in column) for column in columns))
    return bars_over_time(
        columns, step_s=1, x_max=length_s, y_max=max(4.0, top), label=lambda count: f"{count:g}"
    )


def _verdicts(records: RunRecords, begun_ns: int, length_s: float) -> str:
    points = {
        one.escalation_id: ((one.captured_at_ns - begun_ns) / 1e9, one.verdict_latency_s)
        for one in records.corrections
    }
    top = nice_ceiling(max((latency for _, latency in points.values()), default=0.1))
    return scatter(
        {"hybrid": list(points.values())},
        x_max=length_s,
        y_max=top,
        label=_axis_words,
        height=_HALF_HEIGHT,
        width=_HALF_WIDTH,
    )


def _sizes(summary: Mapping[str, Any]) -> str:
    groups = []
    for position, first in enumerate(summary["edge_only"]["recall_by_size"]):
        low, high, there = first["low_px"], first["high_px"], first["defects"]
        span = f"over {low:g} px" if high is None else f"{low:g}-{high:g} px"
        name = f"under {high:g} px" if low == 0 else span
        bars = []
        for key, title in SYSTEMS:
            found = summary[key]["recall_by_size"][position]["found"]
            text = f"{title}: {found} of {there}"
            bars.append(Bar(_KINDS[key], found / max(1, there), text))
        groups.append((f"{name} ({there})", bars))
    return grouped_bars(groups)


def _classes(summary: Mapping[str, Any]) -> str:
    return grouped_bars(
        [
            (
                label.replace("_", " "),
                [
                    Bar(_KINDS[key], score["f1"], f"{title}: F1 {score['f1']:.2f}")
                    for key, title in SYSTEMS
                    for score in [summary[key]["classes"][label]]
                ],
            )
            for label in LABELS
        ],
        height=232.0,
        width=620.0,
    )
