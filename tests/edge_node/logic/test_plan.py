from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import CropSettings
from edge_node.logic.plan import Ask, Planner, Prices
from foundation.escalations import Region
from foundation.gains import FRAMING_BYTES, PROPOSAL_BYTES, GainModel, LevelCosts
from foundation.geometry import crop_region

FRAME = (640, 480)
SETTINGS = CropSettings(side_min_px=64, margin=2.0, per_frame_max=64)


def gain_model(*, crop_share: float = 1.0, frame_share: float = 0.0) -> GainModel:
    """Two levels: one keeps everything at 0.1 bytes a pixel, one keeps half at a tenth of that."""
    return GainModel(
        levels=(
            LevelCosts(level="webp80", fixed_bytes=50, log_bytes=math.log(0.1)),
            LevelCosts(level="avif30", fixed_bytes=50, log_bytes=math.log(0.01)),
        ),
        score_knots=(0.0, 0.5, 1.0),
        gains=(((0.0, 1.0, 0.0),), ((0.0, 0.5, 0.0),)),
        crop_share=crop_share,
        frame_share=frame_share,
    )


def flat(region: Region) -> float:
    """Every region has as much to encode."""
    del region
    return 1.0


def plan(
    boxes: npt.ArrayLike,
    gains: npt.ArrayLike,
    per_byte: float,
    *,
    model: GainModel | None = None,
    anchors: npt.ArrayLike = True,
) -> list[Ask]:
    """What a planner with these settings plans at a price per byte."""
    places = np.array(boxes, np.float32).reshape(-1, 4)
    may_ask = np.broadcast_to(np.asarray(anchors, np.bool_), len(places))
    planner = Planner(model or gain_model(), SETTINGS)
    worth = np.array(gains, np.float32)
    return planner.plan(places, worth, may_ask, FRAME, Prices(per_byte), flat)


def test_nothing_is_asked_about_nothing() -> None:
    """Without a proposal there is no crop."""
    assert plan([], np.zeros((2, 0)), 0.0) == []


def test_a_free_byte_buys_the_best_level_and_a_dear_one_the_cheap_level() -> None:
    """And where a byte costs more than it brings, nothing is sent."""
    box = [[100, 100, 120, 120]]
    assert [ask.level for ask in plan(box, [[1.0], [0.5]], 0.0)] == [0]
    assert [ask.level for ask in plan(box, [[1.0], [0.5]], 1.0 / 650)] == [1]
    assert plan(box, [[1.0], [0.5]], 1.0) == []


def two_sides(*, wide: float = 1.0) -> GainModel:
    """The same format with 64 px of surroundings and with 32, which keeps seven eighths."""
    costs = {"fixed_bytes": 50, "log_bytes": math.log(0.1)}
    return GainModel(
        levels=(LevelCosts(level="webp80", **costs), LevelCosts(level="webp80/32", **costs)),
        score_knots=(0.0, 0.5, 1.0),
        gains=(((0.0, wide, 0.0),), ((0.0, 0.875, 0.0),)),
    )


def test_surroundings_are_left_out_where_they_cost_more_than_they_tell() -> None:
    """The crop is that of its level's own side, whatever the settings say."""
    box, gains = [[100, 100, 112, 112]], [[1.0], [0.875]]
    (cheap,) = plan(box, gains, 1e-6, model=two_sides())
    assert (cheap.level, cheap.region) == (0, Region(74, 74, 138, 138))
    (dear,) = plan(box, gains, 1e-3, model=two_sides())
    assert (dear.level, dear.region) == (1, Region(90, 90, 122, 122))
    assert dear.size_bytes < cheap.size_bytes
    (ask,) = plan([[100, 100, 180, 180]], gains, 1e-6, model=two_sides())
    assert ask.region.width == 160  # the margin asks for more than either side


def test_crops_with_little_around_them_join_up_to_the_size_that_the_settings_name() -> None:
    """The cloud sees that much at its native size."""
    beside = [[100, 100, 112, 112], [125, 100, 137, 112]]
    (ask,) = plan(beside, np.full((2, 2), 0.5), 5e-4, model=two_sides(wide=0.1))
    assert ask.level == 1
    assert sorted(ask.members.tolist()) == [0, 1]
    assert 32 < ask.region.width <= 64


