"""What is believed of a track whose crop was forgone."""

from __future__ import annotations

import numpy as np
import pytest

from edge_node.logic.due import heaviness_of
from tests.edge_node.logic.scene import NOW_NS, rows_of


@pytest.mark.parametrize(
    ("after_s", "heaviness"), [(-5.0, 4.0), (2.9, 4.0), (8.0, 4.0 ** np.exp(-1)), (60.0, 1.0)]
)
def test_what_a_crop_took_is_believed_for_a_while_then_fades(
    after_s: float, heaviness: float
) -> None:
    """The table keeps what was seen."""
    rows = rows_of({"heaviness": 4.0, "forgone_at_ns": NOW_NS}, {"heaviness": 1.0})
    found = heaviness_of(rows, np.array([0, 1]), NOW_NS + round(after_s * 1e9))
    assert found.tolist() == pytest.approx([heaviness, 1.0])
    assert rows["heaviness"].tolist() == [4.0, 1.0]
