"""Every expression of the dashboard returns data from a real Prometheus that scrapes the demo."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.prometheus import PrometheusServer

FIRST_DATA_S = 120.0


def expressions(repository: Path) -> list[str]:
    """The dashboard's expressions as Grafana would send them with every camera chosen."""
    text = (repository / "deploy" / "grafana" / "hardcase.json").read_text("utf-8")
    found = [
        target["expr"].replace("$camera", ".*").replace("$__rate_interval", "15s")
        for panel in json.loads(text)["panels"]
        for target in panel.get("targets", [])
    ]
    assert not any("$" in expression for expression in found)
    return found


@pytest.mark.slow
def test_every_expression_returns_data(
    repository: Path, scraping_prometheus: PrometheusServer
) -> None:
    """Each query of each panel yields at least one finite number while the line runs."""
    silent = set(expressions(repository))
    until = time.monotonic() + FIRST_DATA_S
    while silent and time.monotonic() < until:
        time.sleep(1)
        silent -= {expression for expression in silent if scraping_prometheus.query(expression)}
    assert not silent


@pytest.mark.slow
def test_both_services_are_scraped(scraping_prometheus: PrometheusServer) -> None:
    """Prometheus reaches both and finds nothing in their answers to complain of."""
    until = time.monotonic() + FIRST_DATA_S
    up: dict[str, str] = {}
    while set(up.values()) != {"1"} and time.monotonic() < until:
        time.sleep(0.5)
        up = {one["metric"]["job"]: one["value"][1] for one in scraping_prometheus.query("up")}
    assert up == {"edge": "1", "escalator": "1"}
