"""The Grafana dashboard as a document: what a person needs in order to read it is there."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

Panel = dict[str, Any]
HISTOGRAM = re.compile(r"histogram_quantile\([\d.]+, sum by \(le(?:, \w+)*\) \(rate\(\w+_bucket")


@pytest.fixture
def dashboard(repository: Path) -> dict[str, Any]:
    """The dashboard."""
    text = (repository / "deploy" / "grafana" / "hardcase.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.fixture
def panels(dashboard: dict[str, Any]) -> list[Panel]:
    """The panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_every_panel_explains_itself(panels: list[Panel]) -> None:
    """Each panel has a title, a sentence and a unit."""
    for panel in panels:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


def test_identifiers_are_unique(dashboard: dict[str, Any]) -> None:
    """No two panels share a number, and no two queries of a panel a letter."""
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters)


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Every panel has its own place on the 24 columns."""
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        own = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not own & cells, panel["title"]
        cells |= own


def test_queries_follow_the_choices(dashboard: dict[str, Any], panels: list[Panel]) -> None:
    """Every query uses the chosen data source, and every one of the edge the chosen camera."""
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {
        "datasource",
        "camera",
    }
    for panel in panels:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            if "edge_" in target["expr"] and "_info" not in target["expr"]:
                assert 'camera=~"$camera"' in target["expr"], target["expr"]


def test_counters_are_read_as_rates(panels: list[Panel]) -> None:
    """A counter is never plotted bare, and a percentile is taken over buckets summed by le."""
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"]
            for metric in re.findall(r"\w+_(?:total|bucket|sum|count)\b", expression):
                assert f"rate({metric}" in expression, expression
            if "histogram_quantile" in expression:
                assert HISTOGRAM.match(expression), expression
