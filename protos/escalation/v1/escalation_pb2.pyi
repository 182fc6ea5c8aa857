from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_JPEG: _ClassVar[Encoding]
    ENCODING_WEBP: _ClassVar[Encoding]
    ENCODING_PNG: _ClassVar[Encoding]
    ENCODING_AVIF: _ClassVar[Encoding]

class RejectReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECT_REASON_UNSPECIFIED: _ClassVar[RejectReason]
    REJECT_REASON_MALFORMED: _ClassVar[RejectReason]
    REJECT_REASON_NOT_AN_IMAGE: _ClassVar[RejectReason]
    REJECT_REASON_TOO_SMALL: _ClassVar[RejectReason]
    REJECT_REASON_TOO_LARGE: _ClassVar[RejectReason]
    REJECT_REASON_OUTSIDE_FRAME: _ClassVar[RejectReason]
    REJECT_REASON_UNSUPPORTED_ENCODING: _ClassVar[RejectReason]
    REJECT_REASON_INFERENCE_FAILED: _ClassVar[RejectReason]
    REJECT_REASON_NOT_PERMITTED: _ClassVar[RejectReason]
ENCODING_UNSPECIFIED: Encoding
ENCODING_JPEG: Encoding
ENCODING_WEBP: Encoding
ENCODING_PNG: Encoding
ENCODING_AVIF: Encoding
REJECT_REASON_UNSPECIFIED: RejectReason
REJECT_REASON_MALFORMED: RejectReason
REJECT_REASON_NOT_AN_IMAGE: RejectReason
REJECT_REASON_TOO_SMALL: RejectReason
REJECT_REASON_TOO_LARGE: RejectReason
REJECT_REASON_OUTSIDE_FRAME: RejectReason
REJECT_REASON_UNSUPPORTED_ENCODING: RejectReason
REJECT_REASON_INFERENCE_FAILED: RejectReason
REJECT_REASON_NOT_PERMITTED: RejectReason

class Region(_message.Message):
    __slots__ = ("x1", "y1", "x2", "y2")
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    X2_FIELD_NUMBER: _ClassVar[int]
    Y2_FIELD_NUMBER: _ClassVar[int]
    x1: int
    y1: int
    x2: int
    y2: int
    def __init__(self, x1: _Optional[int] = ..., y1: _Optional[int] = ..., x2: _Optional[int] = ..., y2: _Optional[int] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("x1", "y1", "x2", "y2")
    X1_FIELD_NUMBER: _ClassVar[int]
    Y1_FIELD_NUMBER: _ClassVar[int]
    X2_FIELD_NUMBER: _ClassVar[int]
    Y2_FIELD_NUMBER: _ClassVar[int]
    x1: float
    y1: float
    x2: float
    y2: float
    def __init__(self, x1: _Optional[float] = ..., y1: _Optional[float] = ..., x2: _Optional[float] = ..., y2: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("box", "score", "label")
    BOX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    box: Box
    score: float
    label: str
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., score: _Optional[float] = ..., label: _Optional[str] = ...) -> None: ...

class Escalation(_message.Message):
    __slots__ = ("id", "site", "camera", "track_id", "captured_at_ns", "expires_at_ns", "sent_at_ns", "frame_width", "frame_height", "region", "encoding", "image", "proposals", "edge_bundle_digest", "reason", "frame_sequence", "value")
    ID_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_NS_FIELD_NUMBER: _ClassVar[int]
    FRAME_WIDTH_FIELD_NUMBER: _ClassVar[int]
    FRAME_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PROPOSALS_FIELD_NUMBER: _ClassVar[int]
    EDGE_BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FRAME_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    id: str
    site: str
    camera: str
    track_id: int
    captured_at_ns: int
    expires_at_ns: int
    sent_at_ns: int
    frame_width: int
    frame_height: int
    region: Region
    encoding: Encoding
    image: bytes
    proposals: _containers.RepeatedCompositeFieldContainer[Detection]
    edge_bundle_digest: str
    reason: str
    frame_sequence: int
    value: float
    def __init__(self, id: _Optional[str] = ..., site: _Optional[str] = ..., camera: _Optional[str] = ..., track_id: _Optional[int] = ..., captured_at_ns: _Optional[int] = ..., expires_at_ns: _Optional[int] = ..., sent_at_ns: _Optional[int] = ..., frame_width: _Optional[int] = ..., frame_height: _Optional[int] = ..., region: _Optional[_Union[Region, _Mapping]] = ..., encoding: _Optional[_Union[Encoding, str]] = ..., image: _Optional[bytes] = ..., proposals: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ..., edge_bundle_digest: _Optional[str] = ..., reason: _Optional[str] = ..., frame_sequence: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("detections",)
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class Shed(_message.Message):
    __slots__ = ("retry_after_s",)
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    retry_after_s: float
    def __init__(self, retry_after_s: _Optional[float] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: RejectReason
    message: str
    def __init__(self, reason: _Optional[_Union[RejectReason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Expired(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("escalation_id", "cloud_bundle_digest", "queued_s", "inference_s", "answer", "shed", "rejection", "expired")
    ESCALATION_ID_FIELD_NUMBER: _ClassVar[int]
    CLOUD_BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    QUEUED_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_S_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SHED_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    escalation_id: str
    cloud_bundle_digest: str
    queued_s: float
    inference_s: float
    answer: Answer
    shed: Shed
    rejection: Rejection
    expired: Expired
    def __init__(self, escalation_id: _Optional[str] = ..., cloud_bundle_digest: _Optional[str] = ..., queued_s: _Optional[float] = ..., inference_s: _Optional[float] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., shed: _Optional[_Union[Shed, _Mapping]] = ..., rejection: _Optional[_Union[Rejection, _Mapping]] = ..., expired: _Optional[_Union[Expired, _Mapping]] = ...) -> None: ...

class GetCapabilitiesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "bundle_digest", "labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    bundle_digest: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ...) -> None: ...

class CropLimits(_message.Message):
    __slots__ = ("side_min_px", "pixels_max", "message_bytes_max", "side_native_px")
    SIDE_MIN_PX_FIELD_NUMBER: _ClassVar[int]
    PIXELS_MAX_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    SIDE_NATIVE_PX_FIELD_NUMBER: _ClassVar[int]
    side_min_px: int
    pixels_max: int
    message_bytes_max: int
    side_native_px: int
    def __init__(self, side_min_px: _Optional[int] = ..., pixels_max: _Optional[int] = ..., message_bytes_max: _Optional[int] = ..., side_native_px: _Optional[int] = ...) -> None: ...

class GetCapabilitiesResponse(_message.Message):
    __slots__ = ("models", "crop_limits", "encodings")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CROP_LIMITS_FIELD_NUMBER: _ClassVar[int]
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    crop_limits: CropLimits
    encodings: _containers.RepeatedScalarFieldContainer[Encoding]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., crop_limits: _Optional[_Union[CropLimits, _Mapping]] = ..., encodings: _Optional[_Iterable[_Union[Encoding, str]]] = ...) -> None: ...
