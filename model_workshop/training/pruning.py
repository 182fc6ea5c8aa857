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
from model_workshop.training.nets import GridDetector, NetShape

CHANNELS_MULTIPLE = 8
"""Channels are left in such multiples: integer kernels work in blocks of them."""


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
    import torch_pruning

    if not 0.0 < keep < 1.0:
        raise ConfigError(f"A share of {keep} cannot be kept", remedy="Give one between 0 and 1")
    whole = GridDetector(net.shape)
    whole.load_state_dict(net.state_dict())
    whole.eval()
    pruner = torch_pruning.pruner.BasePruner(
        whole,
        torch.zeros(1, 3, 64, 64),
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=1.0 - keep,
        round_to=CHANNELS_MULTIPLE,
        ignored_layers=[whole.outputs],
    )
    for batch in batches:
        loss(whole, batch).backward()
    pruner.step()
    pruned = GridDetector(_shape_of(whole))
    pruned.load_state_dict(whole.state_dict())
    if pruned.shape == net.shape:
        raise ConfigError(
            f"Nothing goes when {keep:.0%} of the channels stay",
            remedy=f"Keep fewer: channels go in multiples of {CHANNELS_MULTIPLE}",
        )
    return pruned.eval()


def _shape_of(net: GridDetector) -> NetShape:
    """The shape that a net has come to, which its `shape` no longer says."""
    shape = net.shape
    stem: nn.Conv2d = net.stem[0][0]
    widths = tuple(stage[0][0].out_channels for stage in net.stages)
    return NetShape(
        shape.classes, stem.out_channels, shape.stem_depth, widths, shape.depths, shape.head
    )
