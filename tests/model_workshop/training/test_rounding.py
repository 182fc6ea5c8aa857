from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in the extra 'train'")

from model_workshop.training.nets import GridDetector, NetShape  # noqa: E402
from model_workshop.training.rounding import (  # noqa: E402
    RoundedConv2d,
    install_rounding,
    observe_ranges,
    round_activations,
    round_weights,
)

TINY = NetShape(3, stem=8, stem_depth=1, widths=(16, 16), depths=(1, 1), head=1)


def _folded() -> GridDetector:
    torch.manual_seed(3)
    return GridDetector(TINY).eval().fold()


def test_activations_keep_256_levels_with_zero_among_them() -> None:
    """Every value within the range is off by half a level at most, and zero by nothing."""
    values = torch.linspace(-1.0, 3.0, 1001)
    rounded = round_activations(values, -1.0, 3.0)
    assert len(torch.unique(rounded)) <= 256
    assert (rounded - values).abs().max() <= 4 / 255 * 0.75
    assert round_activations(torch.zeros(1), -1.0, 3.0).item() == 0.0


def test_weights_have_a_scale_for_every_output() -> None:
    """A channel of tiny weights is as exact as one of large ones."""
    weight = torch.randn(2, 3, 3, 3) * torch.tensor([1.0, 1e-3])[:, None, None, None]
    error = (round_weights(weight) - weight).abs().amax(dim=(1, 2, 3))
    assert torch.all(error <= weight.abs().amax(dim=(1, 2, 3)) / 127 * 0.51)


def test_gradients_pass_within_the_range_only() -> None:
    """Rounding is straight through; what is cut off learns nothing."""
    values = torch.tensor([-2.0, 0.5, 9.0], requires_grad=True)
    round_activations(values, -1.0, 3.0).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 0.0]


def test_rounding_changes_the_computation_and_not_the_state() -> None:
    """Names and weights stay those of the folded net; its answers move by little."""
    net, batch = _folded(), torch.rand(2, 3, 64, 64)
    ranges = observe_ranges(net, [batch])
    with torch.no_grad():
        exact = net(batch)[0]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    install_rounding(net, ranges)
    assert isinstance(net.stem[0][0], RoundedConv2d)
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())
    with torch.no_grad():
        rounded = net(batch)[0]
    assert 0 < (rounded - exact).abs().mean() < 0.1 * exact.std()


def test_ranges_hold_zero_and_everything_seen() -> None:
    """The input's range is what was shown, and additions have one of what is added."""
    ranges = observe_ranges(_folded(), [torch.full((1, 3, 64, 64), 0.25)])
    assert np.allclose(ranges["stem.0.0"], (0.0, 0.25))
    assert "laterals.0.0:output" in ranges
    assert all(low <= 0.0 < high for low, high in ranges.values())
