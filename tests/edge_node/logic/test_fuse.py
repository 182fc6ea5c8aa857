"""What a verdict says about the tracks in its crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import FusionSettings
from edge_node.logic.fuse import (
    BOXES_MAX,
    agreed_scores,
    judge,
    shift_to_present,
)
from edge_node.logic.fuse_still import border_gaps, contexts
from edge_node.values import Effect, IgnoredPart, Standing, Subject
from foundation.escalations import LabelledBoxes, Region
from tests.edge_node.logic.scene import HEIGHT, WIDTH, found, question

RULES = FusionSettings()
REGION = Region(500, 300, 692, 492)


def subject(
    x: float, y: float, *, label: str = "open", asked: bool = True, side: float = 12, id_: int = 1
) -> Subject:
    """A track by its centre."""
    half = side / 2
    box = np.array([x - half, y - half, x + half, y + half], np.float32)
    return Subject(id_, box, label, 0.4, asked)


def effects(
    *subjects: Subject, cloud: LabelledBoxes, region: Region = REGION
) -> list[tuple[Effect, int, int]]:
    """The findings as (effect, subject, detection)."""
    findings = judge(question(*subjects, region=region), cloud, RULES).findings
    return [(f.effect, f.subject, f.detection) for f in findings]


def test_same_class_in_the_same_place_confirms() -> None:
    """Even when the two boxes hardly overlap, as tiny ones do."""
    cloud = found((601, 398, 609, 406, 0.9, "open"))
    assert effects(subject(600, 400), cloud=cloud) == [(Effect.CONFIRMED, 0, 0)]


def test_other_class_in_the_same_place_reclassifies() -> None:
    """The cloud knows better."""
    cloud = found((594, 394, 606, 406, 0.9, "short"))
    assert effects(subject(600, 400), cloud=cloud) == [(Effect.RECLASSIFIED, 0, 0)]


def test_nothing_in_the_place_refutes() -> None:
    """An empty answer is an answer."""
    assert effects(subject(600, 400), cloud=LabelledBoxes.empty()) == [(Effect.REFUTED, 0, -1)]


def test_bystander_is_never_refuted() -> None:
    """A crop that was not cut around it says nothing by silence."""
    assert effects(subject(600, 400, asked=False), cloud=LabelledBoxes.empty()) == []


def test_bystander_is_confirmed_too() -> None:
    """A verdict counts for every track in the crop."""
    cloud = found((594, 394, 606, 406, 0.9, "open"), (644, 444, 656, 456, 0.8, "spur"))
    assert effects(subject(600, 400), subject(650, 450, asked=False), cloud=cloud) == [
        (Effect.CONFIRMED, 0, 0),
        (Effect.RECLASSIFIED, 1, 1),
    ]


def test_agreeing_label_wins_over_a_slightly_nearer_one() -> None:
    """Of two detections near a proposal the one of its class is its own."""
    cloud = found((596, 396, 606, 406, 0.9, "short"), (592, 392, 604, 404, 0.9, "open"))
    assert effects(subject(600, 400), cloud=cloud)[0] == (Effect.CONFIRMED, 0, 1)


def test_further_whole_object_is_added() -> None:
    """What the edge never proposed."""
    cloud = found((594, 394, 606, 406, 0.9, "open"), (560, 350, 572, 362, 0.8, "spur"))
    assert (Effect.ADDED, -1, 1) in effects(subject(600, 400), cloud=cloud)


def test_object_cut_by_the_crop_is_not_added() -> None:
    """It would be half an object; its own crop may come."""
    cloud = found((500, 350, 508, 362, 0.8, "spur"))
    assert (Effect.ADDED, -1, 0) not in effects(subject(600, 400), cloud=cloud)


def test_object_cut_by_the_frame_is_added() -> None:
    """Where the frame ends nobody will ever see more of it."""
    region = Region(WIDTH - 192, HEIGHT - 192, WIDTH, HEIGHT)
    cloud = found((WIDTH - 12, 850, WIDTH, 862, 0.8, "spur"))
    assert effects(cloud=cloud, region=region) == [(Effect.ADDED, -1, 0)]


def test_object_cut_by_the_frame_is_not_added_where_the_scene_moves() -> None:
    """On a belt it is about to come into view, and what is half a pad looks like a short."""
    region = Region(WIDTH - 192, HEIGHT - 192, WIDTH, HEIGHT)
    cloud = found(
        (WIDTH - 12, 850, WIDTH, 862, 0.8, "spur"), (WIDTH - 60, 850, WIDTH - 48, 862, 0.8, "spur")
    )
    judged = judge(question(region=region, scene_moves=True), cloud, RULES)
    assert [f.detection for f in judged.findings] == [1]
    assert judged.ignored == {IgnoredPart.CUT: 1}


def test_second_detection_of_one_object_is_not_added() -> None:
    """The cloud may name one thing twice."""
    cloud = found((594, 394, 606, 406, 0.9, "open"), (595, 394, 607, 406, 0.6, "spur"))
    assert effects(subject(600, 400), cloud=cloud) == [(Effect.CONFIRMED, 0, 0)]
    twice = found((560, 350, 572, 362, 0.8, "spur"), (561, 350, 573, 362, 0.5, "open"))
    assert effects(cloud=twice) == [(Effect.ADDED, -1, 0)]


def test_part_of_a_large_object_is_added() -> None:
    """A number plate on a car is an object of its own."""
    cloud = found((510, 310, 680, 480, 0.9, "open"), (590, 390, 602, 402, 0.9, "spur"))
    car = subject(595, 395, side=170)
    assert (Effect.ADDED, -1, 1) in effects(car, cloud=cloud)


def test_weak_detection_is_ignored_by_setting() -> None:
    """Below fusion.verdict_score_min."""
    cloud = found((594, 394, 606, 406, 0.3, "open"))
    rules = FusionSettings(verdict_score_min=0.5)
    findings = judge(question(subject(600, 400), region=REGION), cloud, rules).findings
    assert [f.effect for f in findings] == [Effect.REFUTED]


def test_box_is_shifted_by_the_motion_of_its_track() -> None:
    """The centre's displacement since capture, whatever the sizes."""
    moved = shift_to_present((10, 10, 20, 20), (8, 8, 22, 22), (108, 28, 122, 42))
    assert moved == (110, 30, 120, 40)


