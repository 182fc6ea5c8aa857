"""Crops being compressed in a thread of their own."""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry

from edge_node.adapters.encoder import CropEncoder
from edge_node.metrics import EdgeMetrics
from edge_node.values import Candidate
from foundation.clock import SystemClock
from foundation.escalations import Escalation
from foundation.images import decode_image
from tests.edge_node.escalations import candidate


def encoder(queue_max: int = 4) -> CropEncoder:
    """An encoder of one camera."""
    metrics = EdgeMetrics(CollectorRegistry(), "cam")
    return CropEncoder(
        queue_max,
        site="site",
        camera="cam",
        bundle_digest="d" * 64,
        clock=SystemClock(),
        encode_seconds=metrics.stages["encode"],
    )


def test_crop_keeps_its_pixels_and_its_question() -> None:
    """What arrives decodes to the region's size and says what was asked."""
    offered = candidate("a")
    offered.pixels[:] = (10, 120, 230)
    delivered: list[tuple[Candidate, Escalation]] = []
    crops = encoder()
    assert crops.offer(offered)
    crops.close()
    crops.run(lambda *item: delivered.append(item))
    source, escalation = delivered[0]
    assert source is offered
    assert escalation.id == "a"
    assert escalation.track_id == 3
    assert escalation.region == offered.question.region
    pixels = decode_image(escalation.image, escalation.encoding, side_min_px=1, pixels_max=10_000)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - offered.pixels).max() < 6


def test_hand_off_is_bounded_and_never_blocks() -> None:
    """What does not fit is refused, also after closing."""
    crops = encoder(queue_max=2)
    assert [crops.offer(candidate(str(number))) for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    delivered: list[Escalation] = []
    crops.close()
    crops.run(lambda _, escalation: delivered.append(escalation))
    assert [escalation.id for escalation in delivered] == ["0", "1"]
    assert not crops.offer(candidate("late"))
