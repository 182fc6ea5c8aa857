"""Crops on their way over the network: round trips, and bytes that nobody should trust."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import RejectedError, RejectReason
from foundation.escalations import Encoding
from foundation.frames import Pixels
from foundation.images import decode_image, encode_image
from tests.support.avif_files import claim_in_container, claim_in_stream

ALL = pytest.mark.parametrize("encoding", list(Encoding))
HUGE = 10_000
"""A side; its square is a hundred megapixels."""


def picture(width: int = 96, height: int = 64) -> Pixels:
    """A smooth colourful picture with a pure blue top left corner."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2)
    pixels[: height // 4, : width // 4] = (255, 0, 0)
    return pixels.astype(np.uint8)


def decode(
    data: bytes, encoding: Encoding, *, side_min_px: int = 1, pixels_max: int = 1_000_000
) -> Pixels:
    """Decodes with generous limits."""
    return decode_image(data, encoding, side_min_px=side_min_px, pixels_max=pixels_max)


def reason_of(data: bytes, encoding: Encoding) -> RejectReason:
    """Why it is rejected; the test fails where it is not."""
    with pytest.raises(RejectedError) as caught:
        decode(data, encoding)
    assert caught.value.message
    return caught.value.reason


def rgb(pixels: Pixels) -> Pixels:
    """As Pillow wants it."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


def saved(encoding: Encoding, image: PIL.Image.Image, **options: object) -> bytes:
    """What Pillow writes, which can do more than a crop needs."""
    buffer = io.BytesIO()
    image.save(buffer, encoding.name, **options)
    return buffer.getvalue()


def animation(encoding: Encoding) -> bytes:
    """The picture, and noise after it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    frames = [PIL.Image.fromarray(one) for one in (rgb(picture()), noise, noise[::-1])]
    return saved(encoding, frames[0], save_all=True, append_images=frames[1:], quality=95)


def huge_png() -> bytes:
    """A PNG of a few dozen bytes that claims a hundred megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def huge_jpeg() -> bytes:
    """A small JPEG whose header claims a hundred megapixels."""
    data = bytearray(encode_image(picture(), Encoding.JPEG, 90))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", HUGE, HUGE)
    return bytes(data)


def huge_webp() -> bytes:
    """A small lossy WebP whose header claims a hundred megapixels."""
    data = bytearray(encode_image(picture(), Encoding.WEBP, 80))
    start = data.index(b"\x9d\x01\x2a") + 3
    data[start : start + 4] = struct.pack("<HH", HUGE, HUGE)
    return bytes(data)


def huge_avif() -> bytes:
    """A small AVIF whose container and stream both claim a hundred megapixels."""
    data = bytearray(encode_image(picture(), Encoding.AVIF, 80))
    claim_in_container(data, HUGE, HUGE)
    claim_in_stream(data, HUGE, HUGE)
    return bytes(data)


# --- what is sound --------------------------------------------------------------------------------


def test_png_loses_nothing() -> None:
    """Every pixel in BGR, as it was."""
    data = encode_image(picture(), Encoding.PNG, 100)
    np.testing.assert_array_equal(decode(data, Encoding.PNG), picture())


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP, Encoding.AVIF])
def test_lossy_encodings_stay_close(encoding: Encoding) -> None:
    """BGR, not RGB, within what quality 95 loses; a lower quality is smaller."""
    data = encode_image(picture(), encoding, 95)
    found = decode(data, encoding)
    assert found.dtype == np.uint8
    assert found.shape == (64, 96, 3)
    assert np.abs(found.astype(int) - picture().astype(int)).mean() < 6
    assert found[4, 4, 0] > 200
    assert found[4, 4, 2] < 60
    assert len(encode_image(picture(), encoding, 30)) < len(data)


@ALL
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 2), (17, 9)])
def test_small_images_survive(encoding: Encoding, size: tuple[int, int]) -> None:
    """Down to a single pixel."""
    pixels = np.full((size[1], size[0], 3), 130, np.uint8)
    found = decode(encode_image(pixels, encoding, 95), encoding)
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - 130).max() <= 4


@ALL
def test_views_encode_like_copies(encoding: Encoding) -> None:
    """A crop is a view into its frame."""
    frame = picture(200, 200)
    view = frame[20:84, 30:126]
    assert encode_image(view, encoding, 90) == encode_image(view.copy(), encoding, 90)


@ALL
def test_no_pixels_cannot_be_encoded(encoding: Encoding) -> None:
    """An empty crop is the caller's bug, with its shape."""
    with pytest.raises(ValueError, match=r"\(0, 5, 3\)"):
        encode_image(np.zeros((0, 5, 3), np.uint8), encoding, 90)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stated_orientation_is_ignored(orientation: int) -> None:
    """Boxes are in pixels as stored; turning the picture would move them.

    AVIF states it by transformations of the container; no other format can without notes.
    """
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = saved(Encoding.AVIF, PIL.Image.fromarray(rgb(picture())), quality=95, exif=exif)
    found = decode(data, Encoding.AVIF)
    assert found.shape == (64, 96, 3)
    assert np.abs(found.astype(int) - picture().astype(int)).mean() < 6


@ALL
@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_notes_of_a_camera_are_refused(encoding: Encoding, kind: str) -> None:
    """They can take longer to read than the picture, and their readers are many."""
    exif = PIL.Image.Exif()
    exif[0x010E] = "a crop"
    notes: dict[str, object] = {kind: exif if kind == "exif" else b"<x:xmpmeta/>"}
    if encoding is Encoding.PNG and kind == "xmp":
        text = PIL.PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>")
        notes = {"pnginfo": text}
    image = PIL.Image.fromarray(rgb(picture()))
    decode(saved(encoding, image), encoding)
    assert reason_of(saved(encoding, image, **notes), encoding) is RejectReason.NOT_AN_IMAGE


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_other_kinds_of_png_become_bgr(mode: str) -> None:
    """Grey, palette, transparency, 16 bits."""
    found = decode(saved(Encoding.PNG, PIL.Image.new(mode, (20, 10))), Encoding.PNG)
    assert found.shape == (10, 20, 3)
    assert found.dtype == np.uint8


@pytest.mark.parametrize("encoding", [Encoding.JPEG, Encoding.WEBP, Encoding.AVIF])
def test_grey_becomes_bgr(encoding: Encoding) -> None:
    """Three equal channels, as bright as it was."""
    grey = np.repeat(picture()[:, :, 1:2], 3, axis=2)
    found = decode(saved(encoding, PIL.Image.fromarray(grey[:, :, 0]), quality=95), encoding)
    assert np.abs(found.astype(int) - grey.astype(int)).mean() < 3
    assert np.ptp(found.astype(int), axis=2).max() <= 2


@pytest.mark.parametrize("depth", [10, 12])
def test_deep_avif_becomes_eight_bits(depth: int) -> None:
    """More bits than eight are rounded, not taken for other colours."""
    options = [cv2.IMWRITE_AVIF_QUALITY, 95, cv2.IMWRITE_AVIF_DEPTH, depth]
    deep = picture().astype(np.uint16) << depth - 8
    data = cv2.imencode(".avif", deep, options)[1].tobytes()
    found = decode(data, Encoding.AVIF)
    assert np.abs(found.astype(int) - picture().astype(int)).mean() < 6


@pytest.mark.parametrize("encoding", [Encoding.WEBP, Encoding.AVIF])
def test_an_alpha_plane_is_refused(encoding: Encoding) -> None:
    """It is a second picture."""
    image = PIL.Image.fromarray(np.dstack([rgb(picture()), np.full((64, 96), 200, np.uint8)]))
    assert reason_of(saved(encoding, image), encoding) is RejectReason.NOT_AN_IMAGE


def test_an_animated_png_is_its_first_picture() -> None:
    """No picture after the first is decompressed: a damaged one changes nothing."""
    data = animation(Encoding.PNG)
    found = decode(data, Encoding.PNG)
    assert np.abs(found.astype(int) - picture().astype(int)).mean() < 6
    spoilt = data[:-600] + bytes(500) + data[-100:]
    np.testing.assert_array_equal(decode(spoilt, Encoding.PNG), found)


@pytest.mark.parametrize("encoding", [Encoding.WEBP, Encoding.AVIF])
def test_a_film_is_refused(encoding: Encoding) -> None:
    """It is another kind of file."""
    assert reason_of(animation(encoding), encoding) is RejectReason.NOT_AN_IMAGE


@ALL
@pytest.mark.parametrize("trailing", [bytes(1_000_000), b"more" * 5])
def test_what_follows_the_image_is_not_decoded(encoding: Encoding, trailing: bytes) -> None:
    """Three formats end where they say; AVIF is a list of parts, of which this would be one."""
    data = encode_image(picture(), encoding, 90)
    if encoding is Encoding.AVIF:
        assert reason_of(data + trailing, encoding) is RejectReason.NOT_AN_IMAGE
    else:
        np.testing.assert_array_equal(decode(data + trailing, encoding), decode(data, encoding))


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (huge_png(), Encoding.PNG),
        (huge_jpeg(), Encoding.JPEG),
        (huge_webp(), Encoding.WEBP),
        (huge_avif(), Encoding.AVIF),
    ],
    ids=["png", "jpeg", "webp", "avif"],
)
def test_a_hundred_megapixels_in_a_few_bytes_are_refused(data: bytes, encoding: Encoding) -> None:
    """By the header, before there are pixels; OpenCV alone would set about decoding them."""
    assert len(data) < 10_000
    assert reason_of(data, encoding) is RejectReason.TOO_LARGE