def test_cut_box_of_the_same_class_confirms_and_says_nothing_about_the_place() -> None:
    """What is seen of it is of its class, and where it ends is not seen."""
    cloud = found((500, 390, 580, 440, 0.9, "open"))
    judged = judge(question(subject(540, 415, side=60), region=REGION), cloud, RULES)
    assert [(f.effect, f.standing.whole) for f in judged.findings] == [(Effect.CONFIRMED, False)]


def test_cut_box_of_another_class_leaves_undecided() -> None:
    """It is no reason to refute, nor to call the track something else."""
    cloud = found((500, 390, 580, 440, 0.9, "short"))
    assert effects(subject(540, 415, side=60), cloud=cloud) == [(Effect.UNDECIDED, 0, 0)]
    assert effects(subject(540, 415, side=60, asked=False), cloud=cloud) == []


def test_large_cut_neighbour_of_another_class_does_not_save_a_track() -> None:
    """A board at the crop's border covers every defect on it."""
    cloud = found((500, 300, 690, 492, 0.9, "short"))
    judged = judge(question(subject(600, 400), region=REGION), cloud, RULES)
    assert [f.effect for f in judged.findings] == [Effect.REFUTED]
    assert judged.ignored == {IgnoredPart.CUT: 1}


def test_whole_box_goes_before_a_cut_one() -> None:
    """However good the cut one's score."""
    cloud = found((500, 391, 565, 439, 0.99, "open"), (512, 387, 568, 443, 0.5, "open"))
    assert effects(subject(540, 415, side=60), cloud=cloud) == [(Effect.CONFIRMED, 0, 1)]


def test_track_that_the_crop_shows_in_part_is_at_most_confirmed() -> None:
    """And what the crop shows of it is no new object."""
    half_out = subject(500, 400, side=40, asked=False)
    agreeing = found((503, 382, 520, 419, 0.9, "open"))
    judged = judge(question(half_out, region=REGION), agreeing, RULES)
    assert [(f.effect, f.standing.whole) for f in judged.findings] == [(Effect.CONFIRMED, False)]
    assert effects(half_out, cloud=found((503, 382, 520, 419, 0.9, "spur"))) == []


def test_track_that_the_crop_does_not_show_is_left_alone() -> None:
    """A yardstick may name all tracks of the frame."""
    assert effects(subject(100, 100, asked=False), cloud=found((560, 350, 572, 362, 0.8, "spur")))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ((NAN, 394, 606, 406, 0.9, "open"), IgnoredPart.MALFORMED),
        ((594, 394, INF, 406, 0.9, "open"), IgnoredPart.MALFORMED),
        ((606, 394, 594, 406, 0.9, "open"), IgnoredPart.MALFORMED),
        ((594, 394, 594, 406, 0.9, "open"), IgnoredPart.MALFORMED),
        ((594, 394, 606, 406, NAN, "open"), IgnoredPart.MALFORMED),
        ((594, 394, 606, 406, 1.5, "open"), IgnoredPart.MALFORMED),
        ((594, 394, 606, 406, -0.1, "open"), IgnoredPart.MALFORMED),
        ((100, 100, 112, 112, 0.9, "open"), IgnoredPart.OUTSIDE_CROP),
        ((-5000, -5000, -4000, -4000, 0.9, "open"), IgnoredPart.OUTSIDE_CROP),
        ((1e30, 1e30, 2e30, 2e30, 0.9, "open"), IgnoredPart.OUTSIDE_CROP),
        ((560, 350, 1e38, 1e38, 0.9, "open"), IgnoredPart.CUT),
    ],
)
@pytest.mark.filterwarnings("error")
def test_unusable_box_is_counted_and_nothing_else(
    row: tuple[float, float, float, float, float, str], cause: IgnoredPart
) -> None:
    """The good box beside it counts."""
    cloud = found(row, (594, 394, 606, 406, 0.8, "open"))
    judged = judge(question(subject(600, 400), region=REGION), cloud, RULES)
    assert [(f.effect, f.detection) for f in judged.findings] == [(Effect.CONFIRMED, 1)]
    assert judged.ignored == {cause: 1}
    assert np.isfinite(judged.boxes).all()


