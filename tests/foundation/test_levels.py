"""Levels: their text, their sizes, and what is encoded at them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import ConfigError
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image
from foundation.levels import LOSSLESS_QUALITY, SIDES_PX, Level, encode_at

scales = st.floats(0, 1, exclude_min=True)
sides = st.none() | st.integers(*SIDES_PX)
lossy = st.builds(
    Level,
    st.sampled_from([Encoding.JPEG, Encoding.WEBP, Encoding.AVIF]),
    st.integers(1, 100),
    scales,
    sides,
)
levels = st.one_of(lossy, st.builds(Level, st.just(Encoding.PNG), st.just(100), scales, sides))


def ramp(width: int, height: int) -> Pixels:
    """Brighter to the right and to the bottom."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) // 2], axis=2).astype(np.uint8)


@given(levels)
def test_a_level_reads_back_from_its_text(level: Level) -> None:
    """Exactly, whatever its scale."""
    assert Level.parse(str(level)) == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("avif45@0.5", Level(Encoding.AVIF, 45, 0.5)),
        ("webp80", Level(Encoding.WEBP, 80)),
        ("jpeg100@0.25", Level(Encoding.JPEG, 100, 0.25)),
        ("png", Level(Encoding.PNG, LOSSLESS_QUALITY)),
        ("png@0.5", Level(Encoding.PNG, LOSSLESS_QUALITY, 0.5)),
        ("png/64", Level(Encoding.PNG, LOSSLESS_QUALITY, side_px=64)),
        ("avif45@0.5/4096", Level(Encoding.AVIF, 45, 0.5, 4096)),
    ],
)
def test_the_text_is_canonical(text: str, level: Level) -> None:
    """One text for one level."""
    assert Level.parse(text) == level
    assert str(level) == text


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("webp80@1/096", "webp80/96"),
        ("webp80@1", "webp80"),
        ("webp080@0.50", "webp80@0.5"),
        ("png100@1.0", "png"),
    ],
)
def test_other_ways_to_write_it_are_understood(text: str, level: str) -> None:
    """And written back in the one way."""
    assert str(Level.parse(text)) == level


@pytest.mark.parametrize(
    "text",
    [
        "",
        "avif",
        "avif@0.5",
        "45@0.5",
        "gif45",
        "AVIF45",
        "avif 45",
        "avif45 @0.5",
        "avif45@",
        "avif45/",
        "avif45/15",
        "avif45/4097",
        "avif45/-56",
        "avif45/5.6",
        "avif45/56@0.5",
        "/56",
        "avif45@0",
        "avif45@1.01",
        "avif45@-0.5",
        "avif45@nan",
        "avif45@inf",
        "avif45@1_0",
        "avif0",
        "avif101",
        "avif-1",
        "avif4.5",
        "avif\u0664\u0665",
        "png50",
        "avif45@0.5\n",
        "avif45@1e-400",
    ],
)
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    """The operator sees what was written and how it is written."""
    with pytest.raises(ConfigError) as caught:
        Level.parse(text)
    assert repr(text) in caught.value.message
    assert "avif45" in caught.value.remedy


@given(st.text(max_size=20))
def test_any_text_is_a_level_or_refused(text: str) -> None:
    """Nothing else escapes, and what is read can be written."""
    try:
        level = Level.parse(text)
    except ConfigError:
        return
    assert Level.parse(str(level)) == level


@pytest.mark.parametrize(
    ("encoding", "quality", "scale"),
    [
        (Encoding.AVIF, 0, 1.0),
        (Encoding.AVIF, 101, 1.0),
        (Encoding.PNG, 80, 1.0),
        (Encoding.WEBP, 80, 0.0),
        (Encoding.WEBP, 80, 1.5),
        (Encoding.WEBP, 80, float("nan")),
    ],
)
def test_values_out_of_range_are_refused(encoding: Encoding, quality: int, scale: float) -> None:
    """A level that exists can be encoded at."""
    with pytest.raises(ValueError, match=r"quality|scale"):
        Level(encoding, quality, scale)


@given(levels, st.integers(1, 5000), st.integers(1, 5000))
def test_shrinking_leaves_a_pixel_and_never_enlarges(level: Level, width: int, height: int) -> None:
    """However small the scale; and within half a pixel of it."""
    shrunk = level.shrunk_size(width, height)
    for side, whole in zip(shrunk, (width, height), strict=True):
        assert 1 <= side <= whole
        assert side == 1 or abs(side - whole * level.scale) <= 0.5
    assert level.scale < 1 or shrunk == (width, height)


@pytest.mark.parametrize("text", ["avif80@0.5", "webp90@0.5", "jpeg90@0.5", "png@0.5"])
@pytest.mark.parametrize("size", [(96, 64), (97, 63), (3, 200), (1, 1)])
def test_a_shrunk_crop_covers_the_same_place(text: str, size: tuple[int, int]) -> None:
    """Half the sides; every pixel is the mean of what it stands for."""
    level, whole = Level.parse(text), ramp(*size)
    found = decode_image(encode_at(whole, level), level.encoding, side_min_px=1, pixels_max=10**6)
    width, height = level.shrunk_size(*size)
    assert found.shape == (height, width, 3)
    corners = whole[[0, -1]][:, [0, -1]].astype(int)
    step = 255 // max(1, min(size)) + 12
    assert np.abs(found[[0, -1]][:, [0, -1]].astype(int) - corners).max() <= 3 * step


def test_shrinking_averages_areas() -> None:
    """A checkerboard becomes grey, not black or white."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    data = encode_at(pixels, Level.parse("png@0.5"))
    found = decode_image(data, Encoding.PNG, side_min_px=1, pixels_max=10**6)
    assert ((found == 127) | (found == 128)).all()


@given(lossy)
def test_native_resolution_is_the_plain_encoding(level: Level) -> None:
    """A scale of one changes no byte."""
    native = Level(level.encoding, level.quality)
    whole = ramp(40, 30)
    assert encode_at(whole, native) == encode_image(whole, native.encoding, native.quality)


def test_views_shrink_like_copies() -> None:
    """A crop is a view into its frame, and the frame stays as it is."""
    frame = ramp(200, 200)
    before, view = frame.copy(), frame[20:84, 30:126]
    level = Level.parse("png@0.5")
    assert encode_at(view, level) == encode_at(view.copy(), level)
    np.testing.assert_array_equal(frame, before)


def test_no_pixels_cannot_be_encoded() -> None:
    """An empty crop is the caller's bug, with its shape."""
    with pytest.raises(ValueError, match=r"\(0, 5, 3\)"):
        encode_at(np.zeros((0, 5, 3), np.uint8), Level.parse("avif45@0.5"))
