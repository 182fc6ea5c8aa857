"""The ledger of what has left the site, on a real disk."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
from pathlib import Path

import pytest

from edge_node.__main__ import main
from edge_node.adapters.egress_ledger import FileLedger, find_breaks, read_ledger
from foundation.errors import ConfigError, TransientError
from tests.edge_node.escalations import escalation
from tests.support.clock import ManualClock

DAY_S = 86_400.0


def write(folder: Path, *ids: str, clock: ManualClock | None = None) -> ManualClock:
    """Enters crops, as one run of an edge node does."""
    clock = clock or ManualClock()
    with FileLedger(folder, "cloud:7443", clock) as ledger:
        for id_ in ids:
            ledger.enter(escalation(id_))
    return clock


def test_entries_say_what_left_when_where_and_why(tmp_path: Path) -> None:
    """With the hash of the very bytes."""
    clock = write(tmp_path, "a")
    [(_, entry)] = read_ledger(tmp_path)
    image = escalation("a").image
    assert entry["escalation_id"] == "a"
    assert entry["at_ns"] == clock.now_ns()
    assert (entry["site"], entry["camera"], entry["destination"]) == ("site", "cam", "cloud:7443")
    assert (entry["reason"], entry["region"], entry["frame"]) == (
        "uncertain",
        [0, 0, 64, 48],
        [64, 48],
    )
    assert entry["image_bytes"] == len(image)
    assert entry["image_sha256"] == hashlib.sha256(image).hexdigest()


def test_chain_runs_through_runs_and_days(tmp_path: Path) -> None:
    """One file a day; the check says how many there are."""
    clock = write(tmp_path, "a", "b")
    write(tmp_path, "c", clock=clock)
    clock.advance_s(DAY_S)
    write(tmp_path, "d", clock=clock)
    assert len(list(tmp_path.glob("egress-*.jsonl"))) == 2
    [summary] = find_breaks(tmp_path)
    assert summary.startswith("4 entries, 0 breaks")


@pytest.mark.parametrize("change", ["edit", "remove", "insert", "swap"])
def test_whatever_is_changed_breaks_the_chain(tmp_path: Path, change: str) -> None:
    """At the line after it."""
    write(tmp_path, "a", "b", "c", "d")
    [path] = tmp_path.glob("*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    if change == "edit":
        lines[1] = lines[1].replace('"uncertain"', '"audit"')
    elif change == "remove":
        del lines[1]
    elif change == "insert":
        lines.insert(1, lines[0])
    else:
        lines[1], lines[2] = lines[2], lines[1]
    path.write_text("".join(lines))
    found = list(find_breaks(tmp_path))
    assert len(found) >= 2
    assert "what stands before it" in found[0]


def test_torn_last_line_is_cut_off_and_the_chain_goes_on(tmp_path: Path) -> None:
    """Power was lost while it was written, so its crop had not left."""
    clock = write(tmp_path, "a", "b")
    [path] = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"previous":"12')
    write(tmp_path, "c", clock=clock)
    assert [entry["escalation_id"] for _, entry in read_ledger(tmp_path)] == ["a", "b", "c"]
    assert len(list(find_breaks(tmp_path))) == 1


def test_full_disk_lets_nothing_leave_until_there_is_room(tmp_path: Path) -> None:
    """The error says so; nothing is written in part."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with FileLedger(tmp_path, "cloud:7443", ManualClock()) as ledger:
            ledger.enter(escalation("a"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, limit[1]))
            with pytest.raises(TransientError, match="nothing leaves"):
                ledger.enter(escalation("b"))
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            ledger.enter(escalation("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert [entry["escalation_id"] for _, entry in read_ledger(tmp_path)] == ["a", "b"]
    assert len(list(find_breaks(tmp_path))) == 1


def test_folder_that_cannot_be_written_is_a_setting_to_correct(tmp_path: Path) -> None:
    """It lies below a file."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="egress ledger"),
        FileLedger(tmp_path / "file" / "x", "cloud:7443", ManualClock()),
    ):
        pass


def test_report_sums_by_day_camera_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an operator reads it; the check says what it found by its exit status."""
    clock = write(tmp_path, "a", "b")
    clock.advance_s(DAY_S)
    write(tmp_path, "c", clock=clock)
    assert main(["egress", "report", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[1:] == ["site", "cam", "uncertain", "2", "200"]
    assert lines[3].split() == ["3", "300"]
    assert main(["egress", "check", "--folder", str(tmp_path)]) == 0
    [first, _] = sorted(tmp_path.glob("*.jsonl"))
    first.write_text(json.dumps({"previous": "x", "at_ns": 0}) + "\n")
    capsys.readouterr()
    assert main(["egress", "check", "--folder", str(tmp_path)]) == 1
    assert "breaks" in capsys.readouterr().out


def test_commands_name_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No folder, no ledger, something else."""
    assert main(["egress", "report"]) == 78
    assert "--folder" in capsys.readouterr().err
    assert main(["egress", "check", "--folder", str(tmp_path)]) == 78
    assert "no egress ledger" in capsys.readouterr().err
    (tmp_path / "egress-2026-01-01.jsonl").write_text("nonsense\n")
    assert main(["egress", "report", "--folder", str(tmp_path)]) == 78
    assert "egress-2026-01-01.jsonl:1" in capsys.readouterr().err
