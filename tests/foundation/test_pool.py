"""The pool of two opinions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import ConfigError
from foundation.pool import Pool
from foundation.settings import parse_settings

SCORES = st.floats(0, 1, width=32)


def pooled(pool: Pool, edge: float, cloud: float) -> float:
    """One probability."""
    return float(pool.probability(np.array([edge], np.float32), np.array([cloud], np.float32))[0])


@given(SCORES, SCORES, SCORES)
def test_more_of_either_opinion_is_never_less(edge: float, cloud: float, more: float) -> None:
    """And whatever is said, the result is a probability."""
    pool = Pool(bias=-0.1, cloud=0.8, edge=0.6)
    here = pooled(pool, edge, cloud)
    assert 0 < here < 1
    assert pooled(pool, max(edge, more), cloud) >= here
    assert pooled(pool, edge, max(cloud, more)) >= here


def test_no_information_changes_nothing() -> None:
    """An edge that says one half leaves the cloud's score."""
    assert pooled(Pool(cloud=1.0, edge=0.5), 0.5, 0.7) == pytest.approx(0.7, abs=1e-6)


@pytest.mark.parametrize("bad", [{"cloud": -1.0}, {"edge": float("nan")}, {"bias": 1e9}])
def test_weights_out_of_bounds_are_refused(bad: dict[str, float]) -> None:
    """The bundle's policy names the field."""
    with pytest.raises(ConfigError, match=next(iter(bad))):
        parse_settings({"cloud": 1.0, "edge": 0.5, **bad}, Pool, origin="policy.json")
