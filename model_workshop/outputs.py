"""Where a command writes: said before hours of work, not after them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from foundation.errors import ConfigError


def check_output(path: Path) -> None:
    """Checks that a bundle can be written to a path later; creates nothing that stays.

    Raises:
        ConfigError: something is there already, or nothing can be written there.
    """
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists", remedy="Remove it or choose another path")
    try:
        # Under the very name that the bundle will grow under, which may be too long.
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", dir=_nearest_folder(path)
        ) as probe:
            # A full disk admits an empty file.
            (Path(probe) / "probe").write_bytes(b"\0" * 4096)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error}",
            remedy="Choose a folder that is writable and has space (--out)",
        ) from error


def check_apart(*paths: Path | None) -> None:
    """Checks that files which one command writes are not one and the same.

    Raises:
        ConfigError: two are, and the last one written would be all that is left.
    """
    given = [path for path in paths if path is not None]
    if len({path.resolve() for path in given}) < len(given):
        raise ConfigError(
            f"{given[0]} is given for two files", remedy="Give each file a path of its own"
        )


def _nearest_folder(path: Path) -> Path:
    """The folder that `path` lies in, or the first one above that exists."""
    for folder in path.absolute().parents:
        if os.path.lexists(folder):
            return folder
    return Path("/")
