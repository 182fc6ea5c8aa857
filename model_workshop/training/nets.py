"""The detector of the shipped pair: plain convolutions, anchor-free, one output per kind of number.

Architecture decides what INT8 buys, so there is nothing here that an integer kernel does badly:
3x3 convolutions and ReLU, nearest-neighbour upsampling, additions. Depthwise convolutions and SiLU
would have cost fewer multiply-adds and more milliseconds.

Invariant: heat-map logits and box placements leave in separate tensors. Sharing one would share one
quantization scale, and boxes would swallow the scores (docs/models.md).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
"""Pixels of the input per cell of the outputs."""

PRIOR_LOGIT = -4.5
"""Where heat-map logits start, so that the first steps are not spent on learning 'nothing here'."""


@dataclass(frozen=True, slots=True)
class NetShape:
    """How wide and deep a `GridDetector` is.

    Attributes:
        classes: how many classes the heat-map has.
        stem: channels at half resolution.
        stem_depth: convolutions at half resolution; the first one does the halving.
        widths: channels at strides 4, 8, 16, ...
        depths: convolutions at strides 4, 8, 16, ...; the first one of each does the halving.
        head: convolutions at stride 4 that both outputs share.
    """

    classes: int
    stem: int
    stem_depth: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    head: int

    def scaled(self, share: float) -> NetShape:
        """The shape with about this share of the channels, in multiples of 8 as kernels like."""

        def channels(count: int) -> int:
            return max(8, round(count * share / 8) * 8)

        widths = tuple(channels(width) for width in self.widths)
        return dataclasses.replace(self, stem=channels(self.stem), widths=widths)


EDGE = NetShape(6, stem=24, stem_depth=1, widths=(48, 64, 128), depths=(2, 3, 5), head=1)
"""0.9 M parameters, 1.2 GMAC at 416x320."""

CLOUD = NetShape(6, stem=32, stem_depth=1, widths=(64, 128, 192), depths=(2, 3, 3), head=1)
"""1.6 M parameters, 0.7 GMAC for a crop of 192x192."""


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _stack(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """`depth` convolutions of which the first halves the resolution."""
    rest = [_conv(outputs, outputs) for _ in range(depth - 1)]
    return nn.Sequential(_conv(inputs, outputs, stride=2), *rest)


class GridDetector(nn.Module):
    """Image to heat-map logits and box distances on a grid of stride 4.

    Takes float32 (N, 3, H, W) in 0..1, BGR; H and W are multiples of the deepest stride. Gives
    logits (N, classes, H/4, W/4) and placements (N, 4, H/4, W/4) in units of the stride: offset of
    the box's centre from the cell's centre in x and y, logarithms of half its width and height. An
    offset of its own, because a defect may be smaller than a cell and lie beside its centre.
    `model_workshop.training.export` turns placements into the distances of the bundle's contract.
    """

    def __init__(self, shape: NetShape) -> None:
        super().__init__()
        self.shape = shape
        self.folded = False
        widths = shape.widths
        self.stem = _stack(3, shape.stem, shape.stem_depth)
        inputs = (shape.stem, *widths[:-1])
        self.stages = nn.ModuleList(
            _stack(i, o, d) for i, o, d in zip(inputs, widths, shape.depths, strict=True)
        )
        pairs = list(itertools.pairwise(widths))
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(deep, shallow, 1, bias=False), nn.BatchNorm2d(shallow))
            for shallow, deep in pairs
        )
        self.fusions = nn.ModuleList(_conv(shallow, shallow) for shallow, _ in pairs)
        self.head = nn.Sequential(*(_conv(widths[0], widths[0]) for _ in range(shape.head)))
        # One convolution for both while training: two narrow ones cost twice the memory traffic.
        self.outputs = nn.Conv2d(widths[0], shape.classes + 4, 1)
        nn.init.normal_(self.outputs.weight, std=0.01)
        nn.init.zeros_(self.outputs.bias)
        nn.init.constant_(self.outputs.bias[: shape.classes], PRIOR_LOGIT)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Heat-map logits and placements of a batch."""
        outputs = self.outputs(self.features(pixels))
        classes = self.shape.classes
        return outputs[:, :classes], outputs[:, classes:]

    def fold(self) -> GridDetector:
        """Merges every batch normalization into its convolution, in place; returns itself."""
        fold_batch_norms(self)
        self.folded = True
        return self

    def copy(self) -> GridDetector:
        """Another net with the same weights, in evaluation mode, on the CPU."""
        other = GridDetector(self.shape)
        if self.folded:
            other.fold()
        other.load_state_dict(self.state_dict())
        return other.eval()

    def features(self, pixels: Tensor) -> Tensor:
        """What both outputs are computed from, (N, widths[0], H/4, W/4)."""
        x = self.stem(pixels)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        for level in range(len(levels) - 2, -1, -1):
            deeper = functional.interpolate(self.laterals[level](x), scale_factor=2.0)
            x = self.fusions[level](functional.relu(levels[level] + deeper))
        return self.head(x)


class SplitOutputs(nn.Module):
    """A trained detector with a convolution of its own for each output, as it is exported."""

    def __init__(self, net: GridDetector) -> None:
        super().__init__()
        self.net = net
        classes, width = net.shape.classes, net.shape.widths[0]
        self.heatmap = nn.Conv2d(width, classes, 1)
        self.placement = nn.Conv2d(width, 4, 1)
        with torch.no_grad():
            weight, bias = net.outputs.weight, net.outputs.bias
            self.heatmap.weight.copy_(weight[:classes])
            self.heatmap.bias.copy_(bias[:classes])
            self.placement.weight.copy_(weight[classes:])
            self.placement.bias.copy_(bias[classes:])

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same as the detector's."""
        features = self.net.features(pixels)
        return self.heatmap(features), self.placement(features)


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """Merges every batch normalization into the convolution before it, in place."""
    net.eval()
    for module in list(net.modules()):
        if not isinstance(module, nn.Sequential) or len(module) < 2:
            continue
        if isinstance(module[0], nn.Conv2d) and isinstance(module[1], nn.BatchNorm2d):
            module[0] = nn.utils.fusion.fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return net


def parameter_count(net: nn.Module) -> int:
    """How many numbers a net has learned."""
    return sum(p.numel() for p in net.parameters())


def multiply_adds(net: nn.Module, height: int, width: int) -> int:
    """Multiply-adds of all convolutions for one image of height x width."""
    total = 0

    def count(module: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal total
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output.numel() * module.in_channels * kernel

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    was_training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, height, width))
    net.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
