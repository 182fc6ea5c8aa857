"""A disk that loses power: system calls of a process, replayed up to any of them.

`strace` writes down what a process wrote, truncated, removed and synchronized. From that
the files are built anew as a disk may hold them when power fails after a call: everything written
so far, or only what had been synchronized, or that and some of the rest, in part and out of order.

What is assumed of the file system: synchronizing a file makes its name durable too, as ext4 and XFS
do; a removal is durable once the folder has been synchronized, and may be lost until then; a sector
of 512 bytes is old or new.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
_CALLS = "write,pwrite64,ftruncate,fsync,fdatasync,unlink"
_SYNCS = ("fsync", "fdatasync")
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_FILE = re.compile(r"^(?:AT_FDCWD<[^>]*>, )?(?:\d+<([^>]*)>)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One system call on a file of the folder, or a promise that was made.

    Attributes:
        name: write, truncate, sync, sync folder, unlink or promise.
        file: Its name in the folder.
        at: Offset of a write; length after a truncation.
        text: What was written; what was promised.
    """

    name: str
    file: str
    at: int = 0
    text: bytes = b""


def record(command: Sequence[str], folder: Path, promises: Path, trace: Path) -> list[Call]:
    """Runs a command under strace; returns its calls on the files of a folder, in order.

    Args:
        command: It writes a line to the file of promises after each that it makes.
        folder: Whose files count.
        promises: The file of promises; it lies elsewhere.
        trace: Where strace writes.
    """
    strace = ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={_CALLS}"]
    subprocess.run([*strace, "-o", str(trace), *command], check=True)
    return list(_parse(trace, folder.resolve(), promises.resolve()))


def _parse(trace: Path, folder: Path, promises: Path) -> Iterator[Call]:
    ends: dict[str, int] = {}
    for line in trace.read_text().splitlines():
        match = _LINE.match(line)
        if match is None or int(match[3]) < 0:
            continue
        name, arguments, result = match[1], match[2], int(match[3])
        text = _TEXT.search(arguments)
        data = bytes.fromhex(text[1].replace("\\x", "")) if text else b""
        where = _FILE.match(arguments)
        path = Path(_plain(where[1])) if where else Path(data.decode(errors="replace"))
        if path == promises and name == "write":
            yield Call("promise", "", text=data.strip())
        if path == folder and name in _SYNCS:
            yield Call("sync folder", "")
        if path.parent == folder:
            yield from _on_file(name, path.name, arguments, data[:result], ends)


def _on_file(
    name: str, file: str, arguments: str, data: bytes, ends: dict[str, int]
) -> Iterator[Call]:
    """One call on a file of the folder; `ends` has where plain writes to each go on."""
    if name == "unlink":
        yield Call("unlink", file)
    elif name in _SYNCS:
        yield Call("sync", file)
    elif name == "ftruncate":
        yield Call("truncate", file, at=int(arguments.rsplit(", ", 1)[1]))
    elif name == "pwrite64":
        yield Call("write", file, int(arguments.rsplit(", ", 1)[1]), data)
    elif name == "write":
        at = ends.get(file, 0)
        ends[file] = at + len(data)
        yield Call("write", file, at, data)


def _plain(text: str) -> str:
    """A path as -xx writes it."""
    return bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text


@dataclass
class Disk:
    """Files as they are on the disk, and what of them is only in memory yet."""

    durable: dict[str, bytearray] = field(default_factory=dict)
    pending: list[Call] = field(default_factory=list)
    promises: list[str] = field(default_factory=list)

    def apply(self, call: Call) -> None:
        """One more call has been made."""
        if call.name == "promise":
            self.promises.append(call.text.decode())
        elif call.name == "sync folder":
            for one in self.pending:
                if one.name == "unlink":
                    _perform(self.durable, one)
            self.pending = [one for one in self.pending if one.name != "unlink"]
        elif call.name == "sync":
            mine = [one for one in self.pending if one.file == call.file]
            self.pending = [one for one in self.pending if one.file != call.file]
            for one in mine:
                _perform(self.durable, one)
            self.durable.setdefault(call.file, bytearray())
        else:
            self.pending.append(call)

    def after_crash(self) -> dict[str, bytearray]:
        """What is there after the process has died, and the machine has not."""
        return self._with(self.pending)

    def after_power_loss(self, rng: random.Random | None) -> dict[str, bytearray]:
        """What is there when power has failed: none of what was pending, or some of it."""
        if rng is None:
            return self._with([])
        some: list[Call] = []
        for call in self.pending:
            if call.name != "write":
                some += [call] * (rng.random() < 0.5)
                continue
            for begin in range(0, len(call.text), SECTOR_BYTES):
                if rng.random() < 0.5:
                    part = call.text[begin : begin + SECTOR_BYTES]
                    some.append(Call("write", call.file, call.at + begin, part))
        rng.shuffle(some)
        return self._with(some)

    def _with(self, calls: Sequence[Call]) -> dict[str, bytearray]:
        files = {name: bytearray(content) for name, content in self.durable.items()}
        for call in calls:
            _perform(files, call)
        return files


def _perform(files: dict[str, bytearray], call: Call) -> None:
    if call.name == "unlink":
        files.pop(call.file, None)
        return
    content = files.setdefault(call.file, bytearray())
    if call.name == "truncate":
        del content[call.at :]
        content.extend(bytes(max(0, call.at - len(content))))
    else:
        content.extend(bytes(max(0, call.at - len(content))))
        content[call.at : call.at + len(call.text)] = call.text
