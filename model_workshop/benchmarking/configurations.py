"""What is compared: providers, threads, spinning, and where they are pinned."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from foundation.errors import ConfigError

CPU = "CPUExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
_SUFFIX = "ExecutionProvider"
USUAL_PROVIDERS = (CPU, OPENVINO, "CUDAExecutionProvider", "TensorrtExecutionProvider")
"""What is looked for where nothing is declared."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to run a bundle.

    Attributes:
        provider: the runtime's name of an execution provider.
        threads: of one inference, on the processor.
        spinning: whether the runtime's threads wait for work by spinning.
    """

    provider: str = CPU
    threads: int = 1
    spinning: bool = False

    def __str__(self) -> str:
        name = short_name(self.provider)
        return f"{name} x{self.threads}{' spinning' if self.spinning else ''}"


PLAIN = Configuration()
"""What every other configuration's outputs and costs are compared with."""


def short_name(provider: str) -> str:
    """`cpu` for `CPUExecutionProvider`, and so on."""
    return provider.removesuffix(_SUFFIX).lower()


def find_providers(names: Sequence[str] | None, available: Iterable[str]) -> tuple[str, ...]:
    """The runtime's names of providers that were asked for by their short or full names.

    Args:
        names: as a person gave them; None for the usual ones.
        available: what can run here.

    Raises:
        ConfigError: nobody knows a provider of this name.
    """
    if names is None:
        return USUAL_PROVIDERS
    known = {short_name(name): name for name in (*USUAL_PROVIDERS, *available)}
    found = []
    for name in names:
        short = short_name(name.strip())
        if short not in known:
            near = difflib.get_close_matches(short, known, n=1)
            raise ConfigError(
                f"There is no provider {name!r}",
                remedy=f"Did you mean {near[0]}?" if near else f"Choose from {', '.join(known)}",
            )
        found.append(known[short])
    return tuple(dict.fromkeys(found))


def find_threads(threads: Sequence[int] | None, cores: int) -> tuple[int, ...]:
    """The thread counts to try: those asked for, or powers of two up to the number of cores.

    Raises:
        ConfigError: one is no count of threads, or more than there are cores.
    """
    if threads is None:
        powers = (1 << exponent for exponent in range(cores.bit_length()))
        return tuple(dict.fromkeys([*powers, cores]))
    for count in threads:
        if not 1 <= count <= cores:
            raise ConfigError(
                f"{count} threads on {cores} cores that this process may run on would wait for "
                "each other",
                remedy=f"Give --threads numbers from 1 to {cores}",
            )
    return tuple(dict.fromkeys(threads))


def plan(providers: Iterable[str], threads: Sequence[int]) -> tuple[Configuration, ...]:
    """Every configuration of these providers worth comparing, the plain one first.

    One thread has nobody to spin for; OpenVINO's pool does not spin; what runs beside the
    processor does not care for its threads.
    """
    found = [PLAIN]
    for provider in providers:
        if provider == CPU:
            found += [Configuration(provider, count) for count in threads]
            found += [
                Configuration(provider, count, spinning=True) for count in threads if count > 1
            ]
        elif provider == OPENVINO:
            found += [Configuration(provider, count) for count in threads]
        else:
            found.append(Configuration(provider))
    return tuple(dict.fromkeys(found))
