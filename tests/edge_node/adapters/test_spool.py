"""The durable spool: a real folder, a real file, a real thread."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import FILE, SpoolDatabase
from edge_node.values import EscalationOutcome
from foundation.errors import ConfigError, IntegrityError
from foundation.escalations import Answer
from tests.edge_node.spooled import KEY, Spooled, answered, kept, wait_for


def read(folder: Path, key: str = "") -> SpoolDatabase:
    """The spool as a command reads it."""
    cipher = Cipher(bytes.fromhex(key) if key else None)
    return SpoolDatabase.open(folder, cipher, read_only=True)


def outcomes(folder: Path) -> dict[str, str]:
    """Outcome by id; empty while it waits."""
    with read(folder) as database:
        return {entry.id: entry.outcome for entry in database.entries()}


@pytest.mark.parametrize("key", ["", KEY])
def test_what_is_appended_survives_and_comes_back_as_it_was(tmp_path: Path, key: str) -> None:
    """In another process's run: escalation, question and value; encrypted if there is a key."""
    first = Spooled(tmp_path, key=key)
    with first.running():
        first.append("a", value=0.7)
    assert (b"x" * 100 in (tmp_path / FILE).read_bytes()) is not bool(key)
    with read(tmp_path, key) as database:
        [entry] = database.entries()
        found, wanted = database.kept(entry), kept("a", value=0.7)
    assert (found.value, found.run, found.attempts) == (0.7, "earlier", 0)
    assert found.escalation.image == wanted.escalation.image
    assert found.escalation.region == wanted.escalation.region
    assert found.question.scene_moves == wanted.question.scene_moves
    assert found.question.subjects[0].box.tolist() == wanted.question.subjects[0].box.tolist()
    second = Spooled(tmp_path, key=key)
    with second.running():
        assert second.take() == ["a"]


def test_another_process_may_look_while_it_runs(tmp_path: Path) -> None:
    """The index that this process maps is not cut under its feet, which would kill it."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a")
        index = tmp_path / f"{FILE}-shm"
        claimed = index.stat().st_size
        command = [sys.executable, "-m", "edge_node", "spool", "ls", "--folder", str(tmp_path)]
        for _ in range(2):
            looked = subprocess.run(command, check=True, capture_output=True, text=True)
            assert "1 wait" in looked.stdout
            assert index.stat().st_size == claimed > 200_000
        spool.append("b")
    assert outcomes(tmp_path) == {"a": "", "b": ""}


def test_end_is_noted_once_with_its_verdict(tmp_path: Path) -> None:
    """A second ending changes nothing; what has ended is not handed out."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
        spool.keeper.end(answered("a"))
        spool.keeper.end(answered("a"))
        assert spool.take() == ["b"]
    assert outcomes(tmp_path) == {"a": "answered", "b": ""}
    with read(tmp_path) as database:
        verdict = database.verdict("a")
        assert verdict is not None
        assert isinstance(verdict.outcome, Answer)
        assert database.verdict("b") is None


def test_what_is_handed_out_is_not_handed_out_again(tmp_path: Path) -> None:
    """Before it is given back; an attempt that broke is remembered."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
        assert sorted(spool.take()) == ["a", "b"]
        spool.keeper.claim("a")
        spool.heard.wait(lambda: spool.heard.claims == [("a", False)])
        spool.keeper.give_back("a", attempted=True)
        spool.keeper.claim("a")
        spool.heard.wait(lambda: len(spool.heard.claims) == 2)
        assert spool.heard.claims[-1] == ("a", True)
    with read(tmp_path) as database:
        assert {entry.id: entry.attempts for entry in database.entries()} == {"a": 1, "b": 0}


def test_densest_in_value_comes_first(tmp_path: Path) -> None:
    """Value per byte."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("small", value=0.2, size=100)
        spool.append("large", value=0.9, size=20_000)
        spool.append("dear", value=0.9, size=100)
        assert spool.take() == ["dear", "small", "large"]


