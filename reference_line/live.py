"""What can be seen of a run while it lasts: counters from /metrics and the growing results file."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from reference_line.records import CorrectionRecord, FrameRecord, parse_record

_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The edge node's counters at one time.

    Attributes:
        at_s: seconds since the start of the run.
        frames: by outcome.
        escalations: by reason and outcome; those that have ended.
        waiting: escalations that have not ended.
        uplink_bytes: sent so far.
        verdicts: corrections by effect.
    """

    at_s: float
    frames: Mapping[str, int]
    escalations: Mapping[tuple[str, str], int]
    waiting: int
    uplink_bytes: int
    verdicts: Mapping[str, int]

    @property
    def escalation_outcomes(self) -> dict[str, int]:
        """Escalations by outcome alone."""
        return _sum_by(self.escalations, 1)

    @property
    def escalation_reasons(self) -> dict[str, int]:
        """Escalations by reason alone."""
        return _sum_by(self.escalations, 0)


def _sum_by(counts: Mapping[tuple[str, str], int], position: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for key, count in counts.items():
        sums[key[position]] = sums.get(key[position], 0) + count
    return sums


def parse_sample(text: str, at_s: float) -> Sample:
    """Reads the text of an edge node's /metrics."""
    frames: dict[str, int] = {}
    verdicts: dict[str, int] = {}
    escalations: dict[tuple[str, str], int] = {}
    uplink_bytes = waiting = 0
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            match one.name:
                case "edge_frames_total":
                    frames[one.labels["outcome"]] = int(one.value)
                case "edge_verdicts_total":
                    verdicts[one.labels["effect"]] = int(one.value)
                case "edge_escalations_total":
                    escalations[one.labels["reason"], one.labels["outcome"]] = int(one.value)
                case "edge_uplink_bytes_total":
                    uplink_bytes = int(one.value)
                case "edge_fresh_escalations":
                    waiting = int(one.value)
    return Sample(at_s, frames, escalations, waiting, uplink_bytes, verdicts)


class Scraper:
    """Reads one edge node's metrics; the clock starts with the object."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"
        self._begun_at = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the object was made."""
        return time.monotonic() - self._begun_at

    def scrape(self) -> Sample | None:
        """The counters now; None when nobody answers (any more)."""
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT_S) as reply:  # noqa: S310
                text = reply.read().decode("utf-8")
        except (urllib.error.URLError, OSError):
            return None
        return parse_sample(text, self.elapsed_s)


@dataclass(slots=True)
class ResultsTail:
    """Follows a results file as it grows and keeps what the live view shows.

    Attributes:
        latencies_s: of the frames that were published with tracks.
        verdicts_s: of the verdicts.
        frames: by outcome.
        effects: corrections by effect.
    """

    path: Path
    latencies_s: list[float] = field(default_factory=list)
    verdicts_s: dict[str, float] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    effects: dict[str, int] = field(default_factory=dict)
    _offset: int = 0

    def follow(self) -> None:
        """Reads what has been written since; an unfinished last line waits for the next time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("utf-8").splitlines():
            self._take(line)

    def _take(self, line: str) -> None:
        match parse_record(line):
            case FrameRecord() as frame:
                self.frames[frame.outcome] = self.frames.get(frame.outcome, 0) + 1
                if frame.outcome in ("on_time", "late", "coasted"):
                    self.latencies_s.append(frame.latency_s)
            case CorrectionRecord() as correction:
                self.effects[correction.effect] = self.effects.get(correction.effect, 0) + 1
                self.verdicts_s[correction.escalation_id] = correction.verdict_latency_s


def quantiles(values_s: list[float], *shares: float) -> dict[str, float]:
    """Quantiles of durations by name (`p50` for 0.5); without values there are none."""
    if not values_s:
        return {}
    found = np.quantile(np.array(values_s), shares)
    return {f"p{share * 100:g}": round(float(q), 6) for share, q in zip(shares, found, strict=True)}
