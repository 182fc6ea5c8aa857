"""Fitting how two opinions are joined."""

from __future__ import annotations

import numpy as np
import pytest

from foundation.errors import ConfigError
from foundation.pool import Pool
from model_workshop.policy.pooling import fit_pool


def claims(pool: Pool, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Claims that are right as often as a pool says."""
    rng = np.random.default_rng(20261126)
    edge, cloud = rng.uniform(0.03, 0.98, (2, count)).astype(np.float32)
    return edge, cloud, rng.random(count) < pool.probability(edge, cloud)


def test_fit_finds_the_weights_that_made_the_truth() -> None:
    """Within what chance allows."""
    made = Pool(bias=-0.4, cloud=0.9, edge=0.5)
    fitted = fit_pool(*claims(made, 20_000))
    assert fitted.bias == pytest.approx(made.bias, abs=0.1)
    assert fitted.cloud == pytest.approx(made.cloud, abs=0.1)
    assert fitted.edge == pytest.approx(made.edge, abs=0.1)


def test_opinion_that_speaks_against_itself_is_left_out() -> None:
    """More of it must never mean less."""
    edge, cloud, right = claims(Pool(cloud=1.0, edge=1.0), 2000)
    assert fit_pool(1 - edge, cloud, right).edge == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e, c, r: (e, c, np.ones_like(r)), "0 claims are wrong"),
        (lambda e, c, r: (e, c, np.zeros_like(r)), "0 claims are right"),
        (lambda e, c, r: (e[:-1], c, r), "not equally many"),
        (lambda e, c, r: (np.where(e > 0.5, np.nan, e), c, r), "not a number"),
    ],
)
def test_what_cannot_be_fitted_is_said(change: object, said: str) -> None:
    """Without errors, of one kind, or with NaN."""
    assert callable(change)
    with pytest.raises(ConfigError, match=said):
        fit_pool(*change(*claims(Pool(cloud=1.0, edge=0.5), 200)))
