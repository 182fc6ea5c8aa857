"""Escalations as nobody should send them: spoiled in their bytes, in their fields, in their images.

A mutation is made from a sound message by a stated random generator, so that a seed repeats a run.
Of those in the bytes some are still protobuf; the receiver's own parser tells which. Those in the
fields and in the images always are.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from foundation.escalations import Encoding
from foundation.images import encode_image
from protos.escalation.v1 import escalation_pb2 as pb

SIDE_PX = 48
SITE = "fuzz"
_FRAME_PX = 640
_BYTES_SHARE = 0.1
_IMAGES_SHARE = 0.12
_LASTING_NS = 60 * 10**9
_EDGE_INTEGERS = (0, 1, -1, 7, 2**15, 2**31 - 1, -(2**31), 10**6, -(10**6))
_EDGE_UNSIGNED = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_EDGE_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 3.4e38, -3.4e38, float("nan"), float("inf"), -1e9)
_LONG_TEXTS = ("x" * 64, "x" * 65, "x" * 256, "x" * 257, "x" * 100_000)
_TEXTS = ("", *_LONG_TEXTS, "\0", "a\nb", "\u202e", "\U0001f600", "../")
_FIELDS = tuple(field.name for field in pb.Escalation.DESCRIPTOR.fields)
_ENCODINGS = {
    Encoding.JPEG: pb.ENCODING_JPEG,
    Encoding.WEBP: pb.ENCODING_WEBP,
    Encoding.PNG: pb.ENCODING_PNG,
    Encoding.AVIF: pb.ENCODING_AVIF,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A message and what was done to it.

    Attributes:
        kind: level and way, `bytes: flip` for instance.
        message: serialized, and not always an Escalation any more.
    """

    kind: str
    message: bytes


