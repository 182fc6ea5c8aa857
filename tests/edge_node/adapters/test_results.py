"""JSON lines to files and pipes, fast and slow."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge_node.adapters.results import ResultWriter
from edge_node.config import ResultSettings
from edge_node.metrics import EdgeMetrics
from foundation.clock import SystemClock
from foundation.errors import ConfigError


def writer(path: Path | str, queue_max: int = 1024) -> tuple[ResultWriter, CollectorRegistry]:
    """A writer and the registry that counts what it drops."""
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry, "cam")
    settings = ResultSettings(path=str(path), queue_max=queue_max)
    return (
        ResultWriter(settings, metrics.results_dropped, metrics.stages["write"], SystemClock()),
        registry,
    )


def dropped(registry: CollectorRegistry) -> float:
    """edge_results_dropped_total."""
    return registry.get_sample_value("edge_results_dropped_total", {"camera": "cam"}) or 0.0


def test_records_are_lines_in_order(tmp_path: Path) -> None:
    """Complete when the writer has closed."""
    path = tmp_path / "r.jsonl"
    results, registry = writer(path)
    with results:
        for number in range(500):
            results.publish({"n": number})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == list(range(500))
    assert dropped(registry) == 0


def test_file_that_cannot_be_written_is_a_setting_to_correct(tmp_path: Path) -> None:
    """A folder that does not exist."""
    results, _ = writer(tmp_path / "nowhere" / "r.jsonl")
    with pytest.raises(ConfigError, match=r"results\.path"), results:
        pass


def test_reader_that_does_not_read_costs_records_not_time(tmp_path: Path) -> None:
    """A pipe that is full: publishing goes on, what does not fit is counted."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    opened: list[int] = []
    reader = threading.Thread(target=lambda: opened.append(os.open(path, os.O_RDONLY)))
    reader.start()
    results, registry = writer(path, queue_max=10)
    with results:
        reader.join(5.0)
        for number in range(2000):
            results.publish({"n": number, "text": "x" * 1000})
        assert dropped(registry) > 1000
        drain = threading.Thread(
            target=lambda: [None for _ in iter(lambda: os.read(opened[0], 65536), b"")]
        )
        drain.start()
    drain.join(5.0)
    os.close(opened[0])


def test_reader_that_is_gone_is_counted(tmp_path: Path) -> None:
    """A broken pipe ends neither the thread nor the process."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    opened: list[int] = []
    reader = threading.Thread(target=lambda: opened.append(os.open(path, os.O_RDONLY)))
    reader.start()
    results, registry = writer(path)
    with results:
        reader.join(5.0)
        os.close(opened[0])
        for number in range(100):
            results.publish({"n": number, "text": "x" * 1000})
    assert dropped(registry) > 0
