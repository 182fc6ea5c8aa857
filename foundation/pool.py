"""What an edge's and a cloud's opinion about one object say together.

Their log-odds are added with fitted weights (the logarithmic opinion pool: Genest and Zidek,
Combining Probability Distributions, Statistical Science 1(1), 1986). A cloud that is sure needs
nobody's consent; a cloud that is half sure of what the edge hardly saw is mostly wrong.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pydantic

from foundation.frames import Scores
from foundation.settings import Settings

STANDS_FROM = np.float32(0.5)
"""Probability from which an object is reported: it is rather there than not."""
_LEAST, _MOST = np.float32(0.03), np.float32(0.98)
"""Scores beyond these are not taken at their word: calibration knows no better."""

Weight = Annotated[float, pydantic.Field(ge=0, le=10, allow_inf_nan=False)]


class Pool(Settings):
    """Weights of the two log-odds, fitted for one edge bundle and one cloud bundle."""

    bias: Annotated[float, pydantic.Field(ge=-10, le=10, allow_inf_nan=False)] = 0.0
    cloud: Weight
    edge: Weight

    def probability(self, edge: Scores, cloud: Scores) -> Scores:
        """How likely the cloud is right (N,), by its score (N,) and the edge's best one (N,).

        The edge's is 0 where it never saw the object.
        """
        log_odds = np.float32(self.bias) + np.float32(self.edge) * log_odds_of(edge)
        log_odds += np.float32(self.cloud) * log_odds_of(cloud)
        return np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)


def log_odds_of(scores: Scores) -> Scores:
    """Log-odds (N,) of scores (N,), bounded."""
    bounded = np.clip(np.asarray(scores, np.float32), _LEAST, _MOST)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)
