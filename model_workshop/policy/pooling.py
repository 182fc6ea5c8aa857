"""Fits how an edge's and a cloud's opinion about one object are joined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigError
from foundation.pool import Pool, log_odds_of

_RIDGE = 1.0
"""Pulls weights towards nothing, as much as one claim or so would: few claims are wrong."""
_STEPS_MAX = 100
_EACH_MIN = 10
_ENOUGH = 1e-9

Array = npt.NDArray[np.float64]


def fit_pool(edge: npt.ArrayLike, cloud: npt.ArrayLike, right: npt.ArrayLike) -> Pool:
    """Weights by logistic regression, Newton's method.

    Args:
        edge: (N,) the edge's best calibrated scores, 0 where it saw nothing.
        cloud: (N,) the cloud's.
        right: (N,) whether the cloud was.

    Raises:
        ConfigError: nothing can be learned from these.
    """
    own, theirs = np.asarray(edge, np.float32), np.asarray(cloud, np.float32)
    truth = np.asarray(right, np.bool_)
    if not (own.shape == theirs.shape == truth.shape and truth.ndim == 1):
        raise _unusable("scores and truths are not equally many")
    if not (np.isfinite(own).all() and np.isfinite(theirs).all()):
        raise _unusable("a score is not a number")
    for wanted, name in ((truth, "right"), (~truth, "wrong")):
        if np.count_nonzero(wanted) < _EACH_MIN:
            raise _unusable(
                f"{np.count_nonzero(wanted)} claims are {name}, and at least {_EACH_MIN} must be"
            )
    columns = np.stack([np.ones(len(own)), log_odds_of(theirs), log_odds_of(own)], axis=1)
    columns = columns.astype(np.float64)
    ridge = _RIDGE * np.array([0.0, 1.0, 1.0])
    weights = np.zeros(3)
    for _ in range(_STEPS_MAX):
        likely: Array = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (likely - truth) + ridge * weights
        curve = (columns * (likely * (1 - likely))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < _ENOUGH:
            break
    bias, of_cloud, of_edge = np.round(weights, 4).tolist()
    # An opinion that speaks against itself is noise: it is left out.
    return Pool(bias=bias, cloud=max(0.0, of_cloud), edge=max(0.0, of_edge))


def _unusable(what: str) -> ConfigError:
    return ConfigError(
        f"No pool of opinions can be fitted: {what}",
        remedy="Give more verdicts whose truth is known, of both kinds",
    )
