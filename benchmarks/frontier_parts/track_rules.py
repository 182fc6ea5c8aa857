"""Rules about tracks: the product's frame lane with another table of gains.

Everything but the ranking is the product's in all of them: once per object, the best moment, the
price, crops that are shared, the same levels and what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from foundation.frames import Scores
from foundation.gains import Floats, GainModel

_KNOTS = 41


class ChanceGains(GainModel):
    """Gains that say nothing: drawn anew for each track and frame, from the score's last bits."""

    def gains_of(self, scores: Scores, sizes_px: Floats) -> Floats:
        """Gains (L, N) between 0 and 1, as good as random and the same each time."""
        del sizes_px
        bits = np.ascontiguousarray(scores, np.float32).view(np.uint32).astype(np.uint64)
        mixed = (bits * np.uint64(2654435761)) % np.uint64(1 << 32)
        drawn = (mixed.astype(np.float64) / 2**32).astype(np.float32)
        return np.asarray(self.retention[:, None] * drawn[None], np.float32)


_SCORE_RULES: Mapping[str, Callable[[float], float]] = {
    "tracks, p(1-p)": lambda p: p * (1 - p),
    "tracks, |p-0.5|": lambda p: max(0.0, 1 - 2 * abs(p - 0.5)),
    "tracks, lowest score": lambda p: 1 - p,
    "tracks, as they come": lambda _: 1.0,
}


def track_rules(shipped: GainModel) -> dict[str, GainModel]:
    """The tables of the other rules, with the levels and the retention of the shipped model."""
    knots = tuple(k / (_KNOTS - 1) for k in range(_KNOTS))
    fields = {name: getattr(shipped, name) for name in GainModel.model_fields}
    fields |= {"rule": "variance", "score_knots": knots, "size_edges_px": (), "crop_share": 1.0}
    rules: dict[str, GainModel] = {}
    for name, score_rule in _SCORE_RULES.items():
        row = np.array([score_rule(p) for p in knots])
        table = tuple((tuple((share * row).tolist()),) for share in shipped.retention.tolist())
        rules[name] = GainModel(**{**fields, "gains": table})
    # All of equal gain at a half, so that what levels retain is what the shipped model says.
    flat = tuple((tuple([share] * _KNOTS),) for share in shipped.retention.tolist())
    rules["tracks at random"] = ChanceGains(**{**fields, "gains": flat})
    return rules
