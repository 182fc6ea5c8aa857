"""Where a command writes: said before hours of work, not after them."""

from __future__ import annotations

from pathlib import Path

from foundation.errors import ConfigError


def refuse_existing(path: Path) -> None:
    """Checks that a bundle can be written to a path later.

    Raises:
        ConfigError: something is there already.
    """
    if path.exists():
        raise ConfigError(f"{path} exists", remedy="Remove it or choose another path")
