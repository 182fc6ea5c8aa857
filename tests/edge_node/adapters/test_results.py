"""JSON lines to files and pipes, fast and slow."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge_node.adapters.results import ResultWriter, read_ends
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


def test_file_is_continued_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """What power loss left of a line is not half a record in the middle of the file."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"n":0}\n{"n":1}\n{"n":')
    results, _ = writer(path)
    with results:
        results.publish({"n": 2})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2]


def test_end_is_published_once_it_can_be_read(tmp_path: Path) -> None:
    """The callback comes after the lines, however full the queue is."""
    path = tmp_path / "r.jsonl"
    results, registry = writer(path, queue_max=1)
    seen: list[list[str]] = []
    with results:
        for number in range(50):
            end = {"type": "escalation", "escalation_id": str(number)}
            results.publish_end([{"n": number}, end], lambda: seen.append(lines_of(path)))
    assert len(seen) == 50
    assert all(len(lines) >= 2 * (number + 1) for number, lines in enumerate(seen))
    assert len(lines_of(path)) == 100
    assert dropped(registry) == 0


def lines_of(path: Path) -> list[str]:
    """Complete lines."""
    return path.read_text().splitlines()


def test_full_disk_keeps_ends_until_there_is_room(tmp_path: Path) -> None:
    """Lines are dropped and counted; ends are tried again; no line is written in part."""
    path = tmp_path / "r.jsonl"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    results, registry = writer(path)
    published = threading.Event()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        with results:
            results.publish({"text": "x" * 2000})
            end = {"type": "escalation", "escalation_id": "a", "text": "y" * 2000}
            results.publish_end([end], published.set)
            assert not published.wait(0.5)
            assert path.read_bytes() == b""
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            assert published.wait(10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert [json.loads(line)["escalation_id"] for line in lines_of(path)] == ["a"]
    assert dropped(registry) == 1


def test_ends_are_read_back_from_the_file(tmp_path: Path) -> None:
    """The ids of what is closed, and nothing else; of standard output nothing is known."""
    path = tmp_path / "r.jsonl"
    end = {"type": "escalation", "escalation_id": "a", "outcome": "answered", "cause": ""}
    lines = [{"type": "frame"}, {"type": "correction", "escalation_id": "b"}, end]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.write_text(text + '{"type":"escalation","escal')
    assert read_ends(str(path)) == {"a": ("answered", "")}
    assert read_ends("-") == read_ends(str(tmp_path / "absent")) == {}
