"""How a program that tries to break something ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SHOWN_MAX = 50


def write_json(path: Path | None, document: Mapping[str, Any]) -> None:
    """Writes the figures where they are wanted."""
    if path is not None:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def end(report: Mapping[str, Any], path: Path | None) -> int:
    """Prints the first violations and writes the figures; returns the exit status."""
    for violation in report["violations"][:_SHOWN_MAX]:
        print(f"  {violation}")
    write_json(path, report)
    return int(bool(report["violations"]))
