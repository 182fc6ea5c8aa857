"""What the system stands by, with and without a pool of opinions."""

from __future__ import annotations

import numpy as np

from edge_node.logic.reporting import Reporting
from foundation.pool import Pool
from tests.edge_node.logic.scene import REPORT, rows_of

TRACKS = rows_of(
    {"cloud_label": 1, "cloud_score": 0.6, "best_score": 0.1},
    {"cloud_label": 1, "cloud_score": 0.6, "best_score": 0.8},
    {"cloud_label": 1, "cloud_score": 0.97, "best_score": 0.1},
    {"cloud_label": 1, "cloud_score": 0.6, "best_score": 0.8, "refuted": True},
    {"cloud_label": 1, "cloud_score": 0.6, "best_score": 0.1, "overruled": True},
    {"score": 0.6, "best_score": 0.7},
    {"score": 0.3, "best_score": 0.4},
)


def test_without_a_pool_the_cloud_stands_by_itself() -> None:
    """It has left out already what its own bundle would not report."""
    stands = Reporting(REPORT).stands(TRACKS)
    assert stands.tolist() == [True, True, True, False, False, True, False]
    np.testing.assert_allclose(Reporting(REPORT).scores(TRACKS)[:3], [0.6, 0.6, 0.97])


def test_with_a_pool_a_half_sure_cloud_needs_an_edge_that_saw_something() -> None:
    """A sure one does not, and what the edge says by itself is as before."""
    reporting = Reporting(REPORT, Pool(cloud=1.0, edge=0.5))
    stands = reporting.stands(TRACKS)
    assert stands.tolist() == [False, True, True, False, False, True, False]
    scores = reporting.scores(TRACKS)
    np.testing.assert_allclose(scores[0], 0.3333, atol=1e-3)  # odds of 3/2 times 1/3
    np.testing.assert_allclose(scores[1], 0.75, atol=1e-3)  # odds of 3/2 times 2
    np.testing.assert_allclose(scores[5], 0.6, atol=1e-6)