class Mutator:
    """Makes mutants without end.

    Args:
        rng: decides everything.
        now_ns: tells what the sender's clock says.
    """

    def __init__(self, rng: random.Random, now_ns: Callable[[], int]) -> None:
        self._random = rng
        self._now_ns = now_ns
        self._number = 0
        self._images = {encoding: _make_images(encoding) for encoding in Encoding}
        self._bombs = _make_bombs()
        self._ways: dict[str, list[Callable[[pb.Escalation], bytes]]] = {
            "bytes": [
                *(self._flip, self._insert, self._delete, self._truncate, self._repeat),
                *(self._splice, self._huge_varint, self._wire_type, self._nest, self._bad_text),
                *(self._random_bytes, self._unknown),
            ],
            "fields": [
                *(self._texts, self._sizes, self._region, self._instants, self._encoding),
                *(self._numbers, self._value, self._proposals, self._many_proposals, self._clear),
                self._pixels,
            ],
            "images": [
                *(self._image_flip, self._image_cut, self._image_insert, self._image_zeros),
                *(self._image_splice, self._image_other, self._image_bomb, self._image_number),
            ],
        }

    def next(self) -> Mutant:
        """One more."""
        lot = self._random.random()
        level = "fields"
        if lot < _BYTES_SHARE:
            level = "bytes"
        elif lot < _BYTES_SHARE + _IMAGES_SHARE:
            level = "images"
        way = self._random.choice(self._ways[level])
        kind = f"{level}: {way.__name__.removeprefix('_image').strip('_').replace('_', ' ')}"
        message = self.sound(whole=level == "images" or self._random.random() < 0.01)
        return Mutant(kind, way(message))

    def sound(self, *, whole: bool = True) -> pb.Escalation:
        """A sound request with an id of its own; unless `whole`, its image is none."""
        self._number += 1
        encoding = self._random.choice(tuple(Encoding))
        now_ns = self._now_ns()
        left, top = self._random.randrange(500), self._random.randrange(500)
        message = pb.Escalation(
            id=f"{self._random.getrandbits(96):024x}",
            site=SITE,
            camera=f"camera {self._random.randrange(40)}",
            track_id=self._number,
            captured_at_ns=now_ns,
            sent_at_ns=now_ns,
            expires_at_ns=now_ns + _LASTING_NS,
            frame_width=_FRAME_PX,
            frame_height=_FRAME_PX,
            region=pb.Region(x1=left, y1=top, x2=left + SIDE_PX, y2=top + SIDE_PX),
            encoding=_ENCODINGS[encoding],
            image=self._random.choice(self._images[encoding]) if whole else b"no image",
            edge_bundle_digest="0" * 64,
            reason="fuzz",
            value=self._random.random(),
        )
        message.proposals.add(
            box=pb.Box(x1=left + 5, y1=top + 5, x2=left + 20, y2=top + 20), score=0.4, label="part"
        )
        return message

    # --- bytes ---

    def _flip(self, message: pb.Escalation) -> bytes:
        return self._flip_bits(message.SerializeToString())

    def _insert(self, message: pb.Escalation) -> bytes:
        return self._insert_bytes(message.SerializeToString())

    def _delete(self, message: pb.Escalation) -> bytes:
        data = message.SerializeToString()
        at = self._random.randrange(len(data))
        return data[:at] + data[at + self._random.choice((1, 2, 7, 100)) :]

    def _truncate(self, message: pb.Escalation) -> bytes:
        data = message.SerializeToString()
        return data[: self._random.randrange(len(data))]

    def _repeat(self, message: pb.Escalation) -> bytes:
        """The whole again, or a part of it: fields come twice and more."""
        data = message.SerializeToString()
        if self._random.random() < 0.5:
            return data * self._random.choice((2, 3, 50))
        at = self._random.randrange(len(data))
        return data + data[at : at + self._random.randrange(200)]

    def _splice(self, message: pb.Escalation) -> bytes:
        """The beginning of one message and the end of another."""
        data, other = message.SerializeToString(), self.sound(whole=False).SerializeToString()
        return data[: self._random.randrange(len(data))] + other[self._random.randrange(60) :]

    def _huge_varint(self, message: pb.Escalation) -> bytes:
        """A number or a length of up to eleven bytes, where ten are the most."""
        tag = bytes([self._random.choice((0x20, 0x40, 0x48, 0x58, 0x0A, 0x52, 0x62, 0x6A))])
        huge = b"\xff" * self._random.randrange(4, 11) + b"\x7f"
        return message.SerializeToString() + tag + huge

    def _wire_type(self, message: pb.Escalation) -> bytes:
        """A field of the right number in a wire type of another."""
        tag = self._random.randrange(1, 18) << 3 | self._random.randrange(8)
        return message.SerializeToString() + _varint(tag) + self._random.randbytes(8)

    def _nest(self, message: pb.Escalation) -> bytes:
        """Unknown groups, or proposals, inside one another."""
        depth = self._random.choice((10, 90, 101, 1000, 20_000))
        if self._random.random() < 0.5:
            return message.SerializeToString() + b"\xa3\x06" * depth + b"\xa4\x06" * depth
        inner = b""
        for _ in range(min(depth, 1000)):
            inner = b"\x0a" + _varint(len(inner)) + inner
        return message.SerializeToString() + b"\x6a" + _varint(len(inner)) + inner

    def _bad_text(self, message: pb.Escalation) -> bytes:
        """Text that is no UTF-8: alone, cut off, overlong, half of a pair."""
        text = self._random.choice((b"\xff", b"\xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80"))
        tag = self._random.choice((b"\x0a", b"\x12", b"\x1a", b"\x72", b"\x7a"))
        return message.SerializeToString() + tag + _varint(len(text)) + text

    def _random_bytes(self, _message: pb.Escalation) -> bytes:
        return self._random.randbytes(self._random.choice((0, 1, 2, 9, 100, 5000)))

    def _unknown(self, message: pb.Escalation) -> bytes:
        """Fields that no version has had."""
        data = message.SerializeToString()
        for _ in range(self._random.choice((1, 20, 3000))):
            data += _varint(self._random.randrange(18, 2**29) << 3) + b"\x01"
        return data

    # --- fields ---

    def _texts(self, message: pb.Escalation) -> bytes:
        name = self._random.choice(("id", "site", "camera", "reason", "edge_bundle_digest"))
        text = self._random.choice(_TEXTS)
        # Ids stay unlike one another, or two requests would be one.
        setattr(message, name, message.id[: 64 - len(text)] + text if name == "id" else text)
        if self._random.random() < 0.3:
            message.proposals[0].label = self._random.choice(_TEXTS)
        return message.SerializeToString()

    def _sizes(self, message: pb.Escalation) -> bytes:
        message.frame_width = self._integer()
        if self._random.random() < 0.5:
            message.frame_height = self._integer()
        return message.SerializeToString()

    def _region(self, message: pb.Escalation) -> bytes:
        for name in self._random.sample(("x1", "y1", "x2", "y2"), self._random.randrange(1, 5)):
            setattr(message.region, name, self._integer())
        if self._random.random() < 0.3:
            message.frame_width = message.frame_height = 2**31 - 1
        return message.SerializeToString()

    def _instants(self, message: pb.Escalation) -> bytes:
        now_ns = self._now_ns()
        near = (now_ns - 10**9, now_ns + 1, now_ns + 10**6, now_ns + 10**8, now_ns + 10**18)
        for name in ("captured_at_ns", "expires_at_ns", "sent_at_ns"):
            if self._random.random() < 0.5:
                setattr(message, name, self._random.choice(_EDGE_UNSIGNED + near))
        return message.SerializeToString()

    def _encoding(self, message: pb.Escalation) -> bytes:
        number = self._random.choice((0, 1, 2, 3, 4, 5, 99, 2**31 - 1, -1))
        return message.SerializeToString() + b"\x58" + _varint(number % 2**64)

    def _numbers(self, message: pb.Escalation) -> bytes:
        message.track_id = self._random.choice(_EDGE_UNSIGNED)
        message.frame_sequence = self._random.choice(_EDGE_UNSIGNED)
        return message.SerializeToString()

    def _value(self, message: pb.Escalation) -> bytes:
        message.value = self._random.choice(_EDGE_FLOATS)
        return message.SerializeToString()

    def _proposals(self, message: pb.Escalation) -> bytes:
        proposal = message.proposals[0]
        for name in self._random.sample(("x1", "y1", "x2", "y2"), self._random.randrange(4)):
            setattr(proposal.box, name, self._random.choice(_EDGE_FLOATS))
        if self._random.random() < 0.5:
            proposal.score = self._random.choice(_EDGE_FLOATS)
        return message.SerializeToString()

    def _many_proposals(self, message: pb.Escalation) -> bytes:
        # Thousands are rare: they cost the sender most.
        count = self._random.choices((0, 2, 50, 999, 10_000), (40, 40, 18, 1, 1))[0]
        one = message.proposals[0].SerializeToString()
        del message.proposals[:]
        return message.SerializeToString() + (b"\x6a" + _varint(len(one)) + one) * count

    def _clear(self, message: pb.Escalation) -> bytes:
        """Some of the fields are not there."""
        for name in self._random.sample(_FIELDS, self._random.randrange(1, len(_FIELDS) + 1)):
            message.ClearField(name)
        return message.SerializeToString()

    def _pixels(self, message: pb.Escalation) -> bytes:
        size = self._random.choices((0, 1, 1000, 300_000), (5, 5, 5, 1))[0]
        message.image = self._random.randbytes(size)
        return message.SerializeToString()

    # --- images ---

    def _image_flip(self, message: pb.Escalation) -> bytes:
        return self._with_image(message, self._flip_bits(message.image))

    def _image_cut(self, message: pb.Escalation) -> bytes:
        cut = self._random.randrange(len(message.image))
        return self._with_image(message, message.image[:cut])

    def _image_insert(self, message: pb.Escalation) -> bytes:
        return self._with_image(message, self._insert_bytes(message.image))

    def _image_zeros(self, message: pb.Escalation) -> bytes:
        data = bytearray(message.image)
        at = self._random.randrange(len(data))
        size = min(self._random.choice((4, 40, 400)), len(data) - at)
        data[at : at + size] = bytes(size)
        return self._with_image(message, bytes(data))

    def _image_splice(self, message: pb.Escalation) -> bytes:
        """The head of one picture and the tail of another, of any two encodings."""
        other = self._random.choice(self._images[self._random.choice(tuple(Encoding))])
        cut = self._random.randrange(len(message.image))
        return self._with_image(
            message, message.image[:cut] + other[self._random.randrange(len(other)) :]
        )

    def _image_other(self, message: pb.Escalation) -> bytes:
        """A sound picture that is said to be of another encoding, or of another size."""
        if self._random.random() < 0.5:
            message.encoding = self._random.choice(tuple(_ENCODINGS.values()))
        message.region.x2 = message.region.x1 + self._random.choice((1, SIDE_PX - 1))
        return message.SerializeToString()

    def _image_bomb(self, message: pb.Escalation) -> bytes:
        encoding, data = self._random.choice(self._bombs)
        message.encoding = _ENCODINGS[encoding]
        return self._with_image(message, data)

    def _image_number(self, message: pb.Escalation) -> bytes:
        """Somewhere, more often in the head, stands another number: a size, a length, a count."""
        data = bytearray(message.image)
        at = self._random.randrange(min(len(data), self._random.choice((40, 400, 10**6))))
        form = self._random.choice((">H", ">I", "<H", "<I", ">Q"))
        number = self._random.choice((0, 1, 255, 16_384, 65_535, 2**31 - 1, 2**32 - 1))
        packed = struct.pack(form, number % 2 ** (8 * struct.calcsize(form)))
        data[at : at + len(packed)] = packed
        return self._with_image(message, bytes(data))

    def _with_image(self, message: pb.Escalation, image: bytes) -> bytes:
        """The message with this image.

        Most often its region is a pixel too narrow, so that a picture which survived is decoded
        but costs no run of the model: that would take a hundred times as long as anything else.
        """
        if self._random.random() < 0.97:
            message.region.x2 -= 1
        message.image = image
        return message.SerializeToString()

    # --- what they share ---

    def _integer(self) -> int:
        return self._random.choice((*_EDGE_INTEGERS, self._random.randrange(-1000, 1000)))

    def _flip_bits(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(self._random.choice((1, 1, 2, 8, 40))):
            spoiled[self._random.randrange(len(spoiled))] ^= 1 << self._random.randrange(8)
        return bytes(spoiled)

    def _insert_bytes(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data))
        return data[:at] + self._random.randbytes(self._random.choice((1, 2, 8, 200))) + data[at:]


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _make_images(encoding: Encoding) -> list[bytes]:
    """Small pictures, from plain to noise."""
    rng = np.random.default_rng(3)
    found = []
    for spread in (0, 20, 80):
        noise = rng.integers(0, spread + 1, (SIDE_PX, SIDE_PX, 3))
        ramp = np.arange(SIDE_PX)[:, None, None] * 3
        found.append(encode_image((noise + ramp).astype(np.uint8), encoding, 80))
    return found


