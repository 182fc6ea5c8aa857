"""What is compared: providers by name, threads that make sense."""

from __future__ import annotations

import pytest

from foundation.errors import ConfigError
from model_workshop.benchmarking.configurations import (
    CPU,
    OPENVINO,
    PLAIN,
    USUAL_PROVIDERS,
    Configuration,
    find_providers,
    find_threads,
    plan,
)

CUDA = "CUDAExecutionProvider"


def test_providers_go_by_short_and_full_names() -> None:
    """Each once, in the order given; one that only this runtime has, too."""
    names = ["cpu", "CUDAExecutionProvider", "CPU", "xnnpack"]
    available = [CPU, "XnnpackExecutionProvider"]
    assert find_providers(names, available) == (CPU, CUDA, "XnnpackExecutionProvider")
    assert find_providers(None, available) == USUAL_PROVIDERS


def test_unknown_provider_is_answered_with_the_nearest() -> None:
    """A slip of the finger is not taken for a provider that is absent here."""
    with pytest.raises(ConfigError, match="'openvin'") as caught:
        find_providers(["openvin"], [CPU])
    assert "Did you mean openvino" in caught.value.remedy
    with pytest.raises(ConfigError, match="'quantum'") as caught:
        find_providers(["quantum"], [CPU])
    assert "cpu, openvino, cuda, tensorrt" in caught.value.remedy


def test_threads_are_powers_of_two_and_all_cores() -> None:
    """Unless a person says which."""
    assert find_threads(None, 1) == (1,)
    assert find_threads(None, 6) == (1, 2, 4, 6)
    assert find_threads([2, 1, 2], 4) == (2, 1)


@pytest.mark.parametrize("count", [0, 3, -1])
def test_more_threads_than_cores_are_refused(count: int) -> None:
    """With the number of cores."""
    with pytest.raises(ConfigError, match="2 cores") as caught:
        find_threads([1, count], 2)
    assert "from 1 to 2" in caught.value.remedy


def test_plan_spins_only_where_it_can_matter() -> None:
    """The plain configuration is always there, and first; one thread waits for nobody."""
    assert plan([CUDA], [1, 2]) == (PLAIN, Configuration(CUDA))
    assert plan([CPU, OPENVINO], [1, 2]) == (
        PLAIN,
        Configuration(CPU, 2),
        Configuration(CPU, 2, spinning=True),
        Configuration(OPENVINO, 1),
        Configuration(OPENVINO, 2),
    )
    assert str(Configuration(CPU, 2, spinning=True)) == "cpu x2 spinning"