def test_bid_and_quote_know_the_side_of_each_level() -> None:
    """What is worth a small crop at a price is neither refused nor foretold as a large one."""
    planner = Planner(two_sides(), SETTINGS)
    box = np.array([[100, 100, 112, 112]], np.float32)
    gains = np.array([[1.0], [0.875]], np.float32)
    assert planner.bids(box, gains, FRAME)[0] == pytest.approx(0.875 / (0.1 * 32 * 32), rel=1e-4)
    _, size, _ = planner.quote(box, gains, FRAME, Prices(2e-3))
    small = 0.1 * 32 * 32 + 50 + FRAMING_BYTES + PROPOSAL_BYTES
    assert size[0] == pytest.approx(small, rel=1e-4)


def test_held_crop_is_cut_smaller_and_a_place_without_an_object_is_not() -> None:
    """Of what is held, the part around its object; a place is sent as it is."""
    planner, held = Planner(two_sides(), SETTINGS), Region(74, 74, 138, 138)
    values, dear = np.array([1.0, 0.875], np.float32), Prices(1e-3)
    box = np.array([100, 100, 112, 112], np.float32)
    ask = planner.choose(held, values, dear, 1.0, box)
    assert (ask.level, ask.region) == (1, Region(90, 90, 122, 122))
    place = planner.choose(held, values, dear, 1.0)
    assert (place.level, place.region) == (0, held)
    planner.use(np.array([False, True]))
    assert planner.choose(held, values, dear, 1.0).level == 1


def test_near_proposals_share_a_crop_and_far_ones_do_not() -> None:
    """One request is cheaper than two where little is between them."""
    near = plan([[100, 100, 120, 120], [112, 100, 132, 120]], np.ones((2, 2)), 1e-6)
    assert [sorted(ask.members.tolist()) for ask in near] == [[0, 1]]
    far = plan([[100, 100, 120, 120], [500, 400, 520, 420]], np.ones((2, 2)), 1e-4)
    assert sorted(ask.members.tolist() for ask in far) == [[0], [1]]


def test_crops_side_by_side_stay_two() -> None:
    """Joined they would cost no more, and the cloud would see both at half their resolution."""
    beside = plan([[100, 100, 120, 120], [150, 100, 170, 120]], np.ones((2, 2)), 1e-6)
    assert [ask.region.width for ask in beside] == [64, 64]


def test_what_a_join_costs_is_told_by_what_there_is_to_encode() -> None:
    """Where pixels are cheap, sharing saves a request; where they are dear, it costs more."""
    boxes = np.array([[100, 100, 200, 200], [256, 256, 276, 276]], np.float32)
    costs = LevelCosts(level="webp80", log_bytes=math.log(0.001), texture_power=2.0)
    fields = {name: getattr(gain_model(), name) for name in GainModel.model_fields}
    model = GainModel(**{**fields, "levels": (costs,), "gains": (((0.0, 1.0, 0.0),),)})
    wide = CropSettings(side_min_px=64, margin=2.0)
    counts = []
    for texture in (1.0, 10.0):
        asks = Planner(model, wide).plan(
            boxes,
            np.ones((1, 2), np.float32),
            np.ones(2, np.bool_),
            FRAME,
            Prices(1e-6),
            lambda _, found=texture: found,  # type: ignore[misc]
        )
        counts.append(len(asks))
    assert counts == [1, 2]


def test_what_may_not_cause_a_crop_may_lie_in_one() -> None:
    """A rider comes along where an anchor is, and never by itself."""
    boxes = [[100, 100, 120, 120], [125, 100, 140, 120], [500, 400, 520, 420]]
    asks = plan(boxes, np.ones((2, 3)), 1e-6, anchors=[True, False, False])
    assert [sorted(ask.members.tolist()) for ask in asks] == [[0, 1]]


def test_the_whole_frame_is_sent_where_it_is_cheaper() -> None:
    """Where much of it is doubtful; one doubtful thing is still a crop."""
    boxes = [[x, y, x + 60, y + 60] for x in range(0, 580, 150) for y in range(0, 420, 120)]
    gains = np.ones((2, len(boxes)))
    asks = plan(boxes, gains, 1e-6, model=gain_model(frame_share=1.0, crop_share=0.9))
    assert [ask.region for ask in asks] == [Region(0, 0, *FRAME)]
    one = plan([[100, 100, 120, 120]], np.ones((2, 1)), 1e-3, model=gain_model(frame_share=1.0))
    assert one[0].region != Region(0, 0, *FRAME)


