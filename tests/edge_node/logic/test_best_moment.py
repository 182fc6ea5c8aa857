"""With which pixels a track is asked about: those of the frame that showed it best."""

from __future__ import annotations

import numpy as np
import pytest

from edge_node.logic.moments import MOMENTS_MAX
from edge_node.logic.rhythm import PERIOD_NS
from edge_node.values import Reason
from foundation.escalations import Region
from foundation.gains import GainModel, LevelCosts, variance_gains
from tests.edge_node.logic.policies import FRAME_NS, PostedPrice, consider, policy, textured
from tests.edge_node.logic.scene import HEIGHT, NOW_NS, WIDTH, rows_of


def at_ns(sequence: int) -> int:
    """The instant of a frame of a slow camera, which has time to look at tracks with each."""
    return NOW_NS + sequence * 2 * PERIOD_NS


def test_best_moment_is_sent_once_the_track_is_cut_or_hides() -> None:
    """With that frame's number, instant, box and pixels; the present frame shows less."""
    sharp = textured(590, 390, 630, 430, contrast=80)
    for after in ({"box": (0, 400, 9, 412)}, {"coasted": 1, "box": (640, 400, 652, 412)}):
        asking = policy(min_track_frames=30)
        rows = rows_of({})
        assert consider(asking, rows, 10, pixels=sharp) == []
        assert len(asking.moments) == 1
        rows["offered"] = True
        for name, value in after.items():
            rows[name][0] = value
        rows["seen_box"][0] = rows["box"][0]
        later_ns = NOW_NS + 10 * FRAME_NS
        (decision,) = consider(asking, rows, 20, now_ns=later_ns)
        moment = decision.moment
        assert moment is not None
        assert (moment.sequence, moment.captured_at_ns) == (10, NOW_NS)
        assert moment.box.tolist() == [600, 400, 612, 412]
        assert decision.reason is Reason.LEAVING
        assert decision.ask.region == moment.region
        region = moment.region
        assert (moment.pixels == sharp[region.y1 : region.y2, region.x1 : region.x2]).all()
        assert len(asking.moments) == 0
        assert rows["held_merit"].tolist() == [0]


def test_of_a_moment_no_more_is_sent_than_its_level_shows() -> None:
    """It was held with all the surroundings that any level may want."""
    sharp = textured(590, 390, 630, 430, contrast=80)
    levels = [LevelCosts(level="webp80"), LevelCosts(level="webp80/48")]
    aim = PostedPrice()
    aim.per_byte = 1e-6
    asking = policy(model=variance_gains(levels), aim=aim.of, min_track_frames=30)
    rows = rows_of({})
    assert consider(asking, rows, 10, pixels=sharp) == []
    rows["offered"] = True
    rows["box"] = rows["seen_box"] = (0, 400, 9, 412)
    (decision,) = consider(asking, rows, 20, now_ns=NOW_NS + 10 * FRAME_NS)
    assert decision.moment is not None
    assert (decision.moment.region.width, decision.ask.region) == (192, Region(582, 382, 630, 430))
    assert (decision.moment.cut(decision.ask.region) == sharp[382:430, 582:630]).all()


def test_held_moment_of_a_heavy_track_is_predicted_to_take_more() -> None:
    """By what a crop of it has taken."""
    sizes = []
    for heaviness in (1.0, 3.0):
        asking, rows = policy(min_track_frames=30), rows_of({})
        sharp = textured(590, 390, 630, 430, contrast=80)
        assert consider(asking, rows, 10, pixels=sharp) == []
        rows["offered"] = True
        rows["box"] = rows["seen_box"] = (0, 400, 9, 412)
        rows["heaviness"], rows["forgone_at_ns"] = heaviness, NOW_NS + 10 * FRAME_NS
        (decision,) = consider(asking, rows, 20, now_ns=NOW_NS + 10 * FRAME_NS)
        assert decision.moment is not None
        sizes.append(decision.ask.image_bytes)
        assert decision.ask.heaviness == heaviness
    assert sizes[1] == pytest.approx(3 * sizes[0], rel=0.01)


def test_blurred_track_is_asked_about_with_its_sharp_moment() -> None:
    """While it is in view and whole, but no longer seen well."""
    asking = policy(min_track_frames=15)
    rows = rows_of({})
    assert consider(asking, rows, 10, pixels=textured(590, 390, 630, 430, contrast=80)) == []
    (decision,) = consider(asking, rows, 20, pixels=textured(590, 390, 630, 430, contrast=3))
    assert decision.moment is not None
    assert decision.moment.sequence == 10


def test_moment_that_is_worth_its_price_is_sent_though_the_present_frame_is_not() -> None:
    """It was held of the small track; the large one is refused, then cut by the border."""
    aim = PostedPrice()
    asking = policy(aim=aim.of, min_track_frames=5)
    rows = rows_of({"first_sequence": 8})
    assert consider(asking, rows, 9, pixels=textured(590, 390, 630, 430, contrast=80)) == []
    aim.per_byte = 2e-5
    rows["box"] = rows["seen_box"] = (400, 300, 900, 800)
    for frame in range(20, 30):
        assert consider(asking, rows, frame, now_ns=NOW_NS + frame * FRAME_NS) == []
    rows["box"] = rows["seen_box"] = (400, 460, 900, 960)
    sent = [
        decision.ask.region.width
        for frame in range(30, 40)
        for decision in consider(asking, rows, frame, now_ns=NOW_NS + frame * FRAME_NS)
    ]
    assert sent == [192]


