"""The rules for compatible change at the head of escalation.proto, held.

golden.json is the contract as it was released: every message's fields by number with name, type
and cardinality, every enum's values, every method. A field may be added to the contract, and then
to the golden file; nothing in the golden file may change or go away.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from protos.escalation.v1 import escalation_pb2

GOLDEN = Path(__file__).with_name("golden.json")
PRIVATE = range(50, 60)

Contract = dict[str, dict[str, dict[str, str]]]


def contract() -> descriptor_pb2.FileDescriptorProto:
    """The contract as it is."""
    proto = descriptor_pb2.FileDescriptorProto()
    escalation_pb2.DESCRIPTOR.CopyToProto(proto)
    return proto


def summary() -> Contract:
    """The contract as the golden file has it."""
    proto = contract()
    field = descriptor_pb2.FieldDescriptorProto
    messages: dict[str, dict[str, str]] = {}
    for message in proto.message_type:
        messages[message.name] = {
            str(one.number): " ".join(
                [
                    one.name,
                    field.Type.Name(one.type).removeprefix("TYPE_").lower(),
                    one.type_name.rpartition(".")[2],
                    "repeated" if one.label == field.LABEL_REPEATED else "",
                    message.oneof_decl[one.oneof_index].name if one.HasField("oneof_index") else "",
                ]
            ).strip()
            for one in message.field
        }
    return {
        "messages": messages,
        "enums": {
            enum.name: {str(value.number): value.name for value in enum.value}
            for enum in proto.enum_type
        },
        "methods": {
            service.name: {
                method.name: " ".join(
                    [
                        "stream" if method.client_streaming else "one",
                        method.input_type,
                        "stream" if method.server_streaming else "one",
                        method.output_type,
                    ]
                )
                for method in service.method
            }
            for service in proto.service
        },
    }


def reserved(message: descriptor_pb2.DescriptorProto) -> set[int]:
    """Field numbers that a message keeps out of use."""
    return {n for span in message.reserved_range for n in range(span.start, span.end)}


def test_nothing_released_has_changed() -> None:
    """Every released field, enum value and method is there with number, name and type as it was."""
    golden: Contract = json.loads(GOLDEN.read_text())
    now = summary()
    for section, groups in golden.items():
        for group, entries in groups.items():
            for key, value in entries.items():
                found = now[section].get(group, {}).get(key)
                assert found == value, (
                    f"{section} {group} {key} was {value!r} and is {found!r}: "
                    "a removal or another meaning needs hardcase.escalation.v2"
                )


def test_golden_file_knows_everything() -> None:
    """What is added to the contract is added to the golden file, which then guards it."""
    assert json.loads(GOLDEN.read_text()) == summary()


def test_package_carries_its_version() -> None:
    """The major version is part of every name on the wire."""
    assert contract().package == "hardcase.escalation.v1"


@pytest.mark.parametrize("message", contract().message_type, ids=lambda message: str(message.name))
def test_private_numbers_stay_free(message: descriptor_pb2.DescriptorProto) -> None:
    """50 to 59 are kept for private extensions, and no field uses a number that is kept."""
    kept = reserved(message)
    assert set(PRIVATE) <= kept
    assert not kept & {field.number for field in message.field}


@pytest.mark.parametrize("enum", contract().enum_type, ids=lambda enum: str(enum.name))
def test_enums_begin_unspecified(enum: descriptor_pb2.EnumDescriptorProto) -> None:
    """Zero means that the writer said nothing, so that a reader can tell."""
    assert enum.value[0].number == 0
    assert enum.value[0].name.endswith("_UNSPECIFIED")


def with_unknown_field(message: Message) -> bytes:
    """The message's bytes followed by a field of a later version: number 29, a string."""
    tag = 29 << 3 | 2
    later = bytes([tag & 0x7F | 0x80, tag >> 7, 5]) + b"later"
    return message.SerializeToString() + later


def plain_fields(message: Message) -> dict[str, Any]:
    """Values of a message's fields that hold one."""
    return {field.name: value for field, value in message.ListFields()}


def test_fields_of_a_later_version_are_tolerated() -> None:
    """A reader that does not know a field reads the others as if it were not there."""
    for message in (
        escalation_pb2.Escalation(id="a", track_id=7, image=b"x"),
        escalation_pb2.Verdict(escalation_id="a", queued_s=0.5),
        escalation_pb2.GetCapabilitiesResponse(encodings=[escalation_pb2.ENCODING_WEBP]),
    ):
        read = type(message).FromString(with_unknown_field(message))
        assert plain_fields(read) == plain_fields(message)


def test_an_encoding_of_a_later_version_arrives_as_its_number() -> None:
    """A reader of the contract before AVIF neither loses the message nor takes it for another."""
    older = contract()
    (encodings,) = (enum for enum in older.enum_type if enum.name == "Encoding")
    assert encodings.value.pop().name == "ENCODING_AVIF"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(older)
    name = "hardcase.escalation.v1.Escalation"
    reader = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    later = escalation_pb2.Escalation(id="a", encoding=escalation_pb2.ENCODING_AVIF, image=b"x")
    read = plain_fields(reader.FromString(later.SerializeToString()))
    assert read == {"id": "a", "encoding": 4, "image": b"x"}
    assert 4 not in {value.number for value in encodings.value}
