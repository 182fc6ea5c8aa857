"""The log of a training run, and the learning curve drawn from it."""

from __future__ import annotations

import json
from pathlib import Path

Line = dict[str, float]


class Journal:
    """`log.jsonl` of a run's folder, one line a stretch of steps, with `curve.svg` beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, line: Line) -> None:
        """Appends a line, tells it, and draws the curve anew."""
        text = json.dumps(line)
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        print(text, flush=True)
