"""`edge-node spool` on a spool that is damaged: it takes what can be read, and says what cannot."""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edge_node.__main__ import main
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import FILE, SpoolDatabase
from edge_node.adapters.spool.entries import Ended
from edge_node.values import Cause, EscalationOutcome, Kept
from foundation.clock import SystemClock
from foundation.errors import IntegrityError
from foundation.escalations import Answer, Encoding, LabelledBoxes, Verdict
from foundation.images import encode_image
from tests.edge_node.escalations import candidate, escalation
from tests.edge_node.spooled import Spooled

PAGE_BYTES = 4096
IDS = [f"{number:032x}" for number in range(160)]
ANSWERED = EscalationOutcome.ANSWERED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool of many pages, all of it answered."""
    folder = tmp_path / "spool"
    folder.mkdir()
    now_ns = SystemClock().now_ns()
    image = picture()
    with SpoolDatabase.open(folder, Cipher(None)) as database, database.transaction():
        for id_ in IDS:
            crop = dataclasses.replace(escalation(id_), image=image)
            database.append(Kept(crop, candidate(id_).question, 0.2, "run", ""))
            verdict = Verdict(id_, Answer(LabelledBoxes.empty()), "c" * 64)
            database.end(Ended(id_, ANSWERED, Cause.NONE, now_ns, verdict))
    return folder


def picture() -> bytes:
    """Of some kilobytes."""
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    return encode_image(noise, Encoding.WEBP, 80)


def change(folder: Path, statement: str) -> None:
    """What no edge node would do, in a file that stays sound."""
    connection = sqlite3.connect(folder / FILE)
    connection.execute(statement)
    connection.commit()
    connection.close()


def spoil(folder: Path, page: int) -> bytes:
    """Overwrites a page, counted from 1; returns what was on it."""
    data = bytearray((folder / FILE).read_bytes())
    place = slice((page - 1) * PAGE_BYTES, page * PAGE_BYTES)
    was = bytes(data[place])
    data[place] = b"\xff" * PAGE_BYTES
    (folder / FILE).write_bytes(data)
    return was


def flip(folder: Path, text: bytes) -> None:
    """Makes the first letter of the first such text one that is no UTF-8."""
    data = bytearray((folder / FILE).read_bytes())
    at = data.find(text)
    assert at >= 0
    data[at] ^= 0x80
    (folder / FILE).write_bytes(data)


def rows_on_a_page(folder: Path) -> set[str]:
    """Spoils the middle one of the pages where the rows of escalations lie; which may lie there."""
    data = (folder / FILE).read_bytes()
    pages = [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]
    # Leaves of a table that lies by its key (0x0a), and not of an index, which lacks the reason.
    leaves = [n for n, page in enumerate(pages, 1) if page[0] == 0x0A and b"uncertain" in page]
    assert len(leaves) >= 3
    lost = spoil(folder, leaves[len(leaves) // 2])
    return {id_.decode() for id_ in re.findall(rb"0{30}[0-9a-f]{2}", lost)}


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """How the ids begin that the database gives, and what `ls` says."""
    capsys.readouterr()
    assert main(["spool", "ls", "--folder", str(folder), "--limit", "0"]) == 0
    text = capsys.readouterr().out
    with SpoolDatabase.open(folder, Cipher(None), read_only=True) as database:
        found = [entry.id for entry in database.salvage().entries]
    assert text.count("answered") == len(found)
    assert f"{len(found)} have ended" in text
    return found, text


def exported(folder: Path, out: Path) -> list[str]:
    """The ids whose crops are written."""
    assert main(["spool", "export", "--folder", str(folder), "--out", str(out)]) == 0
    files = [image["file_name"] for image in json.loads((out / "edge.json").read_text())["images"]]
    assert sorted(files) == sorted(file.name for file in (out / "images").iterdir())
    return [name.removesuffix(".webp") for name in files]


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `check` says of a damaged one."""
    capsys.readouterr()
    assert main(["spool", "check", "--folder", str(folder)]) == 1
    return capsys.readouterr().out


def test_bad_page_costs_the_rows_that_are_on_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those before it and those after it are there; the end of each output says that some are not.

    An edge node does not open it, and says what becomes of it.
    """
    on_it = rows_on_a_page(folder)
    left, text = listed(folder, capsys)
    assert set(left) >= set(IDS) - on_it
    assert len(left) < len(IDS)
    assert left == sorted(left)
    assert "may be more than could be read" in text.splitlines()[-1]
    assert exported(folder, tmp_path / "out") == left
    assert "may be more than could be read" in capsys.readouterr().out.splitlines()[-1]
    assert "Not every escalation can be read" in checked(folder, capsys)
    with pytest.raises(IntegrityError) as refused:
        SpoolDatabase.open(folder, Cipher(None))
    assert "moves it aside" in refused.value.remedy


@pytest.mark.parametrize("index", ["sqlite_autoindex_crops_1", "sqlite_autoindex_verdicts_1"])
def test_crops_are_found_without_their_index(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], index: str
) -> None:
    """All of them, for an index holds nothing that is not elsewhere."""
    connection = sqlite3.connect(folder / FILE)
    [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,))
    connection.close()
    spoil(folder, page)
    assert exported(folder, tmp_path / "out") == IDS
    assert checked(folder, capsys)


def test_index_that_leads_elsewhere_gives_no_crop_for_another(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The crop says whose it is, and so does the verdict."""
    first, second, third = IDS[:3]
    # What is known by one id is another's, as it looks where the index is wrong.
    for table, columns, id_, other in (
        ("crops", "digest, question, escalation", first, second),
        ("verdicts", "verdict", third, second),
    ):
        change(
            folder,
            f"UPDATE {table} SET ({columns}) = "
            f"(SELECT {columns} FROM {table} WHERE id = '{other}') WHERE id = '{id_}'",
        )
    assert exported(folder, tmp_path / "out") == [IDS[1], *IDS[3:]]
    assert "2 answered ones cannot be read" in capsys.readouterr().out
    text = checked(folder, capsys)
    assert f"The crop of {first} in the spool is another's" in text
    assert f"The verdict about {third} in the spool is another's" in text


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_file_that_was_cut_short(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    """SQLite reads nothing of it, unless it is told to."""
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[: int(len(data) * share)])
    left = exported(folder, tmp_path / "out")
    assert share * 0.6 < len(left) / len(IDS) < 1
    assert set(left) <= set(listed(folder, capsys)[0])
    assert "The file cannot be checked" in checked(folder, capsys)


