"""The error tree, named by what the caller should do.

    HardcaseError
    ├── ConfigError      an operator acts; the process exits with 78 (EX_CONFIG)
    ├── TransientError   retry, not before `retry_after_s`
    ├── OverloadError    shed; the other side may retry after `retry_after_s`
    ├── RejectedError    this item never succeeds: drop it and count it by `reason`
    └── IntegrityError   quarantine it and keep the old one

Adapters translate foreign exceptions into these at their boundary. A bug is outside the tree and
ends the process.
"""

from __future__ import annotations

import enum

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_CONFIG = 78


class RejectReason(enum.StrEnum):
    """Why an item can never succeed. The values are metric labels and names in the contract."""

    MALFORMED = "malformed"
    NOT_AN_IMAGE = "not_an_image"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    OUTSIDE_FRAME = "outside_frame"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    INFERENCE_FAILED = "inference_failed"
    NOT_PERMITTED = "not_permitted"


class HardcaseError(Exception):
    """Base of all errors that a caller is expected to handle.

    Attributes:
        message: what is wrong, naming the thing.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = message.rstrip(".")
        self.remedy = remedy.rstrip(".")
        super().__init__(self.message)

    def __str__(self) -> str:
        return " ".join(
            text if text.endswith("?") else f"{text}."
            for text in (self.message, self.remedy)
            if text
        )


class ConfigError(HardcaseError):
    """A setting, a path, a port or an address is wrong; an operator has to act."""


class IntegrityError(HardcaseError):
    """Bytes are not what they should be: a digest, a layout or a promised value differs."""


class TransientError(HardcaseError):
    """It may succeed later."""

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class OverloadError(HardcaseError):
    """There is more work than can be done in time."""

    def __init__(self, message: str, *, retry_after_s: float, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class RejectedError(HardcaseError):
    """The same item would fail again."""

    def __init__(self, message: str, *, reason: RejectReason, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reason = reason
