from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.frames import Detections
from model_workshop.quantization.agreement import agreement

_BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 30]], np.float32)


def _found(scores: list[float], shift: float = 0.0, class_id: int = 0) -> Detections:
    count = len(scores)
    return Detections(
        _BOXES[:count] + np.float32(shift),
        np.array(scores, np.float32),
        np.full(count, class_id, np.int32),
    )


def test_the_same_detections_agree_fully() -> None:
    """1, also where neither model finds anything."""
    assert agreement([_found([0.9, 0.5])], [_found([0.9, 0.5])]) == pytest.approx(1.0)
    assert agreement([Detections.empty()], [Detections.empty()]) == 1.0


def test_nothing_in_common_is_no_agreement() -> None:
    """A model that finds nothing, elsewhere or something else shares nothing."""
    reference = [_found([0.9, 0.5])]
    assert agreement(reference, [Detections.empty()]) == 0.0
    assert agreement(reference, [_found([0.9, 0.5], shift=100.0)]) == 0.0
    assert agreement(reference, [_found([0.9, 0.5], class_id=1)]) == 0.0


def test_every_kind_of_change_costs() -> None:
    """A lost detection, an invented one, a moved score and a moved box; weak ones cost less."""
    reference = [_found([0.9, 0.5])]
    lost = agreement(reference, [_found([0.9])])
    assert lost == pytest.approx(0.9 / 1.4)
    assert agreement(reference, [_found([0.9, 0.5, 0.1])]) == pytest.approx(1.4 / 1.5)
    assert agreement(reference, [_found([0.6, 0.5])]) == pytest.approx(1.1 / 1.4)
    assert lost < agreement(reference, [_found([0.9, 0.5], shift=1.0)]) < 1.0


@given(
    st.lists(st.floats(0.01, 1.0), max_size=3),
    st.lists(st.floats(0.01, 1.0), max_size=3),
    st.floats(0.0, 4.0),
)
def test_agreement_is_symmetric_and_a_share(
    one: list[float], other: list[float], shift: float
) -> None:
    """Neither model is the truth."""
    a, b = [_found(one)], [_found(other, shift)]
    assert agreement(a, b) == pytest.approx(agreement(b, a), abs=1e-6)
    assert 0.0 <= agreement(a, b) <= 1.0 + 1e-6