def _png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these chunks with sound checksums."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        parts.append(struct.pack(">I", len(content)) + kind + content + checksum)
    return b"".join(parts)


def _make_bombs() -> list[tuple[Encoding, bytes]]:
    """Pictures that are small to send and would be large to hold, or long to read."""
    zeros = zlib.compress(bytes(8 << 20), 9)
    head = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 2, 0, 0, 0)
    vast = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 1)
    wide = struct.pack(">IIBBBBB", 2_000_000, 1, 8, 2, 0, 0, 0)
    black = np.zeros((4000, 4000, 3), np.uint8)
    frame = encode_image(black[:SIDE_PX, :SIDE_PX], Encoding.JPEG, 50)
    sound = encode_image(black[:SIDE_PX, :SIDE_PX], Encoding.PNG, 1)
    tall = bytearray(frame)
    size_at = tall.index(b"\xff\xc0") + 5
    tall[size_at : size_at + 4] = b"\xff\xff\xff\xff"
    scan_at = frame.index(b"\xff\xda")
    return [
        (Encoding.PNG, _png((b"IHDR", vast), (b"IDAT", zeros), (b"IEND", b""))),
        (Encoding.PNG, _png((b"IHDR", head), (b"IDAT", zeros), (b"IEND", b""))),
        (Encoding.PNG, _png((b"IHDR", wide), (b"IDAT", zeros), (b"IEND", b""))),
        (Encoding.PNG, _png((b"IHDR", head), (b"zTXt", b"t\0\0" + zeros), (b"IEND", b""))),
        (Encoding.PNG, _png((b"IHDR", head), (b"iCCP", b"p\0\0" + zeros), (b"IEND", b""))),
        (Encoding.PNG, _png((b"IHDR", head), *[(b"tEXt", b"k\0v")] * 2000, (b"IEND", b""))),
        *((encoding, encode_image(black, encoding, 50)) for encoding in Encoding),
        (Encoding.JPEG, bytes(tall)),
        (Encoding.JPEG, frame[:scan_at] + frame[scan_at:-2] * 1000),
        (Encoding.JPEG, frame[:2] + b"\xff\xe1\xff\xff" + bytes(65_533) + frame[2:]),
        (Encoding.JPEG, frame[:2] + b"\xff\xe1\x00\x0aExif\0\0AA" * 30_000 + frame[2:]),
        (Encoding.PNG, sound[:33] + b"\x7f\0\0\0" + sound[37:]),
        (Encoding.PNG, sound[:-12] + _png((b"zTXt", b"t\0\0" + zeros))[8:] * 20 + sound[-12:]),
    ]
