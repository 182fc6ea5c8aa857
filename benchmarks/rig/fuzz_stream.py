"""One stream of mutated messages: what is sent on it, what must come back, and what did."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from benchmarks.rig.mutations import Mutant
from protos.escalation.v1 import escalation_pb2 as pb

STALL_S = 120.0
"""How long a stream may take before it counts as hanging."""
_ECHO_LENGTH_MAX = 256


@dataclass(slots=True)
class Account:
    """What was sent and what came of it.

    Attributes:
        sent: messages by kind of mutation.
        foreign: of these, those that are not protobuf, by kind.
        outcomes: verdicts by outcome.
        statuses: streams by how they ended.
        uncertain: messages on abandoned streams, which may or may not have been read.
        probes: sound requests in between, all answered.
        probe_s: how long each took, seconds.
        violations: what should not have happened.
    """

    sent: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    uncertain: int = 0
    probes: int = 0
    probe_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


class Session:
    """One stream: what is sent on it, and what must come back."""

    def __init__(self, call: Any, account: Account) -> None:
        self._call = call
        self._account = account
        self._asked: Counter[str] = Counter()
        self._got: Counter[str] = Counter()
        self._foreign = False

    async def run(self, mutants: list[Mutant], *, abandon: bool) -> None:
        """Sends all, and takes what comes; `abandon` cancels the stream after the last."""
        reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(STALL_S):
                for mutant in mutants:
                    self._note(mutant)
                    await self._call.write(mutant.message)
                if abandon:
                    self._account.statuses["abandoned"] += 1
                    self._account.uncertain += self._asked.total()
                    return
                await self._call.done_writing()
                await reader
                status = await self._call.code()
        except TimeoutError:
            self._account.violations.append(f"a stream hangs: {self._missing()}")
            return
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._account.violations.append(f"a stream ended while it was written: {error}")
            return
        finally:
            reader.cancel()
            self._call.cancel()
            await asyncio.wait({reader})
        self._account.statuses[status.name] += 1
        self._compare(status)

    def _note(self, mutant: Mutant) -> None:
        """What the escalator should make of a message."""
        self._account.sent[mutant.kind] += 1
        try:
            id_ = pb.Escalation.FromString(mutant.message).id
        except DecodeError:
            id_ = ""
            self._foreign = True
            self._account.foreign[mutant.kind] += 1
        self._asked[id_ if len(id_) <= _ECHO_LENGTH_MAX else ""] += 1

    async def _read(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # its status is looked at afterwards
            async for message in self._call:
                verdict = pb.Verdict.FromString(message)
                self._got[verdict.escalation_id] += 1
                outcome = verdict.WhichOneof("outcome") or "none"
                if outcome == "rejection":
                    outcome = pb.RejectReason.Name(verdict.rejection.reason).lower()
                    outcome = outcome.removeprefix("reject_reason_")
                self._account.outcomes[outcome] += 1

    def _missing(self) -> str:
        return f"{(self._asked - self._got).total()} of {self._asked.total()} verdicts are missing"

    def _compare(self, status: grpc.StatusCode) -> None:
        found = self._account.violations
        wanted = grpc.StatusCode.INVALID_ARGUMENT if self._foreign else grpc.StatusCode.OK
        if status is not wanted:
            found.append(f"a stream ended with {status.name} instead of {wanted.name}")
        for id_ in self._asked.keys() | self._got.keys():
            asked, got = self._asked[id_], self._got[id_]
            # One that is sent again while it is under way gets its verdict once.
            if not (got == asked or (id_ and 1 <= got < asked)):
                found.append(f"{got} verdicts about {asked} requests with the id {id_[:80]!r}")
