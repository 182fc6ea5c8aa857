"""A replay as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from model_workshop.evaluation.figures import Estimate
from model_workshop.evaluation.terminal import open_console
from replay.figures import Curve, Replay

_KINDS = {"oracle": "cyan", "own": "bold green", "baseline": "default"}


def print_replay(replay: Replay, console: Console | None = None) -> None:
    """Prints what a replay found; shares of the gap in %, differences with their intervals."""
    console = console or open_console()
    for line in preamble(replay):
        console.print(line)
    for warning in warnings(replay):
        console.print(Text(f"!!! {warning}", style="bold yellow"))
    console.print(_recovered(replay))
    console.print(_utility(replay))
    console.print(_leads(replay))
    if replay.losses:
        console.print(_losses(replay))


def preamble(replay: Replay) -> list[str]:
    """What was replayed, in sentences."""
    material, dials = replay.material, replay.calibration
    judged = {
        "labels": "the labels",
        "cloud": "what the cloud reports of the frames as recorded: there are no labels",
    }
    frames = f"{material.name}: {material.frames} frames in {material.groups} groups"
    gap = f"gap {points(replay.gap)} ({interval(replay.gap)})"
    models = (
        f"Edge {replay.edge.name} {points(replay.utility_edge)}, cloud {replay.cloud.name} "
        f"{points(replay.utility_cloud)} points of mAP50-95"
    )
    where = f"{dials.name}, {dials.frames} frames" if dials else "other groups of the material"
    base = f"all frames as {replay.base_level}: {replay.base_bytes:,} bytes"
    return [
        f"{frames}, {material.objects} objects, judged by {judged[material.reference]}.",
        f"{models}; {gap}.",
        f"Dials are set on {where}; bytes are shares of {base}, headers and framing included.",
    ]


def warnings(replay: Replay) -> list[str]:
    """What a reader must know before believing the figures."""
    found = list(replay.notes)
    if (replay.gap.value or 0.0) < 0:
        found.append(
            "The cloud is worse than the edge here: asking harms. There are no shares of the gap."
        )
    elif replay.unstable:
        found.append(
            "The gap between edge and cloud is under 2 points: shares of it are unstable. "
            "Look at the utilities."
        )
    if replay.material.groups < 2:
        found.append(
            "All frames are one group, so there are no intervals: nothing says how far figures of "
            "other material would differ."
        )
    if replay.material.reference == "cloud":
        found.append("Judged by the cloud itself, which so has no faults here.")
    if replay.material.lost_frames:
        found.append(f"{replay.material.lost_frames} frames of the video did not decode.")
    return found


def points(one: Estimate) -> str:
    """A share in points, one decimal."""
    return "-" if one.value is None else f"{100 * one.value:.1f}"


def interval(one: Estimate) -> str:
    """The 95 % interval of a share, in points."""
    if one.low is None or one.high is None:
        return "no interval"
    return f"{100 * one.low:.1f} to {100 * one.high:.1f}"


def percent(share: float | None) -> str:
    """A share in percent, two significant digits."""
    return "-" if share is None else f"{100 * share:.2g} %"


def _recovered(replay: Replay) -> Table:
    table = Table(title="Gap recovered, % of the gap (bytes really sent, %), by budget")
    table.add_column("policy")
    for budget in replay.budgets:
        table.add_column(f"{100 * budget:g} %", justify="right")
    for name in ("area", "50 % at", "90 % at"):
        table.add_column(name, justify="right")
    for curve in ordered(replay.curves):
        cells = [
            f"{points(point.recovered)} ({100 * point.share:.1f})"
            for point in (curve.at(budget) for budget in replay.budgets)
        ]
        area = "-" if curve.area is None else f"{curve.area:.2f}"
        ends = percent(curve.share_for_half), percent(curve.share_for_most)
        table.add_row(curve.name, *cells, area, *ends, style=_KINDS[curve.kind])
    return table


def _utility(replay: Replay) -> Table:
    table = Table(title="mAP50-95, points (95 % interval), by budget")
    table.add_column("policy")
    for budget in replay.budgets:
        table.add_column(f"{100 * budget:g} %", justify="right")
    for curve in ordered(replay.curves):
        estimates = [curve.at(budget).map50_95 for budget in replay.budgets]
        cells = [f"{points(one)} ({_short(one)})" for one in estimates]
        table.add_row(curve.name, *cells, style=_KINDS[curve.kind])
    return table


def _short(one: Estimate) -> str:
    if one.low is None or one.high is None:
        return "-"
    return f"{100 * one.low:.0f}-{100 * one.high:.0f}"


def _leads(replay: Replay) -> Table:
    table = Table(title="Ours less the best baseline at the same bytes, paired (95 % interval)")
    for name in (
        "policy",
        "budget",
        "bytes",
        "best baseline",
        "gap recovered, points",
        "mAP50-95, points",
    ):
        table.add_column(name, justify="left" if name in {"policy", "best baseline"} else "right")
    for lead in replay.leads:
        table.add_row(
            lead.policy,
            f"{100 * lead.budget:g} %",
            f"{100 * lead.share:.1f} %",
            lead.rival,
            f"{points(lead.recovered)} ({interval(lead.recovered)})",
            f"{points(lead.map50_95)} ({interval(lead.map50_95)})",
        )
    return table


def _losses(replay: Replay) -> Table:
    table = Table(title="What is left undone, points of mAP50-95")
    for name in ("policy", "budget", "bytes", "by proposals", "by score"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for loss in replay.losses:
        table.add_row(
            loss.policy,
            f"{100 * loss.budget:g} %",
            f"{100 * loss.share:.1f} %",
            f"{100 * loss.proposals:.1f}",
            f"{100 * loss.score:.1f}",
        )
    return table


def ordered(curves: Sequence[Curve]) -> list[Curve]:
    """Oracles, ours, then baselines, the best area first."""
    rank = {"oracle": 0, "own": 1, "baseline": 2}
    return sorted(curves, key=lambda curve: (rank[curve.kind], -(curve.area or 0.0)))
