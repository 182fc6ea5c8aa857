"""A net that computes as its INT8 bundle will: what fine-tuning for INT8 trains.

Every convolution rounds what it reads to 256 levels and its weights to 255 levels per output
channel; gradients pass as if it had not (straight through, arXiv 1712.05877, section 3), and none
passes where a value is cut off. Only batch normalizations that are folded away leave the weights
that the integer kernel multiplies, so a net is folded first.

Rounding changes how a net computes and not what it holds: its weights are exported, quantized and
loaded like those of any other.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from model_workshop.training.nets import GridDetector

Ranges = dict[str, tuple[float, float]]
"""Lowest and highest value by name of a convolution: of what it reads, and with `OUTPUT` behind the
name of what it gives."""

OUTPUT = ":output"
_ACTIVATION_LEVELS = 255
_WEIGHT_LEVELS = 127
_SPREAD_MIN = 1e-6


class RoundedConv2d(nn.Conv2d):
    """A convolution in the arithmetic of uint8 activations and int8 weights.

    Attributes:
        read: range of what it reads.
        given: range of what it gives, where that is added to something instead of rectified.
    """

    read: tuple[float, float]
    given: tuple[float, float] | None

    def forward(self, pixels: Tensor) -> Tensor:
        """The convolution of rounded values with rounded weights."""
        found = self._conv_forward(
            round_activations(pixels, *self.read), round_weights(self.weight), self.bias
        )
        return found if self.given is None else round_activations(found, *self.given)


def round_activations(values: Tensor, low: float, high: float) -> Tensor:
    """Values as uint8 would keep them, with one scale and zero point for all."""
    scale = (high - low) / _ACTIVATION_LEVELS
    zero = round(-low / scale)
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _ACTIVATION_LEVELS)


def round_weights(weight: Tensor) -> Tensor:
    """Weights (out, in, h, w) as int8 would keep them, symmetric, with a scale per output."""
    scale = weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=_SPREAD_MIN) / _WEIGHT_LEVELS
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(
        weight, scale, zero, 0, -_WEIGHT_LEVELS, _WEIGHT_LEVELS
    )


def observe_ranges(net: GridDetector, batches: Iterable[Tensor]) -> Ranges:
    """What a folded net's convolutions read and give, zero always within.

    Args:
        net: in evaluation mode.
        batches: float32 (N, 3, H, W) in 0..1.
    """
    ranges: Ranges = {}

    def widen(name: str, values: Tensor) -> None:
        low, high = ranges.get(name, (0.0, _SPREAD_MIN))
        ranges[name] = min(low, float(values.min())), max(high, float(values.max()))

    def watch(name: str) -> object:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            widen(name, inputs[0])
            if _is_added(name):
                widen(name + OUTPUT, output)

        return hook

    hooks = [conv.register_forward_hook(watch(name)) for name, conv in _convolutions(net)]
    with torch.no_grad():
        for batch in batches:
            net(batch)
    for hook in hooks:
        hook.remove()
    return ranges


def install_rounding(net: GridDetector, ranges: Ranges) -> None:
    """Replaces every convolution of a folded net by a rounded one with the very same parameters."""
    for name, conv in _convolutions(net):
        rounded = RoundedConv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding
        )
        rounded.weight, rounded.bias = conv.weight, conv.bias
        rounded.read, rounded.given = ranges[name], ranges.get(name + OUTPUT)
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, rounded)


def _convolutions(net: GridDetector) -> list[tuple[str, nn.Conv2d]]:
    return [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]


def _is_added(name: str) -> bool:
    return name.startswith("laterals.")
