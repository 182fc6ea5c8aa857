from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from foundation.clock import SystemClock
from foundation.errors import ConfigError
from foundation.levels import Level, encode_at
from replay.answers import Answers, Ask, encoders_digest, inside_of, whole_ask
from replay.outcomes import Outcomes
from tests.replay.pair import (
    cloud_bundle,
    edge_bundle,
    open_answers,
    other_labels,
    read,
    write_material,
)


def test_what_was_answered_once_needs_neither_pixels_nor_models_again(tmp_path: Path) -> None:
    """The cache outlives the run, and the pictures."""
    path = write_material(tmp_path / "val", images=2)
    frame = read(path, tmp_path).frames[0]
    ask = Ask((8, 8, 120, 100), "webp80")
    with open_answers(tmp_path) as answers:
        first = answers.edge(frame), answers.whole(frame), answers.answer(frame, ask)
        size = answers.image(frame, ask)
        texture = answers.texture(frame, ask.place)
    frame.path.unlink()
    with open_answers(tmp_path) as answers:
        again = answers.edge(frame), answers.whole(frame), answers.answer(frame, ask)
        assert answers.image(frame, ask) == size
        assert answers.texture(frame, ask.place) == texture
        with pytest.raises(ConfigError, match="cannot be read"):
            answers.answer(frame, whole_ask(frame, "webp80"))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.class_ids, other.class_ids)
    assert len(first[1]) > 0


def test_the_cloud_sees_the_decoded_crop_and_answers_in_the_frame(outcomes: Outcomes) -> None:
    """A crop that is shrunk is put back in its place, and no box leaves it."""
    answers, frame = outcomes.answers, outcomes.frames[0]
    region = (16, 8, 144, 120)
    for level in ("png", "webp80@0.5"):
        found = answers.answer(frame, Ask(region, level))
        assert (found.boxes[:, :2] >= [16, 8]).all()
        assert (found.boxes[:, 2:] <= [144, 120]).all()


def test_bytes_are_those_of_the_message_with_its_proposals(outcomes: Outcomes) -> None:
    """The image is most of it; proposals inside the region, and they alone, add to it."""
    answers, frame = outcomes.answers, outcomes.frames[0]
    ask = Ask((0, 0, 80, 128), "webp80")
    found = outcomes.edge[0]
    inside = inside_of(found, ask.place)
    assert 0 < inside.sum() < len(found)
    image = len(encode_at(frame.read()[0:128, 0:80], Level.parse("webp80")))
    nothing = answers.wire_bytes(frame, ask, found.take(np.zeros(0, np.intp)))
    assert image + 100 < nothing < image + 300
    assert answers.wire_bytes(frame, ask, found.take(~inside)) == nothing
    each = (answers.wire_bytes(frame, ask, found) - nothing) / inside.sum()
    assert 25 < each < 60


def test_bundles_of_different_tasks_are_refused(tmp_path: Path) -> None:
    """Their answers could not be compared."""
    with pytest.raises(ConfigError, match="differ in number, name or order"):
        Answers(tmp_path / "answers.sqlite", edge_bundle(), other_labels(), SystemClock())


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    """It is not overwritten either."""
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    with (
        pytest.raises(ConfigError, match="cannot be used"),
        Answers(path, edge_bundle(), cloud_bundle(), SystemClock()),
    ):
        pass
    assert path.read_bytes().startswith(b"something else")


def test_an_answer_to_what_another_encoder_made_is_another_answer(tmp_path: Path) -> None:
    """The key names how images are encoded, which a level does not say."""
    path = write_material(tmp_path / "val", images=1)
    frame = read(path, tmp_path).frames[0]
    with open_answers(tmp_path) as answers:
        answers.image(frame, whole_ask(frame, "webp80"))
    with sqlite3.connect(tmp_path / "answers.sqlite") as store:
        (key,) = store.execute("SELECT key FROM images").fetchone()
    store.close()
    assert key.endswith(f"|webp80|{encoders_digest()}")
