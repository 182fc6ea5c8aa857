"""What the system stands by: which tracks, and with which score. Pure, on columns of the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_node.logic.fuse import agreed_scores
from edge_node.logic.rows import Floats, Mask, Rows, cloud_stands
from foundation.pool import STANDS_FROM, Pool


@dataclass(frozen=True, slots=True)
class Reporting:
    """From when on a track is reported.

    Attributes:
        own: Per edge class (classes,), the calibrated score from which the edge stands by a track.
        pool: What both opinions say together; None: the cloud's opinion stands by itself.
    """

    own: Floats
    pool: Pool | None = None

    def stands(self, rows: Rows) -> Mask:
        """Which tracks (N,) are reported: by the cloud's opinion where it stands, else the edge's.

        What is refuted, or another track's double, is not.
        """
        stands = rows["best_score"] >= self.own[np.maximum(rows["edge_label"], 0)]
        by_cloud = cloud_stands(rows)
        if self.pool is None:
            stands |= by_cloud
        elif by_cloud.any():
            stands = np.where(by_cloud, self._pooled(rows, self.pool) >= STANDS_FROM, stands)
        return np.asarray(stands & ~rows["refuted"] & (rows["double_of"] == 0), np.bool_)

    def scores(self, rows: Rows) -> Floats:
        """The published score (N,): of both where the cloud's opinion stands, else the edge's mean.

        Without a pool, an edge that agrees raises the cloud's score.
        """
        by_cloud = cloud_stands(rows)
        if self.pool is not None:
            together = self._pooled(rows, self.pool)
        else:
            together = rows["cloud_score"]
            agree = rows["edge_label"] == rows["cloud_label"]
            together = np.where(agree, agreed_scores(rows["score"], together), together)
        return np.where(by_cloud, together, rows["score"])

    def _pooled(self, rows: Rows, pool: Pool) -> Floats:
        return pool.probability(rows["best_score"], rows["cloud_score"])
