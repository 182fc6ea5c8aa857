"""What the demo shows in a terminal: the run while it lasts, and the table at its end.

Where standard output is no terminal the live view becomes a plain line every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reference_line.live import ResultsTail, Sample, quantiles
from reference_line.truth import LABELS

SYSTEMS = (
    ("edge_only", "edge alone"),
    ("hybrid", "with escalation"),
    ("cloud_only", "cloud on every proposal"),
)
_NAME_WIDTH = 21
_GROUP_WIDTH = 20
_PLAIN_EVERY_S = 5.0
_OUTCOMES = ("on_time", "late", "coasted", "dropped", "failed")
_EFFECTS = ("confirmed", "reclassified", "refuted", "added", "undecided")


class LiveView:
    """Shows a run; opened with `with`, told the news a few times a second.

    Args:
        console: where to.
        duration_s: how long the run lasts.
        deadline_s: of a frame.
        jpeg_bytes: of a typical whole frame.
    """

    def __init__(
        self, console: Console, *, duration_s: float, deadline_s: float, jpeg_bytes: int
    ) -> None:
        self._console = console
        self._duration_s = duration_s
        self._deadline_s = deadline_s
        self._jpeg_bytes = jpeg_bytes
        self._live: Live | None = None
        self._plain_at = time.monotonic() + _PLAIN_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, elapsed_s: float, tail: ResultsTail, sample: Sample | None) -> None:
        """Draws the present state."""
        facts = self._facts(tail, sample)
        if self._live is not None:
            self._live.update(self._panel(elapsed_s, facts), refresh=True)
        elif time.monotonic() >= self._plain_at:
            self._plain_at += _PLAIN_EVERY_S
            words = " | ".join(f"{name}: {text}" for name, text in facts.items())
            self._console.print(f"{elapsed_s:5.0f} s | {words}", soft_wrap=True, highlight=False)

    def _panel(self, elapsed_s: float, facts: Mapping[str, str]) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold")
        grid.add_column()
        for name, text in facts.items():
            grid.add_row(name, text)
        bar = ProgressBar(total=self._duration_s, completed=min(elapsed_s, self._duration_s))
        return Panel(
            Group(grid, bar),
            title="Hardcase on the reference line",
            subtitle=f"{elapsed_s:.0f} of {self._duration_s:.0f} s; Ctrl-C ends it early",
            width=96,
        )

    def _facts(self, tail: ResultsTail, sample: Sample | None) -> dict[str, str]:
        captured = sum(tail.frames.values())
        latency = quantiles(tail.latencies_s, 0.5, 0.99)
        verdict = quantiles(list(tail.verdicts_s.values()), 0.5, 0.95)
        facts = {"frames": f"{counted(tail.frames, _OUTCOMES)} of {captured}"}
        if captured:
            hits = tail.frames.get("on_time", 0) / captured
            facts["deadline"] = f"{hits:.2%} within {milliseconds(self._deadline_s)}"
        if latency:
            facts["latency"] = f"p50 {milliseconds(latency['p50'])}, p99 " + milliseconds(
                latency["p99"]
            )
        if sample is not None and self._jpeg_bytes:
            ended = sample.escalation_outcomes
            waiting = f", {sample.waiting} under way" if sample.waiting else ""
            facts["escalations"] = (counted(ended, tuple(ended)) or "none yet") + waiting
            whole = max(1, captured * self._jpeg_bytes)
            facts["sent"] = (
                f"{size(sample.uplink_bytes)}; every frame as JPEG would be about {size(whole)}"
            )
        if tail.effects:
            facts["verdicts"] = counted(tail.effects, _EFFECTS)
        if verdict:
            facts["verdict after"] = (
                f"p50 {milliseconds(verdict['p50'])}, p95 {milliseconds(verdict['p95'])}"
            )
        return facts


def counted(counts: Mapping[str, int], names: tuple[str, ...]) -> str:
    """Counts in words, zeros left out."""
    return ", ".join(
        f"{counts[name]} {name.replace('_', ' ')}" for name in names if counts.get(name)
    )


def milliseconds(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def size(count: float) -> str:
    """A number of bytes in words, decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def print_result(console: Console, summary: Mapping[str, Any]) -> None:
    """Prints the table and the headline figures of a finished run."""
    names = [title for _, title in SYSTEMS]
    rows = [
        (
            label.replace("_", " "),
            "".join(_ratios(summary[key]["classes"][label]) for key, _ in SYSTEMS),
        )
        for label in LABELS
    ]
    rows.append(("all classes", "".join(_ratios(summary[key]) for key, _ in SYSTEMS)))
    lines = [
        f"{'per physical defect':{_NAME_WIDTH}}"
        + "".join(f"{name:{_GROUP_WIDTH}}" for name in names).rstrip(),
        f"{'':{_NAME_WIDTH}}" + (f"{'P':6}{'R':6}{'F1':8}" * len(names)).rstrip(),
    ]
    console.print()
    for position, text in enumerate(lines):
        console.print(Text(text, style="bold" if position == 0 else "dim"), soft_wrap=True)
    for name, cells in rows:
        style = "bold" if name == "all classes" else ""
        console.print(Text(f"{name:{_NAME_WIDTH}}{cells}".rstrip(), style=style), soft_wrap=True)
    console.print()
    facts = Table.grid(padding=(0, 2))
    for name, text in headline(summary):
        facts.add_row(name, text)
    console.print(facts)
    if note := busy_note(summary):
        console.print(note, style="yellow")


def busy_note(summary: Mapping[str, Any]) -> str:
    """What to make of missed deadlines on a machine that had other work; empty when it had none."""
    machine = summary["machine"]
    busy = machine["load_average_before"] > 0.5 * machine["cpus"]
    if not busy or summary["deadline_hit_share"] >= 0.99:
        return ""
    return (
        f"Other programs kept this machine busy when the demo began (load "
        f"{machine['load_average_before']:g} on {machine['cpus']} CPUs): missed deadlines say "
        "little about the edge node."
    )


def headline(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures beside the table, as names and words."""
    frames = summary["frames"]
    captured = sum(frames.values())
    latency, verdict = summary["frame_latency_s"], summary["verdict_latency_s"]
    escalations = summary["escalations"]
    sent, whole = summary["uplink_bytes"], summary["all_frames_jpeg_bytes"]
    lines = [
        ("defects judged", f"{summary['defects']} on {captured} frames"),
        (
            "deadline hits",
            (
                f"{summary['deadline_hit_share']:.2%} of the frames published within "
                f"{milliseconds(summary['deadline_s'])} ({counted(frames, _OUTCOMES)})"
            ),
        ),
        ("frame latency", _quantile_words(latency)),
        (
            "bytes sent",
            f"{size(sent)}; every frame as JPEG {size(whole)} ({sent / max(1, whole):.2%})",
        ),
        (
            "escalations",
            counted(escalations["by_outcome"], tuple(escalations["by_outcome"])) or "none",
        ),
        ("verdicts", counted(summary["verdicts"], _EFFECTS) or "none"),
        ("time to verdict", _quantile_words(verdict)),
    ]
    if summary["gap_recovered"] is not None:
        share = f"{summary['gap_recovered']:.0%} of the F1 between edge and cloud"
        lines.append(("gap recovered", share))
    return lines


def _quantile_words(quantities: Mapping[str, float | None]) -> str:
    words = [f"{name} {milliseconds(s)}" for name, s in quantities.items() if s is not None]
    return ", ".join(words) or "none"


def _ratios(score: Mapping[str, float]) -> str:
    return f"{score['precision']:<6.2f}{score['recall']:<6.2f}{score['f1']:<8.2f}"