def test_what_was_published_before_the_crash_is_not_asked_again(tmp_path: Path) -> None:
    """The results say that it has ended, the spool did not learn of it."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
    again = Spooled(tmp_path)
    with again.running({"a": ("answered", ""), "unknown": ("expired", "")}):
        assert again.take() == ["b"]
    assert outcomes(tmp_path) == {"a": "answered", "b": ""}


def test_full_spool_lets_go_of_ended_ones_then_of_the_least_valuable(tmp_path: Path) -> None:
    """Each that is evicted ends once, on disk and for the listener."""
    spool = Spooled(tmp_path, escalations_max=20)
    with spool.running():
        spool.append(*(f"a{number}" for number in range(10)))
        for number in range(5):
            spool.keeper.end(answered(f"a{number}"))
        spool.append(*(f"b{number}" for number in range(10)), value=0.5)
        assert not spool.heard.gone
        spool.append(*(f"c{number}" for number in range(10)), value=0.9)
        spool.heard.wait(lambda: len(spool.heard.gone) >= 5)
    evicted = {ending.escalation_id for ending in spool.heard.gone}
    assert {ending.outcome for ending in spool.heard.gone} == {EscalationOutcome.EVICTED}
    assert evicted <= {f"a{number}" for number in range(5, 10)} | {f"b{n}" for n in range(10)}
    left = outcomes(tmp_path)
    assert len(left) <= 20 + 1
    assert {id_ for id_, outcome in left.items() if not outcome}.isdisjoint(evicted)
    assert {f"c{number}" for number in range(10)} <= left.keys()


def test_bytes_are_bounded(tmp_path: Path) -> None:
    """Whatever their number."""
    spool = Spooled(tmp_path, bytes_max=1 << 20)
    with spool.running():
        spool.append(*(str(number) for number in range(40)), size=40_000)
        spool.heard.wait(lambda: len(spool.heard.gone) >= 10)
    with read(tmp_path) as database:
        assert database.totals().waiting_bytes <= 1 << 20


def test_too_old_ones_expire_and_are_forgotten(tmp_path: Path) -> None:
    """At the first tidying, which comes at once."""
    old = Spooled(tmp_path)
    with old.running():
        old.append("a")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE escalations SET captured_at_ns = 1")
    spool = Spooled(tmp_path, age_max_s=60.0)
    with spool.running():
        spool.heard.wait(lambda: bool(spool.heard.gone))
    assert spool.heard.gone[0].outcome is EscalationOutcome.EXPIRED
    assert outcomes(tmp_path) == {"a": "expired"}


def test_damaged_file_is_moved_aside_and_a_new_spool_begins(tmp_path: Path) -> None:
    """Counted; the damaged one is kept for whoever wants to look."""
    first = Spooled(tmp_path)
    with first.running():
        first.append("a")
    file = tmp_path / FILE
    file.write_bytes(b"not a database at all" * 500)
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("b")
    assert outcomes(tmp_path) == {"b": ""}
    [aside] = tmp_path.glob("quarantine-*")
    assert (aside / FILE).read_bytes().startswith(b"not a database")
    assert spool.counted("edge_spool_quarantines_total") == 1


def test_file_damaged_while_it_runs_is_moved_aside(tmp_path: Path) -> None:
    """The node goes on with a new one; what was in it is not made up."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append(*(str(number) for number in range(50)), size=5000)
        with sqlite3.connect(tmp_path / FILE) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (tmp_path / FILE).stat().st_size
        with (tmp_path / FILE).open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        spool.keeper.take()
        spool.keeper.append(kept("late"))
        wait_for(lambda: spool.counted("edge_spool_quarantines_total") == 1)
        spool.append("new")
    assert "new" in outcomes(tmp_path)


def test_damaged_crop_ends_as_failed_and_the_others_go_on(tmp_path: Path) -> None:
    """One bad item costs nothing else."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE crops SET escalation = zeroblob(100) WHERE id = 'a'")
    again = Spooled(tmp_path)
    with again.running():
        assert again.take() == ["b"]
        again.heard.wait(lambda: bool(again.heard.gone))
    assert outcomes(tmp_path) == {"a": "failed", "b": ""}
    with read(tmp_path) as database:
        assert list(database.damages()) == []


def test_crop_that_is_no_blob_ends_as_failed_and_the_others_go_on(tmp_path: Path) -> None:
    """One bit of the head of a record makes text of a blob."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE crops SET question = CAST(question AS TEXT) WHERE id = 'a'")
    again = Spooled(tmp_path)
    with again.running():
        assert again.take() == ["b"]
        again.append("c")
    assert outcomes(tmp_path) == {"a": "failed", "b": "", "c": ""}


