"""`edge-node egress`: what the check and the report make of a ledger, whole, changed or damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from edge_node.__main__ import main
from edge_node.adapters.egress_ledger import FileLedger, find_breaks
from tests.edge_node.escalations import escalation
from tests.support.clock import ManualClock

DAY_S = 86_400.0
TORN = b'{"previous":"12'


def write(folder: Path, *days: str, clock: ManualClock | None = None) -> list[Path]:
    """Enters crops, a letter each, in as many days and runs; returns the files."""
    clock = clock or ManualClock()
    for ids in days:
        with FileLedger(folder, "cloud:7443", clock) as ledger:
            for id_ in ids:
                ledger.enter(escalation(id_))
        clock.advance_s(DAY_S)
    return sorted(folder.glob("*.jsonl"))


class Run:
    """Runs `edge-node egress` on a folder."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def __call__(self, action: str, folder: Path | None = None) -> tuple[int, list[str]]:
        """The exit status and the lines; nothing is on standard error."""
        self._capsys.readouterr()
        code = main(["egress", action, "--folder", str(folder or self._folder)])
        out, err = self._capsys.readouterr()
        assert not err
        return code, out.splitlines()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """On the folder of the test."""
    return Run(tmp_path, capsys)


def hash_of(path: Path, number: int) -> str:
    """Of a line of a file, by the number that `check` gives it."""
    return hashlib.sha256(path.read_bytes().splitlines()[number - 1]).hexdigest()


def change(path: Path, number: int, line: bytes) -> None:
    """Puts another line in the place of one."""
    lines = path.read_bytes().splitlines()
    lines[number - 1] = line
    path.write_bytes(b"\n".join(lines) + b"\n")


# --- the chain ------------------------------------------------------------------------------------


def test_whole_ledger(tmp_path: Path, run: Run) -> None:
    """One line, with the hash to note."""
    [_, last] = write(tmp_path, "ab", "c")
    hash_ = hash_of(last, 1)
    assert run("check") == (0, [f"3 entries, 0 breaks; the last hash is {hash_}"])


@pytest.mark.parametrize("what", ["edit", "remove", "insert", "swap"])
def test_whatever_is_changed_breaks_the_chain(tmp_path: Path, what: str) -> None:
    """At the line after it."""
    [path] = write(tmp_path, "abcd")
    lines = path.read_text().splitlines(keepends=True)
    if what == "edit":
        lines[1] = lines[1].replace('"uncertain"', '"audit"')
    elif what == "remove":
        del lines[1]
    elif what == "insert":
        lines.insert(1, lines[0])
    else:
        lines[1], lines[2] = lines[2], lines[1]
    path.write_text("".join(lines))
    found = list(find_breaks(tmp_path))
    assert len(found) >= 2
    assert "what stands before it" in found[0]


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b"", b"[]", b"5", b"null", b"\xff\xfe", b"[" * 100_000, b"9" * 10_000],
    ids=["words", "empty", "list", "number", "null", "bytes", "nested", "digits"],
)
def test_line_that_is_no_entry_is_a_break_and_the_check_goes_on(
    tmp_path: Path, run: Run, line: bytes
) -> None:
    """It says where; the line behind it no longer follows on what it names."""
    [first, last] = write(tmp_path, "abc", "de")
    change(first, 2, line)
    change(last, 2, line)
    code, lines = run("check")
    assert code == 1
    assert lines == [
        f"{first.name}:2: it is no entry of a ledger",
        f"{first.name}:3: what stands before it is not what stood there when it was written",
        f"{last.name}:2: it is no entry of a ledger",
        f"3 entries, 3 breaks; the last hash is {hash_of(last, 2)}",
    ]


# --- what power loss leaves -----------------------------------------------------------------------


def test_last_line_that_is_not_complete_is_said_and_no_break(tmp_path: Path, run: Run) -> None:
    """The edge node cuts it off when it starts."""
    clock = ManualClock()
    [_, last] = write(tmp_path, "ab", "c", clock=clock)
    hash_ = hash_of(last, 1)
    last.write_bytes(last.read_bytes() + TORN)
    code, [summary] = run("check")
    assert code == 0
    assert summary == (
        f"3 entries, 0 breaks; the last hash is {hash_}; {last.name}:2 is not complete, "
        "the edge node cuts it off at its next start"
    )
    assert run("report")[1][-1].split() == ["3", "300"]
    write(tmp_path, "d", clock=clock)
    code, [summary] = run("check")
    assert code == 0
    assert summary.startswith("4 entries, 0 breaks")
    assert "not complete" not in summary


def test_day_whose_only_line_is_not_complete(tmp_path: Path, run: Run) -> None:
    """The edge node then goes on from the day before."""
    clock = ManualClock()
    write(tmp_path, "ab", "", clock=clock)
    last = max(tmp_path.glob("*.jsonl"))
    last.write_bytes(TORN)
    code, [summary] = run("check")
    assert code == 0
    assert f"{last.name}:1 is not complete" in summary
    write(tmp_path, "c", clock=clock)
    code, [summary] = run("check")
    assert code == 0
    assert summary.startswith("3 entries, 0 breaks")


def test_line_is_the_last_where_only_empty_days_follow(tmp_path: Path, run: Run) -> None:
    """As the edge node takes it."""
    clock = ManualClock()
    [first, _] = write(tmp_path, "ab", "", clock=clock)
    first.write_bytes(first.read_bytes() + TORN)
    code, [summary] = run("check")
    assert code == 0
    assert f"{first.name}:3 is not complete" in summary
    write(tmp_path, "c", clock=clock)
    assert run("check")[0] == 0