def test_where_crops_are_never_worth_it_only_the_whole_frame_is_looked_at() -> None:
    """No crop is joined or priced, however many proposals there are."""
    boxes = np.array([[x, 100, x + 12, 112] for x in range(0, 600, 12)], np.float32)
    looked_at = []

    def look(region: Region) -> float:
        looked_at.append(region)
        return 1.0

    planner = Planner(gain_model(crop_share=0.0, frame_share=1.0), SETTINGS)
    gains, anchors = np.ones((2, len(boxes)), np.float32), np.ones(len(boxes), np.bool_)
    asks = planner.plan(boxes, gains, anchors, FRAME, Prices(1e-6), look)
    assert [ask.region for ask in asks] == [Region(0, 0, *FRAME)]
    assert looked_at == [Region(0, 0, *FRAME)]
    assert planner.plan(boxes, gains, ~anchors, FRAME, Prices(1e-6), look) == []


def test_a_level_that_the_escalator_does_not_take_is_never_chosen() -> None:
    """However well it would pay."""
    planner = Planner(gain_model(), SETTINGS)
    planner.use(np.array([False, True]))
    box = np.array([[100, 100, 120, 120]], np.float32)
    asks = planner.plan(
        box, np.ones((2, 1), np.float32), np.ones(1, np.bool_), FRAME, Prices(0.0), flat
    )
    assert [ask.level for ask in asks] == [1]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[list[float]], float]:
    """Boxes inside the frame, and a price."""
    count = draw(st.integers(1, 12))
    boxes = []
    for _ in range(count):
        x, y = draw(st.floats(0, 600)), draw(st.floats(0, 440))
        w, h = draw(st.floats(2, 300)), draw(st.floats(2, 300))
        boxes.append([x, y, min(x + w, 640), min(y + h, 480)])
    return boxes, draw(st.sampled_from([0.0, 1e-6, 1e-5, 1e-4, 1e-3]))


@given(scenes())
def test_asks_lie_in_the_frame_hold_their_members_and_are_worth_their_price(
    scene: tuple[list[list[float]], float],
) -> None:
    """Whatever the scene."""
    boxes, per_byte = scene
    gains = np.full((2, len(boxes)), [[0.2], [0.1]])
    for ask in plan(boxes, gains, per_byte):
        assert ask.region.lies_inside(*FRAME)
        assert ask.value > per_byte * ask.size_bytes
        assert ask.value == pytest.approx(gains[ask.level][ask.members].sum(), rel=1e-4)
        inside = np.array(boxes, np.float32)[ask.members]
        region = ask.region
        assert (inside[:, :2] >= [region.x1, region.y1]).all()
        assert (inside[:, 2:] <= [region.x2, region.y2]).all()


@given(
    scenes(),
    st.sampled_from([(1.0, 0.0), (0.9, 1.0), (0.0, 0.6)]),
    st.sampled_from([0.3, 1.0, 4.0]),
    st.floats(0.0, 2.0),
)
def test_nothing_is_planned_above_the_highest_bid(
    scene: tuple[list[list[float]], float],
    shares: tuple[float, float],
    size_ratio: float,
    times: float,
) -> None:
    """Of crops, and of whole frames where crops are never worth it; and whoever gains bids."""
    model = gain_model(crop_share=shares[0], frame_share=shares[1])
    planner = Planner(model, SETTINGS)
    for level in (0, 1):
        planner.learn_size(level, 1.0, size_ratio)
    boxes = np.array(scene[0], np.float32)
    gains = np.full((2, len(boxes)), [[0.2], [0.1]], np.float32)
    bids = planner.bids(boxes, gains, FRAME)
    assert (bids > 0).all()
    prices = Prices(times * float(bids.max()))
    asks = planner.plan(boxes, gains, np.ones(len(boxes), np.bool_), FRAME, prices, flat)
    assert asks == [] or times < 1


