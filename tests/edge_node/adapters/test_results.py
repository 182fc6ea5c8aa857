"""JSON lines to files and pipes, fast and slow."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge_node.adapters.results import ResultWriter, read_ends
from edge_node.config import ResultSettings
from edge_node.metrics import EdgeMetrics
from foundation.clock import Clock, SystemClock
from foundation.errors import ConfigError
from tests.support.clock import ManualClock


def writer(
    path: Path | str, clock: Clock | None = None, **limits: int
) -> tuple[ResultWriter, CollectorRegistry]:
    """A writer and the registry that counts what it drops."""
    registry = CollectorRegistry()
    metrics = EdgeMetrics(registry, "cam")
    settings = ResultSettings.model_validate({"path": str(path), **limits})
    return (
        ResultWriter(
            settings,
            metrics.results_dropped,
            metrics.stages["write"],
            clock or SystemClock(),
            lambda error: pytest.fail(repr(error)),
        ),
        registry,
    )


def dropped(registry: CollectorRegistry) -> float:
    """edge_results_dropped_total."""
    return registry.get_sample_value("edge_results_dropped_total", {"camera": "cam"}) or 0.0


def wait_until_written(registry: CollectorRegistry, count: int) -> None:
    """Until the thread has done with so many items."""
    labels = {"camera": "cam", "stage": "write"}
    deadline = time.monotonic() + 10.0
    while (registry.get_sample_value("edge_stage_seconds_count", labels) or 0) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_records_are_lines_in_order(tmp_path: Path) -> None:
    """Complete when the writer has closed."""
    path = tmp_path / "r.jsonl"
    results, registry = writer(path)
    with results:
        for number in range(500):
            results.publish({"type": "n", "n": number})
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
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or it would wait for the writer
    os.set_blocking(reader, True)
    results, registry = writer(path, queue_max=10)
    with results:
        for number in range(2000):
            results.publish({"type": "n", "n": number, "text": "x" * 1000})
        assert dropped(registry) > 1000
        drain = threading.Thread(
            target=lambda: [None for _ in iter(lambda: os.read(reader, 65536), b"")]
        )
        drain.start()
    drain.join(5.0)
    os.close(reader)


def test_reader_that_is_gone_is_counted(tmp_path: Path) -> None:
    """A broken pipe ends neither the thread nor the process."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or it would wait for the writer
    results, registry = writer(path)
    with results:
        os.close(reader)
        for number in range(100):
            results.publish({"type": "n", "n": number, "text": "x" * 1000})
    assert dropped(registry) > 0


def test_file_is_continued_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """What power loss left of a line is not half a record in the middle of the file."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"type":"n","n":0}\n{"type":"n","n":1}\n{"type":"n","n":')
    results, _ = writer(path)
    with results:
        results.publish({"type": "n", "n": 2})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"precious\nand unfinished",
        b"\0\0\0\x20ftypisom and\nso on",
        b'{"images":[],"annotations":[]}',
        b'{\n  "a": 1\n}',
    ],
    ids=["text", "MP4", "JSON", "JSON in lines"],
)
def test_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """Its end is no torn line."""
    path = tmp_path / "precious"
    path.write_bytes(content)
    results, _ = writer(path)
    with pytest.raises(ConfigError, match="something else than results"), results:
        pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("left", [b"", b'{"ty', b"\0" * 5000, b'\0\0{"type":"frame","sch'])
def test_first_record_that_was_torn_is_cut_off(tmp_path: Path, left: bytes) -> None:
    """Power loss leaves the beginning of one, zeros, or both."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(left)
    results, _ = writer(path)
    with results:
        results.publish({"type": "n", "n": 2})
    assert path.read_text() == '{"type":"n","n":2}\n'


def test_end_is_published_once_it_can_be_read(tmp_path: Path) -> None:
    """The callback comes after the lines, however full the queue is."""
    path = tmp_path / "r.jsonl"
    results, registry = writer(path, queue_max=1)
    seen: list[list[str]] = []
    with results:
        for number in range(50):
            end = {"type": "escalation", "escalation_id": str(number)}
            results.publish_end(
                [{"type": "n", "n": number}, end], lambda: seen.append(lines_of(path))
            )
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


def write_numbers(path: Path, numbers: range, **limits: int) -> None:
    """One record for each number, each written by itself."""
    results, registry = writer(path, None, **limits)
    with results:
        for number in numbers:
            written = threading.Event()
            results.publish_end([{"type": "n", "n": number}], written.set)
            assert written.wait(10.0)
    assert dropped(registry) == 0


def numbers_in(path: Path) -> list[int]:
    """What `write_numbers` wrote there."""
    return [json.loads(line)["n"] for line in lines_of(path)]


def test_full_file_is_set_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    """Each holds whole lines in their order; no more are kept than are allowed."""
    path = tmp_path / "r.jsonl"
    write_numbers(path, range(10, 30), file_bytes_max=3 * len('{"type":"n","n":10}\n'), files_max=3)
    names = ["r.jsonl.2", "r.jsonl.1", "r.jsonl"]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    assert [numbers_in(tmp_path / name) for name in names] == [
        [22, 23, 24],
        [25, 26, 27],
        [28, 29],
    ]