def test_line_cut_short_on_an_earlier_day_is_a_break(tmp_path: Path, run: Run) -> None:
    """Power loss leaves none there: the edge node wrote on."""
    [first, _] = write(tmp_path, "ab", "c")
    first.write_bytes(first.read_bytes()[:-20])
    code, lines = run("check")
    assert code == 1
    assert lines[0] == f"{first.name}:2: it is no entry of a ledger"
    assert "not complete" not in lines[-1]


# --- old days are taken away ----------------------------------------------------------------------


def test_first_days_may_be_taken_away_and_it_is_said(tmp_path: Path, run: Run) -> None:
    """The archive ends where what is left begins, and the edge node goes on."""
    clock, archive = ManualClock(), tmp_path / "archive"
    [first, second, _] = write(tmp_path, "ab", "cd", "e", clock=clock)
    hash_ = hash_of(second, 2)
    archive.mkdir()
    for path in (first, second):
        path.rename(archive / path.name)
    write(tmp_path, "f", clock=clock)
    code, [summary] = run("check")
    assert code == 0
    assert summary.startswith("2 entries, 0 breaks; the last hash is ")
    assert summary.endswith(
        f"; it begins after an entry with hash {hash_}; what stood before was taken away"
    )
    assert run("check", archive) == (0, [f"4 entries, 0 breaks; the last hash is {hash_}"])


def test_day_taken_out_of_the_middle_is_a_break(tmp_path: Path, run: Run) -> None:
    """Also where the first has been taken away."""
    [first, _, third, *_] = write(tmp_path, "a", "b", "c", "d", "e")
    first.unlink()
    third.unlink()
    code, lines = run("check")
    assert code == 1
    assert len(lines) == 2
    assert "what stands before it" in lines[0]
    assert lines[1].startswith("3 entries, 1 breaks")


@pytest.mark.parametrize("previous", [None, "x", "A" * 64, 5, ["0" * 64]])
def test_beginning_that_names_no_hash_is_a_break(
    tmp_path: Path, run: Run, previous: object
) -> None:
    """Nothing that was taken away can have had it."""
    (tmp_path / "egress-2026-01-01.jsonl").write_text(json.dumps({"previous": previous}) + "\n")
    code, lines = run("check")
    assert code == 1
    assert lines[0].startswith("egress-2026-01-01.jsonl:1: what stands before it")
    assert "taken away" not in lines[1]


# --- the report -----------------------------------------------------------------------------------


def test_report_sums_by_day_camera_and_reason(tmp_path: Path, run: Run) -> None:
    """As an operator reads it."""
    write(tmp_path, "ab", "c")
    code, lines = run("report")
    assert code == 0
    assert len(lines) == 4
    assert lines[1].split()[1:] == ["site", "cam", "uncertain", "2", "200"]
    assert lines[3].split() == ["3", "300"]


@pytest.mark.parametrize(
    "changed",
    [
        {"image_bytes": None},
        {"image_bytes": "5"},
        {"image_bytes": -5},
        {"image_bytes": 10**4000},
        {"at_ns": "yesterday"},
        {"at_ns": 10**30},
        {"at_ns": 10**400},
        {"site": {}},
        {"camera": None},
        {"reason": ["uncertain"]},
    ],
    ids=[
        "no size",
        "size as text",
        "negative size",
        "long size",
        "time as text",
        "late time",
        "long time",
        "site",
        "no camera",
        "reason",
    ],
)
def test_report_leaves_out_what_it_cannot_read_and_says_so(
    tmp_path: Path, run: Run, changed: dict[str, Any]
) -> None:
    """A key is missing (None here), or says what it cannot mean; one line is no entry at all."""
    [path] = write(tmp_path, "abcd")
    entry = json.loads(path.read_bytes().splitlines()[1]) | changed
    entry = {key: value for key, value in entry.items() if value is not None}
    change(path, 2, json.dumps(entry).encode())
    change(path, 4, b"nonsense")
    code, lines = run("report")
    assert code == 1
    assert lines[1].split()[1:] == ["site", "cam", "uncertain", "2", "200"]
    assert lines[-2].split() == ["2", "200"]
    assert lines[-1] == (
        f"Lines that could not be read and are left out: 2, the first of them {path.name}:2"
    )
    assert run("check")[0] == 1


def test_report_shows_no_letters_that_command_a_terminal(tmp_path: Path, run: Run) -> None:
    """Nor halves of letters, which cannot be printed at all."""
    [path] = write(tmp_path, "a")
    entry = json.loads(path.read_bytes()) | {"site": "\x1b[2J", "camera": "\ud800é"}
    change(path, 1, json.dumps(entry).encode())
    code, lines = run("report")
    assert code == 0
    assert lines[1].split()[1:3] == ["\ufffd[2J", "\ufffdé"]


# --- no ledger ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["report", "check"])
def test_commands_name_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    """No folder, no ledger, none that can be read."""
    assert main(["egress", action]) == 78
    assert "--folder" in capsys.readouterr().err
    assert main(["egress", action, "--folder", str(tmp_path)]) == 78
    assert "no egress ledger" in capsys.readouterr().err
    path = tmp_path / "egress-2026-01-01.jsonl"
    path.symlink_to(path)
    assert main(["egress", action, "--folder", str(tmp_path)]) == 78
    assert f"Cannot read the egress ledger in {tmp_path}" in capsys.readouterr().err
