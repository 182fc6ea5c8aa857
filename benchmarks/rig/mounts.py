"""A small file system that can be filled and broken, and synchronization that takes long.

The file system is ext4 in a file, mounted over a loop device; its faults are the kernel's own. It
is broken as ext4 breaks itself when its device fails: it turns read-only under the processes that
write to it. Needs root, `mkfs.ext4`, `mount`, `losetup`, and gcc for slowness.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_PROGRAMS = ("mkfs.ext4", "mount", "umount", "losetup", "gcc")
_SOURCE = Path(__file__).parent / "slow_sync.c"


def why_not() -> str:
    """Why there can be no such file system here; empty where there can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with SmallDisk(Path(folder), 1 << 20):
                return ""
        except subprocess.CalledProcessError as error:
            return f"loop devices or ext4 are not permitted: {error.stderr.decode().strip()}"


class SmallDisk:
    """A file system of a given size.

    Attributes:
        folder: Where it is mounted.
    """

    def __init__(self, work: Path, size_bytes: int) -> None:
        self.folder = work / "disk"
        self._image = work / "disk.img"
        self._size_bytes = size_bytes
        self._loops: list[str] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-m", "0", str(self._image))
        with contextlib.ExitStack() as stack:
            stack.push(self)
            self._mount()
            stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("umount", "-l", str(self.folder))
        for loop in self._loops:
            with contextlib.suppress(subprocess.CalledProcessError):
                _run("losetup", "-d", loop)

    def fill(self) -> None:
        """Takes all the room that is left."""
        with (self.folder / "ballast").open("wb", buffering=0) as ballast:
            size = 1 << 16
            while size:
                try:
                    ballast.write(bytes(size))
                    os.fsync(ballast.fileno())
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def empty(self) -> None:
        """Gives the room back, for good: breaking down would undo what is not on the disk yet."""
        (self.folder / "ballast").unlink()
        _run("sync", "-f", str(self.folder))

    def break_down(self) -> None:
        """Turns read-only, as after an error of the device."""
        _run("mount", "-o", "remount,abort", str(self.folder))

    def mend(self) -> None:
        """Mounts it anew, as an operator does; who holds files of the broken one keeps these."""
        _run("umount", "-l", str(self.folder))
        self._mount()

    def _mount(self) -> None:
        # A device of its own each time: one that is still held would bring the broken state back.
        found = _run("losetup", "--find", "--show", str(self._image))
        self._loops.append(found)
        _run("mount", "-t", "ext4", found, str(self.folder))


class SlowSync:
    """Delays every fsync of a process that runs in its environment.

    Attributes:
        environment: To be added to that of the process.
    """

    def __init__(self, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        library = work / "slow_sync.so"
        _run("gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(_SOURCE), "-ldl")
        self._delay = work / "delay_ms"
        self.environment = {"LD_PRELOAD": str(library), "SLOW_SYNC": str(self._delay)}

    def set(self, delay_s: float) -> None:
        """Delays by so much from now on."""
        new = self._delay.with_suffix(".new")
        new.write_text(str(round(1000 * delay_s)))
        new.replace(self._delay)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True).stdout.decode().strip()