def test_a_bomb_beyond_what_decoders_open_is_too_large() -> None:
    """Four hundred megapixels, which Pillow would refuse itself; the reason is the same."""
    data = bytearray(huge_png())
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    assert reason_of(bytes(data), Encoding.PNG) is RejectReason.TOO_LARGE


@pytest.mark.parametrize(("repeats", "accepted"), [(0, True), (10, True), (1000, False)])
def test_a_jpeg_of_endless_scans_is_refused(repeats: int, accepted: bool) -> None:
    """A dozen bytes that go over all pixels again; 350,000 of them fit into a message."""
    flat = np.full((64, 96, 3), 128, np.uint8)
    data = cv2.imencode(".jpg", flat, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = data[data.rindex(b"\xff\xda") : -2]
    data = data[:-2] + last * repeats + data[-2:]
    if accepted:
        assert np.abs(decode(data, Encoding.JPEG).astype(int) - 128).max() <= 2
    else:
        assert reason_of(data, Encoding.JPEG) is RejectReason.NOT_AN_IMAGE


@ALL
def test_limits_are_inclusive(encoding: Encoding) -> None:
    """96 by 64 passes limits of exactly that, and fails one more."""
    data = encode_image(picture(), encoding, 90)
    decode(data, encoding, side_min_px=64, pixels_max=96 * 64)
    with pytest.raises(RejectedError, match="96x64 is less than 65") as small:
        decode(data, encoding, side_min_px=65)
    assert small.value.reason is RejectReason.TOO_SMALL
    with pytest.raises(RejectedError, match="96x64 has more than 6143") as large:
        decode(data, encoding, pixels_max=96 * 64 - 1)
    assert large.value.reason is RejectReason.TOO_LARGE


# --- what is not what it is said to be ------------------------------------------------------------


@ALL
@pytest.mark.parametrize("data", [b"", b"{'not': 'an image'}", bytes(1000)])
def test_no_image_at_all(encoding: Encoding, data: bytes) -> None:
    """Nothing, text, zeros."""
    assert reason_of(data, encoding) is RejectReason.NOT_AN_IMAGE


@ALL
@pytest.mark.parametrize("other", list(Encoding))
def test_an_encoding_is_what_it_says(encoding: Encoding, other: Encoding) -> None:
    """A PNG that is announced as JPEG is refused, although it would decode."""
    data = encode_image(picture(), encoding, 90)
    if other is encoding:
        decode(data, other)
    else:
        assert reason_of(data, other) is RejectReason.NOT_AN_IMAGE


@ALL
@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused(encoding: Encoding, kind: str) -> None:
    """A decoder that is not needed is not offered to strangers."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (40, 40)).save(buffer, kind)
    assert reason_of(buffer.getvalue(), encoding) is RejectReason.NOT_AN_IMAGE


@ALL
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 0.99])
def test_a_truncated_image_is_refused(encoding: Encoding, share: float) -> None:
    """Half a picture must not be taken for a scene with a grey lower half."""
    data = encode_image(picture(), encoding, 90)
    assert reason_of(data[: int(len(data) * share)], encoding) is RejectReason.NOT_AN_IMAGE


@ALL
@given(data=st.data())
def test_damaged_images_decode_or_are_rejected(encoding: Encoding, data: st.DataObject) -> None:
    """No damage, wherever it is, ends in another exception or another shape."""
    damaged = bytearray(encode_image(picture(24, 16), encoding, 80))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    try:
        found = decode(bytes(damaged), encoding)
    except RejectedError:
        return
    assert found.ndim == 3
    assert found.shape[2] == 3
    assert found.size <= 3 * 1_000_000