def test_where_crops_are_never_worth_it_the_offer_is_a_share_of_a_frame() -> None:
    """So that whole frames have a price, too."""
    planner = Planner(gain_model(crop_share=0.0, frame_share=0.6), SETTINGS)
    boxes = np.array([[100, 100, 120, 120], [400, 300, 420, 320]], np.float32)
    gains, anchors = np.full((2, 2), [[0.2], [0.05]], np.float32), np.ones(2, np.bool_)
    value, size, encode_s = planner.quote(boxes, gains, FRAME, Prices(0.0))
    (ask,) = planner.plan(boxes, gains, anchors, FRAME, Prices(0.0), flat)
    assert value.tolist() == pytest.approx([0.5 * ask.value] * 2)
    assert size.tolist() == pytest.approx([0.5 * ask.size_bytes] * 2, rel=1e-3)
    assert encode_s.tolist() == pytest.approx([0.5 * ask.encode_s] * 2)


def test_crops_that_turn_out_smaller_than_predicted_pay_a_higher_price() -> None:
    """What a camera's crops take is known from those that were encoded."""
    planner = Planner(gain_model(), SETTINGS)
    box = np.array([[100, 100, 300, 300]], np.float32)
    gains, anchors = np.full((2, 1), [[0.2], [0.1]], np.float32), np.ones(1, np.bool_)
    dear = Prices(1.5 * float(planner.bids(box, gains, FRAME)[0]))
    assert planner.plan(box, gains, anchors, FRAME, dear, flat) == []
    for level in (0, 1):
        planner.learn_size(level, 1.0, 0.1)
    value, size, _ = planner.quote(box, gains, FRAME, dear)
    assert value[0] > dear.per_byte * size[0]
    assert len(planner.plan(box, gains, anchors, FRAME, dear, flat)) == 1


@given(scenes())
def test_one_proposal_gets_the_region_of_crop_region(
    scene: tuple[list[list[float]], float],
) -> None:
    """The bulk version agrees with the one that both services share."""
    box = np.array(scene[0][0], np.float32)
    asks = plan([box], np.full((2, 1), 5.0), 1e-7)
    wanted = crop_region(box, margin=2.0, side_min_px=64, frame_width=640, frame_height=480)
    assert [ask.region for ask in asks] == [wanted]


def test_time_to_encode_counts_when_a_side_is_chosen() -> None:
    """Where the encoder is short, the small crop pays though the large one does not."""
    costs = {"log_bytes": math.log(0.1), "encode_s_per_megapixel": 1.4}
    model = GainModel(
        levels=(LevelCosts(level="avif45", **costs), LevelCosts(level="avif45/56", **costs)),
        score_knots=(0.0, 0.5, 1.0),
        gains=(((0.0, 0.25, 0.0),), ((0.0, 0.2, 0.0),)),
    )
    planner, box = Planner(model, CropSettings()), np.array([[100, 100, 128, 128]], np.float32)
    gains, dear = np.array([[0.25], [0.2]], np.float32), Prices(1e-6, 0.0, 5.0)
    (ask,) = planner.plan(box, gains, np.array([True]), FRAME, dear, flat)
    assert ask.level == 1


def test_crop_around_a_heavy_track_is_predicted_to_take_more() -> None:
    """So it bids less, and of two alike the other one pays."""
    planner = Planner(gain_model(), SETTINGS)
    boxes = np.array([[100, 100, 120, 120], [400, 300, 420, 320]], np.float32)
    gains, both = np.full((2, 2), [[0.2], [0.0]], np.float32), np.ones(2, np.bool_)
    heaviness = np.array([3.0, 1.0], np.float32)
    asks = planner.plan(boxes, gains, both, FRAME, Prices(0.0), flat, heaviness)
    image = [ask.size_bytes - FRAMING_BYTES - PROPOSAL_BYTES for ask in asks]
    assert [ask.members.tolist() for ask in asks] == [[1], [0]]
    assert image[1] == pytest.approx(3 * image[0], rel=0.01)
    held = planner.choose(asks[0].region, gains[:, 0], Prices(0.0), 1.0, boxes[1], 3.0)
    assert held.size_bytes == pytest.approx(asks[1].size_bytes, abs=1)
    dear = Prices(0.2 / (2 * image[0]))
    (ask,) = planner.plan(boxes, gains, both, FRAME, dear, flat, heaviness)
    assert ask.members.tolist() == [1]


def test_crops_that_were_on_their_way_together_teach_the_same() -> None:
    """They were predicted alike, before any was encoded."""
    planner = Planner(gain_model(), SETTINGS)
    for _ in range(8):
        planner.learn_size(0, 1.0, 0.25)
    assert planner.size_ratio(0) == pytest.approx(0.25)