def test_damaged_schema(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One table that is no longer known costs what is in it."""
    flip(folder, b"CREATE TABLE verdicts")
    assert listed(folder, capsys)[0] == IDS
    text = checked(folder, capsys)
    assert "no such table: verdicts" in text
    assert main(["spool", "export", "--folder", str(folder), "--out", str(tmp_path / "out")]) == 78
    said = capsys.readouterr()
    assert "160 answered ones cannot be read" in said.out
    assert "no crop could be written" in said.err
    assert "`edge-node spool check`" in said.err


@pytest.mark.parametrize("column", ["id", "run", "reason", "outcome"])
def test_flipped_bit_in_a_row_costs_that_row(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str
) -> None:
    """It is no text any more, in whichever column."""
    data = bytearray((folder / FILE).read_bytes())
    # In the table itself, where all columns lie next to each other, and not in an index.
    row = rb"(?P<id>0{30}28)(?P<run>run).{16}(?P<reason>uncertain).{,30}?(?P<outcome>answered)"
    found = re.search(row, data, re.DOTALL)
    assert found is not None
    data[found.start(column)] ^= 0x80
    (folder / FILE).write_bytes(data)
    left, said = listed(folder, capsys)
    assert left == IDS[:40] + IDS[41:]
    assert "1 rows are damaged" in said.splitlines()[-1]
    assert exported(folder, tmp_path / "out") == left
    assert "1 rows are damaged" in capsys.readouterr().out.splitlines()[-1]
    name = "\ufffd" + IDS[40][1:] if column == "id" else IDS[40]
    assert f"the row of {name} is none of an edge node's" in checked(folder, capsys)


def test_id_that_is_a_path_leads_nowhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crop is exported under its id."""
    id_ = "../../away"
    with SpoolDatabase.open(folder, Cipher(None)) as database, database.transaction():
        crop = dataclasses.replace(escalation(id_), image=picture())
        database.append(Kept(crop, candidate(id_).question, 0.2, "run", ""))
        database.end(Ended(id_, ANSWERED, Cause.NONE, SystemClock().now_ns()))
    assert exported(folder, tmp_path / "out") == IDS
    assert not list(tmp_path.rglob("away*"))
    assert f"the row of {id_} is none" in checked(folder, capsys)


@pytest.mark.parametrize("value", ["CAST(question AS TEXT)", "5"])
def test_crop_that_is_no_blob(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    """One bit of the head of a record makes text of a blob."""
    change(folder, f"UPDATE crops SET question = {value} WHERE id = '{IDS[0]}'")
    assert f"The crop of {IDS[0]} in the spool is damaged: it is no blob" in checked(folder, capsys)
    assert exported(folder, tmp_path / "out") == IDS[1:]
    assert "1 answered ones cannot be read" in capsys.readouterr().out
    assert main(["spool", "show", IDS[0], "--folder", str(folder)]) == 78
    assert "no blob" in capsys.readouterr().err


def test_verdict_that_is_no_blob(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a crop."""
    change(folder, f"UPDATE verdicts SET verdict = 'text' WHERE id = '{IDS[0]}'")
    assert f"The verdict about {IDS[0]} in the spool is damaged" in checked(folder, capsys)


def test_mark_of_the_key_that_is_no_blob(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The crops are there, and `check` says what is not."""
    change(folder, "UPDATE meta SET value = 'hardcase spool'")
    assert exported(folder, tmp_path / "out") == IDS
    assert "known by is no blob" in checked(folder, capsys)


def test_crop_that_is_no_picture_costs_itself(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are exported."""
    odd = "f" * 32
    with SpoolDatabase.open(folder, Cipher(None)) as database, database.transaction():
        database.append(Kept(escalation(odd), candidate(odd).question, 0.2, "run", ""))
        database.end(Ended(odd, ANSWERED, Cause.NONE, SystemClock().now_ns()))
    assert exported(folder, tmp_path / "out") == IDS
    assert "1 answered ones cannot be read" in capsys.readouterr().out


def test_crop_that_was_let_go_of_is_no_damage(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said apart."""
    with SpoolDatabase.open(folder, Cipher(None)) as database, database.transaction():
        database.drop_crops(IDS[:3])
    assert exported(folder, tmp_path / "out") == IDS[3:]
    said = capsys.readouterr().out
    assert "3 answered ones have no crop any more" in said
    assert "cannot be read" not in said
    assert main(["spool", "check", "--folder", str(folder)]) == 0


def test_what_an_edge_node_has_moved_aside_is_read_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the alert about it promises."""
    rows_on_a_page(folder)
    spool = Spooled(folder)
    with spool.running():
        spool.append("new")
    assert spool.counted("edge_spool_quarantines_total") == 1
    [aside] = folder.glob("quarantine-*")
    assert checked(aside, capsys)
    assert len(exported(aside, tmp_path / "out")) > len(IDS) / 2
