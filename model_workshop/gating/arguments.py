"""The gate on the command line of whatever makes bundles; light, so that help needs no extras."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.errors import ConfigError

if TYPE_CHECKING:
    from foundation.bundle import Bundle
    from model_workshop.gating.gate import Gate


def add_gate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares `--floors`, `--floors-split` and `--reference`."""
    group = parser.add_argument_group("accuracy floors", "below them nothing is written")
    group.add_argument("--floors", type=Path, metavar="FILE", help="floors.yaml")
    group.add_argument("--floors-split", type=Path, metavar="SPLIT", help="what to measure on")
    group.add_argument(
        "--reference", type=Path, metavar="BUNDLE", help="what losses are measured against"
    )


def open_gate(
    arguments: argparse.Namespace,
    *,
    reference: Bundle | None = None,
    proposer: Bundle | None = None,
    threads: int = 1,
) -> Gate | None:
    """Reads everything a gate needs, before hours of work and not after them.

    Args:
        arguments: parsed with `add_gate_arguments`.
        reference: what losses are measured against where `--reference` does not say otherwise: the
            bundle that a command changes.
        proposer: for a crop model, the frame model that says where it is asked.
        threads: of one inference.

    Returns:
        The gate; None where no floors were given.

    Raises:
        ConfigError: an argument is missing or superfluous, or a file is not what it should be.
        IntegrityError: the reference is damaged.
    """
    if arguments.floors is None:
        for name in ("floors_split", "reference"):
            if getattr(arguments, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} is given without floors", remedy="Give --floors FILE")
        return None
    if arguments.floors_split is None:
        raise ConfigError(
            "Floors need images to measure on", remedy="Give a held-out split (--floors-split)"
        )
    from foundation.bundle import Bundle
    from model_workshop.gating.gate import read_gate

    if arguments.reference is not None:
        reference = Bundle.open(arguments.reference)
    return read_gate(
        arguments.floors,
        arguments.floors_split,
        reference=reference,
        proposer=proposer,
        threads=threads,
    )
