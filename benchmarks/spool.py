"""What it takes to keep an escalation on disk: crops inside the database, or files beside it.

    python -m benchmarks.spool [--rounds N] [--folder FOLDER] [--json FILE]

Both ways promise the same: when the call returns, crop and entry are on disk. Inside is the spool
as it is. Beside writes the crop to a file of its own, synchronizes it and its folder, and then the
entry. Rounds alternate; each appends some crops of one size, singly or as one group, and reads them
back. Milliseconds per crop.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.power_loss import kept
from benchmarks.rig.report import write_json
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.texts import escalation_to_bytes
from edge_node.values import Kept

SIZES = (2_000, 20_000, 100_000)
GROUPS = (1, 16)
_CROPS = 16
Times = dict[tuple[str, int, int], list[float]]


def append_inside(database: SpoolDatabase, crops: list[Kept], group: int) -> None:
    """The spool as it is."""
    for begin in range(0, len(crops), group):
        with database.transaction():
            for one in crops[begin : begin + group]:
                database.append(one)


def append_beside(
    database: SpoolDatabase, folder: Path, crops: list[Kept], stubs: list[Kept], group: int
) -> None:
    """Files first, then entries that hold a small crop in the place of the real one."""
    for begin in range(0, len(crops), group):
        for one in crops[begin : begin + group]:
            file = os.open(folder / one.escalation.id, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(file, escalation_to_bytes(one.escalation))
            os.fdatasync(file)
            os.close(file)
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        with database.transaction():
            for stub in stubs[begin : begin + group]:
                database.append(stub)


def measure(rounds: int, folder: Path) -> Times:
    """Milliseconds a crop by way, size and group; reading under the group 0."""
    times: Times = defaultdict(list)
    crops_folder = folder / "crops"
    crops_folder.mkdir()
    (folder / "inside").mkdir()
    (folder / "beside").mkdir()
    with (
        SpoolDatabase.open(folder / "inside", Cipher(None)) as inside,
        SpoolDatabase.open(folder / "beside", Cipher(None)) as beside,
    ):
        for number in range(rounds + 1):  # the first is not counted
            for size in SIZES:
                for group in GROUPS:
                    ids = [f"{number}-{size}-{group}-{each}" for each in range(_CROPS)]
                    crops = [kept(id_, size) for id_ in ids]
                    stubs = [kept(id_, 16) for id_ in ids]
                    begun = time.perf_counter()
                    append_inside(inside, crops, group)
                    between = time.perf_counter()
                    append_beside(beside, crops_folder, crops, stubs, group)
                    ended = time.perf_counter()
                    if number:
                        times["inside", size, group].append((between - begun) * 1e3 / _CROPS)
                        times["beside", size, group].append((ended - between) * 1e3 / _CROPS)
                begun = time.perf_counter()
                for id_ in ids:
                    [entry] = inside.entries("id = ?", (id_,))
                    inside.kept(entry)
                between = time.perf_counter()
                for id_ in ids:
                    [entry] = beside.entries("id = ?", (id_,))
                    beside.kept(entry)
                    (crops_folder / id_).read_bytes()
                ended = time.perf_counter()
                if number:
                    times["inside", size, 0].append((between - begun) * 1e3 / _CROPS)
                    times["beside", size, 0].append((ended - between) * 1e3 / _CROPS)
    return times


def main() -> None:
    """Prints a table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        times = measure(arguments.rounds, Path(folder))
    rows: list[dict[str, Any]] = []
    print(f"{'ms a crop':<34}{'inside p50':>11}{'p99':>8}{'beside p50':>12}{'p99':>8}")
    for size in SIZES:
        for group in (*GROUPS, 0):
            what = f"{size:,} bytes, " + (f"groups of {group}" if group else "reading")
            row: dict[str, Any] = {"bytes": size, "group": group}
            for way in ("inside", "beside"):
                p50, p99 = np.percentile(times[way, size, group], [50, 99]).round(3).tolist()
                row[way] = {"p50": p50, "p99": p99}
            rows.append(row)
            first, second = row["inside"], row["beside"]
            print(
                f"{what:<34}{first['p50']:>11.3f}{first['p99']:>8.2f}"
                f"{second['p50']:>12.3f}{second['p99']:>8.2f}"
            )
    write_json(arguments.json, {"rounds": arguments.rounds, "milliseconds": rows})


if __name__ == "__main__":
    main()
