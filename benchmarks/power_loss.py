"""Whether the spool holds what it promised when power fails at any system call.

    python -m benchmarks.power_loss [--variants N] [--seed N] [--json FILE]

A process appends escalations, notes their ends, lets some go and compacts, and writes down each
promise once the spool has made it. strace records its system calls. Then power is cut after every
one of them: the files are built as a disk may hold them (benchmarks/rig/disk.py says how), the
spool is opened, and all that had been promised must be there, readable and in the state promised.
Needs strace.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig.disk import Call, Disk, record
from benchmarks.rig.report import end
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import SpoolDatabase
from edge_node.adapters.spool.entries import Ended
from edge_node.values import Cause, EscalationOutcome, Kept, Question, Subject
from foundation.errors import HardcaseError
from foundation.escalations import (
    Answer,
    Encoding,
    Escalation,
    LabelledBoxes,
    Region,
    Verdict,
)

_COUNT = 12
_REGION = Region(0, 0, 64, 48)
_PROPOSALS = LabelledBoxes(
    np.array([[10, 20, 18, 28]], np.float32), np.array([0.4], np.float32), ("open",)
)
_NOW_NS = 1_800_000_000_000_000_000


def kept(id_: str, size_bytes: int) -> Kept:
    """An escalation of so many bytes."""
    subject = Subject(3, _PROPOSALS.boxes[0], "open", 0.4, asked=True)
    question = Question(
        id=id_,
        sequence=7,
        captured_at_ns=_NOW_NS,
        expires_at_ns=_NOW_NS + 1,
        region=_REGION,
        frame_width=64,
        frame_height=48,
        subjects=(subject,),
        reason="uncertain",
        level="webp80",
        gain=0.2,
        scene_moves=False,
    )
    escalation = Escalation(
        id=id_,
        site="site",
        camera="cam",
        track_id=3,
        frame_sequence=7,
        captured_at_ns=_NOW_NS,
        expires_at_ns=_NOW_NS + 1,
        frame_width=64,
        frame_height=48,
        region=_REGION,
        encoding=Encoding.WEBP,
        image=random.Random(id_).randbytes(size_bytes),
        proposals=_PROPOSALS,
        edge_bundle_digest="d" * 64,
        reason="uncertain",
    )
    return Kept(escalation, question, 0.2, "run", "")


def work(folder: Path, promises: Path) -> None:
    """What is recorded: the spool's whole life, promise by promise."""
    with (
        promises.open("wb", buffering=0) as said,
        SpoolDatabase.open(folder, Cipher(bytes(32))) as database,
    ):

        def promise(text: str) -> None:
            said.write(f"{text}\n".encode())

        for number in range(_COUNT):
            with database.transaction():
                database.append(kept(f"e{number}", 500 + 4000 * (number % 3)))
            promise(f"held e{number}")
        answer = Answer(LabelledBoxes.empty())
        for number in range(0, _COUNT, 2):
            verdict = Verdict(f"e{number}", answer, "c" * 64)
            ended = Ended(
                f"e{number}", EscalationOutcome.ANSWERED, Cause.NONE, _NOW_NS + 2, verdict
            )
            with database.transaction():
                database.end(ended)
            promise(f"answered e{number}")
        with database.transaction():
            database.drop_crops([f"e{number}" for number in range(0, 6, 2)])
            for number in (1, 3):
                outcome, cause = EscalationOutcome.EVICTED, Cause.SPOOL_FULL
                database.end(Ended(f"e{number}", outcome, cause, _NOW_NS + 3))
            database.drop_crops(["e1", "e3"])
        promise("evicted e1")
        promise("evicted e3")
        database.compact(1 << 20)
        promise("compacted")
        with database.transaction():
            database.append(kept("last", 9000))
        promise("held last")


def broken_promises(folder: Path, promises: list[str]) -> Iterator[str]:
    """Opens what the disk holds and compares it with what was promised."""
    try:
        with SpoolDatabase.open(folder, Cipher(bytes(32))) as database:
            entries = {entry.id: entry for entry in database.entries()}
            yield from database.damages()
            outcomes: dict[str, str] = {}
            for promised in promises:
                state, _, id_ = promised.partition(" ")
                if id_:
                    outcomes[id_] = "" if state == "held" else state
            for id_, outcome in outcomes.items():
                entry = entries.get(id_)
                if entry is None:
                    yield f"{id_} is gone"
                elif outcome and entry.outcome != outcome:
                    yield f"{id_} is {entry.outcome or 'waiting'} and was promised as {outcome}"
                elif not entry.outcome and database.kept(entry).escalation.id != id_:
                    yield f"{id_} holds something else"
                held = outcome == "answered" and entry is not None and entry.size_bytes
                if held and database.verdict(id_) is None:
                    yield f"the verdict about {id_} is gone"
    except HardcaseError as error:
        yield str(error)


def cut_everywhere(
    calls: list[Call], folder: Path, variants: int, seed: int, *, every: int = 1
) -> tuple[dict[str, int], list[str]]:
    """Cuts after each call, or each n-th, in every way; returns how many cuts, and violations."""
    rng = random.Random(seed)
    disk, cuts, found = Disk(), Counter[str](), []
    for number, call in enumerate(calls):
        disk.apply(call)
        if number % every and number + 1 < len(calls):
            continue
        ways = {"crash": disk.after_crash(), "nothing pending": disk.after_power_loss(None)}
        ways |= {f"some pending {n}": disk.after_power_loss(rng) for n in range(variants)}
        for way, files in ways.items():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            cuts[way.rstrip(" 0123456789")] += 1
            where = f"after call {number} ({call.name} {call.file}), {way}"
            found += [f"{where}: {text}" for text in broken_promises(folder, disk.promises)]
    return dict(cuts), found


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary).resolve()
        spool, promises = base / "spool", base / "promises"
        spool.mkdir()
        command = [sys.executable, "-m", "benchmarks.power_loss", "--child", str(spool)]
        calls = record([*command, str(promises)], spool, promises, base / "trace")
        made = sum(call.name == "promise" for call in calls)
        cuts, violations = cut_everywhere(calls, base / "after", arguments.variants, arguments.seed)
    return {
        "calls": dict(Counter(call.name for call in calls)),
        "promises": made,
        "cuts": cuts,
        "violations": violations,
    }


def main() -> int:
    """Prints what was cut; returns 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", type=int, default=4, help="random cuts after each call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--child", nargs=2, metavar="PATH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work(*map(Path, arguments.child))
        return 0
    report = run(arguments)
    for name, value in report.items():
        print(f"{name:<12}{len(value) if name == 'violations' else value}")
    return end(report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
