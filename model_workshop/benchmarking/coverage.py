"""Which node ran where, and whether a provider that was declared took the whole graph.

An accelerator that leaves one operator to the processor pays for two copies a frame, and nobody is
told. Here that is a failure with the operator's name.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass

from foundation.errors import ConfigError
from model_workshop.benchmarking.configurations import short_name
from model_workshop.benchmarking.operators import OperatorProfile

_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Share:
    """What one provider had of a run.

    Attributes:
        provider: the runtime's name of it.
        nodes: how many of the graph's nodes it took.
        node_share: of all nodes.
        time_share: of the kernels' time.
    """

    provider: str
    nodes: int
    node_share: float
    time_share: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a graph was shared out when one provider was declared.

    Attributes:
        declared: the provider.
        shares: of every provider that took part.
        left: operators that the declared one left to others, with their number.
    """

    declared: str
    shares: tuple[Share, ...]
    left: tuple[tuple[str, int], ...]

    def check(self) -> None:
        """Checks that the declared provider took the whole graph.

        Raises:
            ConfigError: it did not; the message names the operators that it left.
        """
        if not self.left and all(share.provider == self.declared for share in self.shares):
            return
        named = [f"{op_type} ({count})" for op_type, count in self.left[:_NAMED_MAX]]
        if len(self.left) > _NAMED_MAX:
            named.append(f"{len(self.left) - _NAMED_MAX} more kinds")
        total = sum(share.nodes for share in self.shares)
        taken = sum(share.nodes for share in self.shares if share.provider == self.declared)
        raise ConfigError(
            f"{self.declared} takes {taken} of the model's {total} nodes and leaves to the "
            f"processor: {', '.join(named) or 'conversions'}",
            remedy="Export the model without these operators, or leave the provider out "
            f"(--providers without {short_name(self.declared)})",
        )


def cover(declared: str, profile: OperatorProfile) -> Coverage:
    """Coverage of a provider, from the profile of a run in which it was the only one declared."""
    nodes = collections.Counter(node.provider for node in profile.assigned)
    time_shares: dict[str, float] = collections.defaultdict(float)
    for cost in profile.by_node:
        time_shares[cost.provider] += cost.share
    total = sum(nodes.values()) or 1
    shares = tuple(
        Share(provider, nodes[provider], nodes[provider] / total, time_shares[provider])
        for provider in sorted({*nodes, *time_shares}, key=lambda name: (-nodes[name], name))
    )
    left = collections.Counter(n.op_type for n in profile.assigned if n.provider != declared)
    return Coverage(declared, shares, tuple(left.most_common()))
