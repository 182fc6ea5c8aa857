"""Crops being compressed in a thread of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edge_node.adapters.encoder import CropEncoder
from edge_node.metrics import EdgeMetrics
from edge_node.values import Candidate
from foundation.clock import SystemClock
from foundation.escalations import Escalation
from foundation.images import decode_image
from foundation.levels import Level
from tests.edge_node.escalations import candidate


def encoder(queue_max: int = 4) -> CropEncoder:
    """An encoder of one camera."""
    metrics = EdgeMetrics(CollectorRegistry(), "cam")
    return CropEncoder(
        queue_max,
        site="site",
        camera="cam",
        bundle_digest="0123456789abcdef" * 4,
        clock=SystemClock(),
        encode_seconds=metrics.stages["encode"],
    )


def test_crop_keeps_its_pixels_and_its_question() -> None:
    """What arrives decodes to the region's size and says what was asked."""
    offered = candidate("a")
    offered.pixels[:] = (10, 120, 230)
    delivered: list[tuple[Candidate, Escalation | None]] = []
    crops = encoder()
    assert crops.offer(offered)
    crops.close()
    crops.run(lambda *item: delivered.append(item))
    source, escalation = delivered[0]
    assert source is offered
    assert escalation is not None
    assert escalation.id == "a"
    assert escalation.track_id == 3
    assert escalation.region == offered.question.region
    assert escalation.edge_bundle_digest == "0123456789abcdef"  # a tenth of a small crop is saved
    pixels = decode_image(escalation.image, escalation.encoding, side_min_px=1, pixels_max=10_000)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - offered.pixels).max() < 6


@pytest.mark.parametrize(
    ("text", "width"), [("webp80", 16_384), ("webp80@0.5", 40_000), ("jpeg80", 65_535)]
)
def test_crop_longer_than_a_side_of_its_format_is_shrunk(text: str, width: int) -> None:
    """One of a line-scan camera; it would end the encoder's thread."""
    one = candidate("a")
    crop = np.full((64, width, 3), 90, np.uint8)
    crops = encoder()
    crops.offer(replace(one, pixels=crop, level=Level.parse(text)))
    crops.close()
    delivered: list[Escalation | None] = []
    crops.run(lambda _, escalation: delivered.append(escalation))
    (escalation,) = delivered
    assert escalation is not None
    pixels = decode_image(escalation.image, escalation.encoding, side_min_px=1, pixels_max=1 << 24)
    assert 16_000 < pixels.shape[1] < width
    assert pixels.shape[0] == round(64 * pixels.shape[1] / width)


def test_crop_that_cannot_be_compressed_is_handed_on_as_failed() -> None:
    """It cost the encoder's thread, and with it the process; those behind it are compressed."""
    crops = encoder()
    crops.offer(replace(candidate("empty"), pixels=np.zeros((0, 64, 3), np.uint8)))
    crops.offer(candidate("whole"))
    crops.close()
    delivered: list[tuple[str, bool]] = []
    crops.run(lambda one, made: delivered.append((one.question.id, made is not None)))
    assert delivered == [("empty", False), ("whole", True)]


def test_hand_off_is_bounded_and_never_blocks() -> None:
    """What does not fit is refused, also after closing."""
    crops = encoder(queue_max=2)
    assert [crops.offer(candidate(str(number))) for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    delivered: list[Escalation | None] = []
    crops.close()
    crops.run(lambda _, escalation: delivered.append(escalation))
    assert [one.id for one in delivered if one is not None] == ["0", "1"]
    assert not crops.offer(candidate("late"))
