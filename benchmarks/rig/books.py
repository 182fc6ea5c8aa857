"""The books of an edge node: what its spool holds and what its results say, side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Entry


def read_entries(spool: Path) -> dict[str, Entry]:
    """What a spool holds, by escalation."""
    with SpoolDatabase.open(spool, Cipher(None), read_only=True) as database:
        return {entry.id: entry for entry in database.entries()}


def read_results(path: Path) -> Iterator[dict[str, Any]]:
    """Every result line, parsed."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


class Books:
    """Both, read.

    Attributes:
        entries: What the spool holds, by escalation.
        ends: Outcomes that the results tell, by escalation.
        effects: How often each correction is in the results.
        frames: Lines of frames.
    """

    def __init__(self, spool: Path, results: Path) -> None:
        self.entries = read_entries(spool)
        self.ends: dict[str, list[str]] = {}
        self.effects: Counter[tuple[Any, ...]] = Counter()
        self.frames = 0
        for record in read_results(results):
            match record["type"]:
                case "frame":
                    self.frames += 1
                case "escalation":
                    self.ends.setdefault(record["escalation_id"], []).append(record["outcome"])
                case "correction":
                    self.effects[_effect(record)] += 1

    def differences(self) -> list[str]:
        """Every violation in words: what did not end, ended otherwise or twice, or acted twice."""
        entries = self.entries
        found = [f"{id_} never ended" for id_, entry in entries.items() if not entry.outcome]
        for id_, outcomes in self.ends.items():
            if len(outcomes) != 1:
                found.append(f"{id_} is closed {len(outcomes)} times in the results: {outcomes}")
            known = entries[id_].outcome if id_ in entries else None
            if known is not None and known != outcomes[0]:
                found.append(f"{id_} is {known} in the spool and {outcomes[0]} in the results")
        for id_, entry in entries.items():
            if entry.outcome == "answered" and id_ not in self.ends:
                found.append(f"{id_} is answered in the spool and not in the results")
        found += [f"{one} took effect {n} times" for one, n in self.effects.items() if n > 1]
        return found


def _effect(record: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a correction the same correction: an object without a track is its box."""
    box = tuple(record["cloud"]["box"]) if record["cloud"] and record["track_id"] is None else ()
    return (record["escalation_id"], record["track_id"], box)
