"""docs/metrics.md says exactly what the running processes expose, no more and no less."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.conftest import RunningDemo

LABELS_SHOWN_S = 60.0
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", re.MULTILINE)
OWN = ("edge_", "escalator_")
RARE = {"edge_escalation_failures_total", "edge_uplink_errors_total", "edge_verdicts_ignored_total"}
"""Counters of failures, whose labels show only once something has failed."""


class Described(NamedTuple):
    """A metric as a person is told of it: its type, and the names of its labels."""

    kind: str
    labels: frozenset[str]


def documented(repository: Path) -> dict[str, Described]:
    """The rows of the document's tables, by the metric's name."""
    text = (repository / "docs" / "metrics.md").read_text("utf-8")
    return {
        name: Described(kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(text)
    }


def exposed(text: str) -> dict[str, Described]:
    """The service's own metrics in an answer of /metrics, by the name that a query uses."""
    found = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(OWN):
            continue
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        found[name] = Described(family.type, frozenset(labels))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("service", ["edge", "escalator"])
def test_document_is_what_is_exposed(
    repository: Path, running_demo: RunningDemo, service: str
) -> None:
    """Names, types and labels agree in both directions."""
    told = {
        name: one for name, one in documented(repository).items() if name.startswith(f"{service}_")
    }
    until = time.monotonic() + LABELS_SHOWN_S
    while True:
        shown = exposed(running_demo.metrics(getattr(running_demo, service)))
        hushed = {name for name in RARE if name in shown and not shown[name].labels}
        shown |= {name: told[name] for name in hushed if name in told}
        # Escalations have labels from the first one on, which takes a board to come by.
        if shown == told or time.monotonic() > until:
            break
        time.sleep(1)
    assert shown == told


def test_document_of_both_services_is_read(repository: Path) -> None:
    """The tables are found: a change of their form must not make the comparison empty."""
    names = documented(repository)
    assert {"edge_frames_total", "escalator_requests_total"} <= names.keys()
    assert names["edge_frames_total"] == Described("counter", frozenset({"camera", "outcome"}))


def test_deployment_names_only_documented_metrics(repository: Path) -> None:
    """Dashboard and scrape configuration speak of no metric that does not exist."""
    names = set(documented(repository))
    for path in [
        *(repository / "deploy").glob("grafana/*"),
        *(repository / "deploy").glob("prometheus/*"),
    ]:
        for metric in re.findall(r"\b(?:edge|escalator)_[a-z_]+", path.read_text("utf-8")):
            base = re.sub(r"_(bucket|sum|count)$", "", metric)
            assert base in names, f"{path.name}: {metric}"