def test_full_file_stays_where_it_is_not_bounded(tmp_path: Path) -> None:
    """As it is by default."""
    write_numbers(tmp_path / "r.jsonl", range(100))
    assert numbers_in(tmp_path / "r.jsonl") == list(range(100))


def test_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    """As logrotate moves it, and as someone deletes it: what comes next is at the path again."""
    path, aside = tmp_path / "r.jsonl", tmp_path / "r.jsonl-20261126"
    results, registry = writer(path)

    def write(number: int) -> None:
        written = threading.Event()
        results.publish_end([{"type": "n", "n": number}], written.set)
        assert written.wait(10.0)

    with results:
        write(0)
        path.rename(aside)
        write(1)
        assert (numbers_in(aside), numbers_in(path)) == ([0], [1])
        path.unlink()
        write(2)
    assert numbers_in(path) == [2]
    assert dropped(registry) == 0


def test_ends_are_read_back_from_what_was_set_aside_last(tmp_path: Path) -> None:
    """A node that was killed right after setting a file aside still knows what it had written."""
    path = tmp_path / "r.jsonl"
    for name, age in (("r.jsonl.2", 200), ("r.jsonl.1", 100), ("r.jsonl", 0)):
        end = {"type": "escalation", "escalation_id": name, "outcome": "answered", "cause": ""}
        (tmp_path / name).write_text(json.dumps(end, separators=(",", ":")) + "\n")
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "r.jsonline").write_text("another's")
    (tmp_path / "r.jsonl.gz").symlink_to(tmp_path / "nowhere")
    assert set(read_ends(str(path))) == {"r.jsonl", "r.jsonl.1", "r.jsonl.2"}
    path.unlink()
    assert set(read_ends(str(path))) == {"r.jsonl.1", "r.jsonl.2"}


def test_many_ends_at_once_are_all_written(tmp_path: Path) -> None:
    """More than is kept while a disk takes nothing, as when a whole spool has become too old."""
    path = tmp_path / "r.jsonl"
    results, registry = writer(path)
    published: list[int] = []
    with results:
        for number in range(3000):
            end = {"escalation_id": str(number), "text": "y" * 3000}
            results.publish_end([end], partial(published.append, number))
    assert published == list(range(3000))
    assert len(lines_of(path)) == 3000
    assert dropped(registry) == 0


def test_nothing_but_the_full_file_is_set_aside(tmp_path: Path) -> None:
    """Not an empty one that logrotate has put in its place; and a gap in the numbers is filled."""
    path = tmp_path / "r.jsonl"
    (tmp_path / "r.jsonl.2").write_text("kept\n")
    results, registry = writer(path, None, file_bytes_max=9, files_max=4)

    def write(number: int) -> None:
        written = threading.Event()
        results.publish_end([{"type": "n", "n": number}], written.set)
        assert written.wait(10.0)

    with results:
        write(10)
        path.rename(tmp_path / "r.jsonl-20261126")
        path.touch()
        write(11)
        write(12)
    names = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert names == {
        "r.jsonl": '{"type":"n","n":12}\n',
        "r.jsonl.1": '{"type":"n","n":11}\n',
        "r.jsonl.2": "kept\n",
        "r.jsonl-20261126": '{"type":"n","n":10}\n',
    }
    assert dropped(registry) == 0


def test_link_stays_and_its_file_is_set_aside(tmp_path: Path) -> None:
    """On the disk that the link leads to."""
    (tmp_path / "data").mkdir()
    link = tmp_path / "r.jsonl"
    link.symlink_to(tmp_path / "data" / "real.jsonl")
    write_numbers(link, range(10, 13), file_bytes_max=9, files_max=2)
    assert link.is_symlink()
    assert numbers_in(link) == [12]
    assert numbers_in(tmp_path / "data" / "real.jsonl.1") == [11]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may rename in any folder")
def test_file_that_cannot_be_set_aside_grows_on(tmp_path: Path) -> None:
    """A folder that is not this user's: better too large than lost."""
    path = tmp_path / "r.jsonl"
    path.touch()
    tmp_path.chmod(0o555)
    try:
        write_numbers(path, range(10, 20), file_bytes_max=9, files_max=2)
    finally:
        tmp_path.chmod(0o755)
    assert numbers_in(path) == list(range(10, 20))


def test_ends_that_no_disk_takes_are_bounded(tmp_path: Path) -> None:
    """The oldest goes, counted, and the spool hears of it: it would hold the crop for ever."""
    results, registry = writer("/dev/full")
    published: list[int] = []
    with results:
        for number in range(20):
            end = {"escalation_id": str(number), "text": "y" * (1 << 20)}
            results.publish_end([end], partial(published.append, number))
    assert published == list(range(17))
    assert dropped(registry) == 17


def test_ends_are_tried_again_after_a_while_and_not_with_every_record(tmp_path: Path) -> None:
    """What waits may be much."""
    path, clock = tmp_path / "r.jsonl", ManualClock()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    results, registry = writer(path, clock)
    published = threading.Event()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        with results:
            results.publish_end([{"text": "y" * 2000}], published.set)
            wait_until_written(registry, 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            results.publish({"type": "n", "n": 1})
            wait_until_written(registry, 2)
            assert not published.is_set()
            clock.advance_s(2.0)
            results.publish({"type": "n", "n": 2})
            assert published.wait(10.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert [len(line) > 2000 for line in lines_of(path)] == [False, False, True]