def test_blurred_track_is_sent_as_it_is_where_crops_are_never_worth_it() -> None:
    """What was held of it is a crop."""
    whole = variance_gains([LevelCosts(level="webp80")], crop_share=0.0, frame_share=1.0)
    asking = policy(model=whole, min_track_frames=15)
    rows = rows_of({})
    assert consider(asking, rows, 10, pixels=textured(590, 390, 630, 430, contrast=80)) == []
    (decision,) = consider(asking, rows, 20, pixels=textured(590, 390, 630, 430, contrast=3))
    assert decision.moment is None
    assert decision.ask.region.width == WIDTH


def test_better_moment_replaces_the_held_one_and_a_worse_one_does_not() -> None:
    """Better by enough to be worth the copy."""
    asking = policy(min_track_frames=30)
    rows = rows_of({})
    merits = []
    for sequence, contrast in ((10, 20), (11, 10), (12, 21), (13, 80)):
        place = textured(590, 390, 630, 430, contrast=contrast)
        assert consider(asking, rows, sequence, now_ns=at_ns(sequence), pixels=place) == []
        moment = asking.moments.of(1)
        assert moment is not None
        merits.append(moment.sequence)
    assert merits == [10, 10, 10, 13]


def test_moments_are_bounded_and_what_finds_no_room_is_counted() -> None:
    """Sixty-four crops at most, whatever comes."""
    asking = policy(min_track_frames=1000)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    places = [(30 * x + 20.0, 40 * y + 20.0) for x in range(10) for y in range(8)]
    rows = rows_of(*({"box": (x, y, x + 12, y + 12)} for x, y in places))
    for sequence in range(10, 400):
        consider(asking, rows, sequence, now_ns=at_ns(sequence), pixels=noise)
    assert len(asking.moments) == MOMENTS_MAX
    assert np.count_nonzero(rows["held_merit"]) == MOMENTS_MAX
    assert asking.moments.refused > 0


def test_track_that_is_not_seen_whole_takes_no_turn_and_no_room() -> None:
    """However much an answer about it would gain: there is no moment to be had of it."""
    noise = textured(0, 0, WIDTH, HEIGHT, contrast=80)
    cut = {"box": (0, 40, 12, 52), "score": 0.5, "best_score": 0.5}
    places = [(30.0 * (n % 10) + 20, 40.0 * (n // 10) + 400) for n in range(70)]
    rows = rows_of(cut, *({"box": (x, y, x + 12, y + 12)} for x, y in places))
    asking = policy(min_track_frames=1000)
    consider(asking, rows, 10, now_ns=at_ns(10), pixels=noise)
    assert len(asking.moments) == 2
    cut_too = rows_of(*[cut] * 3)
    for frame in range(11, 400):
        consider(asking, rows, frame, now_ns=at_ns(frame), pixels=noise)
    asking.moments.refused = 0
    consider(asking, cut_too, 400, now_ns=at_ns(400), pixels=noise)
    assert asking.moments.full
    assert asking.moments.refused == 0


def test_new_track_among_many_is_looked_at_soon() -> None:
    """It may be gone by the time that all the others have had their turn."""
    asking = policy(min_track_frames=1000)
    noise = textured(0, 0, WIDTH, HEIGHT, contrast=80)
    places = [(60.0 * (n % 10) + 20, 60.0 * (n // 10) + 400) for n in range(31)]
    rows = rows_of(*({"box": (x, y, x + 12, y + 12)} for x, y in places))
    for frame in range(10, 110):
        consider(asking, rows[:30], frame, now_ns=at_ns(frame), pixels=noise)
    assert len(asking.moments) == 30
    for frame in range(110, 113):
        consider(asking, rows, frame, now_ns=at_ns(frame), pixels=noise)
    assert asking.moments.of(31) is not None


def test_track_that_the_audit_will_draw_is_held_though_nothing_is_expected_of_the_answer() -> None:
    """A learned model may expect a loss where the edge is sure; the draw knows nothing of that."""
    learned = GainModel(
        levels=(LevelCosts(level="webp80"),),
        score_knots=(0.0, 0.5, 0.9, 1.0),
        gains=(((0.0, 0.25, -0.02, -0.05),),),
    )
    asking = policy(model=learned, foresees=lambda track_id: track_id > 0)
    noise = textured(0, 0, WIDTH, HEIGHT, contrast=80)
    rows = rows_of({"score": 0.95, "best_score": 0.98})
    for frame in range(10, 20):
        assert consider(asking, rows, frame, now_ns=at_ns(frame), pixels=noise) == []
    assert asking.moments.of(1) is not None


def test_tracks_that_the_audit_will_draw_are_held_and_not_asked() -> None:
    """Each is looked up once, so that the lottery costs nothing per frame."""
    looked_up: list[int] = []

    def foresees(track_id: int) -> bool:
        looked_up.append(track_id)
        return track_id % 2 == 0

    sure = {"score": 0.9, "best_score": 0.95}
    asking = policy(foresees=foresees)
    noise = textured(0, 0, WIDTH, HEIGHT, contrast=80)
    rows = rows_of(sure, {**sure, "box": (100, 100, 110, 110)})
    for sequence in range(10, 20):
        assert consider(asking, rows, sequence, pixels=noise) == []
    assert looked_up == [1, 2]
    assert asking.moments.of(1) is None
    assert asking.moments.of(2) is not None
