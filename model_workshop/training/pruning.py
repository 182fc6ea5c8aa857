"""Takes whole channels out of a net, those whose loss is least felt.

Torch-Pruning finds which channels hang together across additions and up-samplings, and judges
each group by a first-order estimate of what the loss would change without it (arXiv 1906.10771).
The same share goes from every layer, rounded to what kernels like, so that the result is again a
`GridDetector`: of a smaller shape, not of another kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from foundation.errors import ConfigError
from model_workshop.training.lessons import Batch
from model_workshop.training.nets import GridDetector


def prune(
    net: GridDetector,
    keep: float,
    batches: Iterable[Batch],
    loss: Callable[[GridDetector, Batch], Tensor],
) -> GridDetector:
    """A smaller net.

    Args:
        net: trained, with its batch normalizations.
        keep: share of the channels of every layer that stays, in 0..1.
        batches: a few, on which the loss is felt.
        loss: of a net on a batch.

    Raises:
        ConfigError: the share is none, or nothing would go.
    """
    if not 0.0 < keep < 1.0:
        raise ConfigError(f"A share of {keep} cannot be kept", remedy="Give one between 0 and 1")
    shape = net.shape.scaled(keep)
    if shape == net.shape:
        raise ConfigError(
            f"Nothing goes when {keep:.0%} of the channels stay",
            remedy="Keep fewer: channels go in multiples of 8",
        )
    import torch_pruning

    whole = net.copy()
    pruner = torch_pruning.pruner.BasePruner(
        whole,
        torch.zeros(1, 3, 64, 64),
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=0.0,
        pruning_ratio_dict=_shares(whole, GridDetector(shape)),
        ignored_layers=[whole.outputs],
    )
    for batch in batches:
        loss(whole, batch).backward()
    pruner.step()
    pruned = GridDetector(shape)
    pruned.load_state_dict(whole.state_dict())
    return pruned.eval()


def _shares(whole: GridDetector, pruned: GridDetector) -> dict[nn.Module, float]:
    """Share of the outputs of every convolution that goes."""
    pairs = zip(whole.modules(), pruned.modules(), strict=True)
    # Half a channel more stays than should, because the library rounds what stays down.
    return {
        old: 1 - (new.out_channels + 0.5) / old.out_channels
        for old, new in pairs
        if isinstance(old, nn.Conv2d) and old.out_channels > new.out_channels
    }