def test_ten_thousand_boxes_are_bounded_to_the_best() -> None:
    """The rest is counted, and the best of all is among those considered."""
    rng = np.random.default_rng(0)
    corners = rng.uniform([500, 300], [680, 480], (10_000, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 8], axis=1)
    boxes[7777] = (594, 394, 606, 406)
    scores = rng.uniform(0.1, 0.9, 10_000).astype(np.float32)
    scores[7777] = 0.95
    cloud = LabelledBoxes(boxes, scores, ("open",) * 10_000)
    judged = judge(question(subject(600, 400), region=REGION), cloud, RULES)
    assert (judged.findings[0].effect, judged.findings[0].detection) == (Effect.CONFIRMED, 7777)
    assert judged.ignored[IgnoredPart.EXCESS] == 10_000 - BOXES_MAX
    assert len(judged.findings) + judged.ignored.total() == 10_000


def test_context_is_the_distance_to_the_nearest_border_that_hides_something() -> None:
    """In sides of the box, one at most; the frame's own border hides nothing."""
    boxes = np.array([[510, 310, 530, 330], [600, 400, 612, 412], [0, 0, 20, 20]], np.float32)
    gaps = border_gaps(boxes, REGION, (WIDTH, HEIGHT))
    assert contexts(boxes, gaps).tolist() == [0.5, 1.0, 0.0]
    corner = border_gaps(boxes[2:], Region(0, 0, 60, 60), (WIDTH, HEIGHT))
    assert contexts(boxes[2:], corner).tolist() == [1.0]


def test_standing_prefers_context_then_the_later_frame_then_resolution() -> None:
    """And what is whole before all."""
    ranked = [
        Standing(False, True, 9, 1.0, -100, 0.9, "a"),
        Standing(True, False, 9, 0.1, -100, 0.9, "a"),
        Standing(True, True, 5, 0.5, -100, 0.9, "a"),
        Standing(True, True, 5, 1.0, -400, 0.9, "a"),
        Standing(True, True, 5, 1.0, -100, 0.9, "a"),
        Standing(True, True, 6, 0.3, -400, 0.1, "a"),
    ]
    assert sorted(ranked, reverse=True) == ranked[::-1]


def test_agreement_raises_and_never_passes_one() -> None:
    """By three tenths of the doubt that is left, at an edge that is sure."""
    raised = agreed_scores(np.array([0, 1, 1], np.float32), np.array([0.8, 0.8, 1], np.float32))
    assert raised == pytest.approx([0.8, 0.86, 1.0])


PLACES = st.tuples(st.floats(500, 680), st.floats(300, 480), st.sampled_from(["open", "short"]))


@given(st.lists(PLACES, max_size=6), st.lists(PLACES, max_size=8), st.data())
def test_every_asked_subject_gets_exactly_one_finding(
    tracks: list[tuple[float, float, str]],
    cloud: list[tuple[float, float, str]],
    data: st.DataObject,
) -> None:
    """And no detection is used twice, whatever the cloud says."""
    subjects = [
        subject(x, y, label=label, asked=data.draw(st.booleans()), id_=number)
        for number, (x, y, label) in enumerate(tracks)
    ]
    detections = found(*[(x - 6, y - 6, x + 6, y + 6, 0.9, label) for x, y, label in cloud])
    judged = judge(question(*subjects, region=REGION), detections, RULES)
    findings = [(f.effect, f.subject, f.detection) for f in judged.findings]
    used = [detection for _, _, detection in findings if detection >= 0]
    whole = [f.detection for f in judged.findings if f.detection >= 0 and f.standing.whole]
    assert len(whole) == len(set(whole))
    assert len(set(used)) + judged.ignored.total() == len(detections)
    for number, each in enumerate(subjects):
        about = [effect for effect, position, _ in findings if position == number]
        assert len(about) == 1 if each.asked else len(about) <= 1
