"""A replay as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from replay.charts import classes, frontier
from replay.figures import Curve, Replay
from replay.terminal import interval, ordered, percent, points, preamble, warnings

_STYLE = """
:root { color-scheme: light dark; --page: #f6f5f2; --card: #fff; --ink: #1d1f22; --soft: #686c73;
  --line: #e3e1dc; --own0: #0f8f73; --own1: #d1483f; --own2: #7a5bd0; }
@media (prefers-color-scheme: dark) { :root { --page: #14161a; --card: #1d2026; --ink: #e8e6e1;
  --soft: #9a9ea6; --line: #30343c; --own0: #34c3a0; --own1: #f0716a; --own2: #a68cf0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px; max-width: 1120px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 16px 20px; margin: 18px 0; overflow-x: auto; }
h1 { font-size: 24px; } h2 { font-size: 17px; margin: 0 0 8px; }
p.warning { border-left: 4px solid var(--own1); padding-left: 10px; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: 3px 8px; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } small { color: var(--soft); }
tr.own td { font-weight: 600; } tr.oracle td { font-style: italic; }
.chart { width: 100%; } .chart text { fill: var(--soft); font-size: 12px; }
.grid, .level { stroke: var(--line); fill: none; } .level { stroke: var(--soft); }
text.level { stroke: none; }
.curve { fill: none; stroke: currentColor; stroke-width: 1.5; }
.dot { fill: none; stroke: currentColor; stroke-width: 5; stroke-linecap: round; }
.whisker { fill: none; stroke: currentColor; stroke-width: 1; opacity: .55; }
.own .curve { stroke-width: 3; } .own .dot { stroke-width: 7; }
.oracle .curve { stroke-dasharray: 6 5; } .baseline { opacity: .85; }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  background: currentColor; vertical-align: -1px; }
.own.n0 { color: var(--own0); } .own.n1 { color: var(--own1); } .own.n2 { color: var(--own2); }
.oracle.n0 { color: #8a8f98; } .oracle.n1 { color: #b39b6d; }
.baseline.n0 { color: #5aa6ee; } .baseline.n1 { color: #d98a1f; } .baseline.n2 { color: #c2478f; }
.baseline.n3 { color: #8fa0bf; } .baseline.n4 { color: #6b8e23; } .baseline.n5 { color: #8a6d4b; }
.baseline.n6 { color: #4b9b9b; } .baseline.n7 { color: #b0b04a; } .baseline.n8 { color: #9a6fd0; }
.baseline.n9 { color: #d07070; } .baseline.n10 { color: #70a070; } .baseline.n11 { color: #7080d0; }
.baseline.n12 { color: #a0a0a0; }
"""


def render_page(replay: Replay) -> str:
    """The page."""
    curves = ordered(replay.curves)
    title = headline(replay)
    edge, cloud = replay.utility_edge.value or 0.0, replay.utility_cloud.value or 0.0
    ends = [(100 * edge, "edge alone"), (100 * cloud, "cloud on every frame")]
    sections = [
        _section(
            "Gap recovered",
            frontier(
                curves,
                lambda point: point.recovered,
                "gap between edge and cloud recovered, %",
                [(0.0, "edge alone"), (100.0, "cloud on every frame")],
            ),
        ),
        _section("Utility", frontier(curves, lambda point: point.map50_95, "mAP50-95", ends)),
        _section("By budget: gap recovered, % (bytes really sent, %)", _recovered(replay, curves)),
        _section("By budget: mAP50-95 (95 % interval), mAP50, F1", _utility(replay, curves)),
        _section("Ours less the best baseline at the same bytes, paired", _leads(replay)),
    ]
    if replay.losses:
        sections.append(_section("What is left undone, points of mAP50-95", _losses(replay)))
    sections.append(_section("The policies", _policies(curves)))
    said = "".join(f"<p>{escape(line)}</p>" for line in preamble(replay))
    loud = "".join(f'<p class="warning">{escape(line)}</p>' for line in warnings(replay))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{loud}{said}{''.join(sections)}</body></html>\n"
    )


def headline(replay: Replay) -> str:
    """What an operator wants to know first, in a sentence."""
    own = next(curve for curve in ordered(replay.curves) if curve.kind == "own")
    if replay.unstable or own.share_for_half is None:
        last = own.at(replay.budgets[-1])
        return (
            f"With {percent(last.share)} of the bytes {own.name} reaches {points(last.map50_95)} "
            f"points of mAP50-95; the edge alone {points(replay.utility_edge)}"
        )
    return (
        f"{own.name} recovers half of the gap between edge and cloud with "
        f"{percent(own.share_for_half)} of the bytes"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table of cells that are HTML already; each row with its class."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        f'<tr class="{kind}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for kind, cells in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _names(curves: Sequence[Curve]) -> list[str]:
    return [
        f'<span class="key {kind} n{number}"></span>{escape(curve.name)}'
        for (kind, number), curve in zip(classes(curves), curves, strict=True)
    ]


def _budgets(replay: Replay) -> list[str]:
    return [f"{100 * budget:g} %" for budget in replay.budgets]


def _recovered(replay: Replay, curves: Sequence[Curve]) -> str:
    rows = []
    for name, curve in zip(_names(curves), curves, strict=True):
        cells = [
            f"{points(point.recovered)} <small>({100 * point.share:.1f})</small>"
            for point in map(curve.at, replay.budgets)
        ]
        area = "-" if curve.area is None else f"{curve.area:.3f}"
        ends = [percent(curve.share_for_half), percent(curve.share_for_most)]
        rows.append((curve.kind, [name, *cells, area, *ends]))
    heads = ["policy", *_budgets(replay), "area (APGR)", "bytes for 50 %", "bytes for 90 %"]
    return _table(heads, rows)


def _utility(replay: Replay, curves: Sequence[Curve]) -> str:
    rows = []
    for name, curve in zip(_names(curves), curves, strict=True):
        cells = [
            f"{points(point.map50_95)} <small>({interval(point.map50_95)})<br>"
            f"{100 * point.map50:.1f}, {100 * point.f1:.1f}</small>"
            for point in map(curve.at, replay.budgets)
        ]
        rows.append((curve.kind, [name, *cells]))
    return _table(["policy", *_budgets(replay)], rows)


def _leads(replay: Replay) -> str:
    rows = [
        (
            "lead",
            [
                escape(lead.policy),
                f"{100 * lead.budget:g} %",
                f"{100 * lead.share:.1f} %",
                escape(lead.rival),
                f"{points(lead.recovered)} <small>({interval(lead.recovered)})</small>",
                f"{points(lead.map50_95)} <small>({interval(lead.map50_95)})</small>",
            ],
        )
        for lead in replay.leads
    ]
    quantities = ["gap recovered, points", "mAP50-95, points"]
    return _table(["policy", "budget", "bytes", "best baseline", *quantities], rows)


def _losses(replay: Replay) -> str:
    rows = [
        (
            "loss",
            [
                escape(loss.policy),
                f"{100 * loss.budget:g} %",
                f"{100 * loss.share:.1f} %",
                f"{100 * loss.proposals:.1f}",
                f"{100 * loss.score:.1f}",
            ],
        )
        for loss in replay.losses
    ]
    return _table(["policy", "budget", "bytes", "by proposals", "by score"], rows)


def _policies(curves: Sequence[Curve]) -> str:
    rows = [
        (curve.kind, [name, escape(curve.about)])
        for name, curve in zip(_names(curves), curves, strict=True)
    ]
    return _table(["policy", "what it does"], rows)