@pytest.mark.parametrize("column", ["run", "reason"])
def test_flipped_bit_in_a_text_is_damage_and_no_failing_disk(tmp_path: Path, column: str) -> None:
    """It is not UTF-8 any more. The spool is moved aside once, and what comes is kept."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("aaaa", "bbbb", "cccc")
    data = bytearray((tmp_path / FILE).read_bytes())
    # In the table itself, where all columns lie next to each other, and not in an index.
    row = rb"bbbb(?P<run>earlier).{16}(?P<reason>uncertain)"
    found = re.search(row, data, re.DOTALL)
    assert found is not None
    data[found.start(column)] ^= 0x80
    (tmp_path / FILE).write_bytes(data)
    again = Spooled(tmp_path)
    with again.running():
        again.take()
        wait_for(lambda: again.counted("edge_spool_quarantines_total") == 1)
        again.append("new")
        assert again.heard.written == ["new"]
    assert outcomes(tmp_path) == {"new": ""}
    assert again.counted("edge_spool_quarantines_total") == 1


def test_row_that_says_it_is_huge_is_let_go_of(tmp_path: Path) -> None:
    """The sum of such rows is more than SQLite reckons with, and no failing disk either."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b", "c")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"UPDATE escalations SET size_bytes = {2**63 - 1} WHERE id <> 'a'")
    again = Spooled(tmp_path)
    with again.running():
        again.append("d")
        again.heard.wait(lambda: len(again.heard.gone) == 2)
    assert outcomes(tmp_path) == {"a": "", "b": "evicted", "c": "evicted", "d": ""}
    assert again.counted("edge_spool_errors_total") == 0


def test_what_is_read_in_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    """Whatever is written meanwhile, nothing that it lists is missing."""
    spool = Spooled(tmp_path)
    with spool.running():
        spool.append("a", "b")
        with read(tmp_path) as database:
            with database.snapshot():
                entries = database.salvage().entries
                with sqlite3.connect(tmp_path / FILE) as connection:
                    connection.execute("DELETE FROM crops")
                assert [database.kept(entry).escalation.id for entry in entries] == ["a", "b"]
            with pytest.raises(IntegrityError, match="holds no crop"):
                database.kept(entries[0])


def test_spool_whose_key_mark_is_no_blob_is_moved_aside(tmp_path: Path) -> None:
    """The edge node starts."""
    with Spooled(tmp_path).running():
        pass
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE meta SET value = 'hardcase spool'")
    again = Spooled(tmp_path)
    with again.running():
        again.append("a")
    assert again.counted("edge_spool_quarantines_total") == 1


def test_texts_cannot_change_places(tmp_path: Path) -> None:
    """Encrypted, a crop is bound to its escalation."""
    spool = Spooled(tmp_path, key=KEY)
    with spool.running():
        spool.append("a", "b")
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(
            "UPDATE crops SET (digest, question, escalation) = "
            "(SELECT digest, question, escalation FROM crops WHERE id = 'b') WHERE id = 'a'"
        )
    with read(tmp_path, KEY) as database:
        damages = list(database.damages())
    assert len(damages) == 1
    assert "a/" in damages[0]


@pytest.mark.parametrize("key", ["", "11" * 32])
def test_wrong_key_is_a_setting_to_correct(tmp_path: Path, key: str) -> None:
    """And no reason to move the spool aside."""
    spool = Spooled(tmp_path, key=KEY)
    with spool.running():
        spool.append("a")
    with pytest.raises(ConfigError, match="key"), Spooled(tmp_path, key=key).running():
        pass
    assert not list(tmp_path.glob("quarantine-*"))


@pytest.mark.parametrize("text", ["", "zz", "00" * 16, "nonsense"])
def test_key_file_that_holds_no_key_is_refused(tmp_path: Path, text: str) -> None:
    """With what makes one."""
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        Cipher.from_file(str(path))
    assert "openssl rand -hex 32" in refused.value.remedy


def test_one_node_owns_a_folder(tmp_path: Path) -> None:
    """A second one is told so."""
    with (
        Spooled(tmp_path).running(),
        pytest.raises(ConfigError, match="Another edge node"),
        Spooled(tmp_path).running(),
    ):
        pass


def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """It lies below a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot use"), Spooled(tmp_path / "file" / "x").running():
        pass


def test_newer_version_is_not_touched(tmp_path: Path) -> None:
    """Neither read nor moved."""
    with Spooled(tmp_path).running():
        pass
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer"), Spooled(tmp_path).running():
        pass


def test_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    """Whatever its tables are called."""
    path = tmp_path / FILE
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another program's"), Spooled(tmp_path).running():
        pass
    assert path.read_bytes() == before


def test_absent_spool_is_not_made_by_reading(tmp_path: Path) -> None:
    """A command that reads leaves nothing behind."""
    with pytest.raises(ConfigError, match="no spool"):
        read(tmp_path)
    assert not list(tmp_path.iterdir())


def test_cipher_refuses_what_was_changed() -> None:
    """A bit, a place, a cut."""
    cipher = Cipher(bytes(32))
    sealed = cipher.seal(b"text", "a/x")
    assert cipher.open(sealed, "a/x") == b"text"
    changed = bytes([*sealed[:-1], sealed[-1] ^ 1])
    for text, place in ((changed, "a/x"), (sealed, "b/x"), (sealed[:5], "a/x"), (b"", "a/x")):
        with pytest.raises(IntegrityError):
            cipher.open(text, place)
