"""What a verdict says about the tracks in its crop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_node.config import FusionSettings
from edge_node.logic.fuse import judge, shift_to_present
from edge_node.values import Effect, Subject
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
    moved = shift_to_present(
        np.array([10, 10, 20, 20], np.float32),
        np.array([8, 8, 22, 22], np.float32),
        np.array([108, 28, 122, 42], np.float32),
    )
    assert moved.tolist() == [110, 30, 120, 40]


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
    findings = effects(*subjects, cloud=detections)
    used = [detection for _, _, detection in findings if detection >= 0]
    assert len(used) == len(set(used))
    for number, each in enumerate(subjects):
        about = [effect for effect, position, _ in findings if position == number]
        assert len(about) == 1 if each.asked else len(about) <= 1
