"""docs/metrics.md against what the edge node registers."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from edge_node.metrics import EdgeMetrics
from foundation.telemetry import register_process_metrics

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(edge_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def test_document_lists_every_metric_with_type_and_labels() -> None:
    """And no other."""
    registry = CollectorRegistry()
    register_process_metrics(registry, "edge")
    metrics = EdgeMetrics(registry, "cam")
    metrics.bundle_info.labels(camera="cam", model="m", version="1", digest="d").set(1)
    exposed = {}
    for family in registry.collect():
        if not family.name.startswith("edge_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = (family.type, labels)
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall(text)
    }
    assert documented == exposed
