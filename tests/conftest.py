"""What every test may ask for.

The tests are green without a GPU, without the data beside the repository and on two cores; what
needs more skips and says why.
"""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# Two busy cores make single examples slow now and then; that is no failure.
hypothesis.settings.register_profile("hardcase", deadline=None)
hypothesis.settings.load_profile("hardcase")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """The folder of real models and footage beside the repository; skips where it is absent."""
    data = repository.parent / "shared" / "data"
    if not data.is_dir():
        pytest.skip("../shared/data is absent: real models and footage")
    return data
