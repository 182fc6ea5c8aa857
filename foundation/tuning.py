"""Tuning files: with which provider and threads a bundle runs best on one kind of machine.

A benchmark writes them and a service obeys them. A figure measured elsewhere decides nothing: a
file says for which bundle, processor and runtime it holds, and is refused for any other.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import yaml

from foundation.bundle import Bundle
from foundation.errors import ConfigError
from foundation.session import RUNTIME_VERSION
from foundation.settings import Settings, load_settings

_CPUINFO = Path("/proc/cpuinfo")
# What tells processors apart, on x86 and on ARM, and the instructions that INT8 kernels choose by.
_IDENTITY = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
_HEADER = (
    "# Written by `model-workshop bench`; holds for this bundle, processor and runtime only.\n"
)
_REMEDY = "Run `model-workshop bench --tuning` with this bundle on this machine, or go without it"


class Tuning(Settings):
    """What was chosen, and for what it holds."""

    format: Literal["hardcase-tuning/1"] = "hardcase-tuning/1"
    bundle: str
    """Name and version, for the reader."""
    bundle_digest: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
    processor: str
    runtime: str
    """Version of ONNX Runtime."""
    provider: str
    intra_op_threads: Annotated[int, pydantic.Field(ge=1, le=1024)]
    spinning: bool
    figures: Mapping[str, int | float | None] = pydantic.Field(default_factory=dict)
    """What it was chosen for, unit in the key."""

    def check(self, bundle: Bundle, path: Path) -> None:
        """Checks that the file holds for this bundle, processor and runtime.

        Args:
            bundle: about to run.
            path: of the file, for the message.

        Raises:
            ConfigError: it does not; the message says in what it differs.
        """
        differences = [
            f"{what} {here}, the file is for {there}"
            for what, here, there in (
                ("the bundle is", bundle.digest[:12], self.bundle_digest[:12]),
                ("the processor is", processor_name(), self.processor),
                ("ONNX Runtime is", RUNTIME_VERSION, self.runtime),
            )
            if here != there
        ]
        if self.intra_op_threads > core_count():
            differences.append(
                f"{core_count()} cores may be used, the file wants {self.intra_op_threads} threads"
            )
        if differences:
            raise ConfigError(
                f"The tuning file {path} does not hold here: {'; '.join(differences)}",
                remedy=_REMEDY,
            )

    def write(self, path: Path) -> None:
        """Writes the file; whole or not at all.

        Raises:
            ConfigError: it cannot be written.
        """
        text = _HEADER + yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_text(text, "utf-8")
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(
                f"Cannot write the tuning file {path}: {error}",
                remedy="Check the folder and its space",
            ) from error


def read_tuning(path: Path) -> Tuning:
    """Reads a tuning file.

    Raises:
        ConfigError: there is none, or it is not what it should be.
    """
    try:
        return load_settings(path, Tuning)
    except ConfigError as error:
        raise ConfigError(
            f"The tuning file is of no use: {error.message}", remedy=_REMEDY
        ) from error


def core_count() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def processor_name() -> str:
    """What this processor is, as far as the speed and the rounding of kernels depend on it."""
    try:
        facts = name_processor(_CPUINFO.read_text("utf-8"))
    except OSError:
        facts = platform.processor()
    return f"{platform.machine()} {facts}".strip()


def name_processor(cpuinfo: str) -> str:
    """The first processor of /proc/cpuinfo in words."""
    first = cpuinfo.strip().partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    words = [
        facts[key] if key == "model name" else f"{key} {facts[key]}"
        for key in _IDENTITY
        if key in facts
    ]
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return ", ".join([*words, *(name for name in _INSTRUCTIONS if name in flags)])
