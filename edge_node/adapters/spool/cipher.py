"""Encryption of what the spool holds: AES-256-GCM, each text bound to the place where it belongs.

A nonce is drawn at random for each text; with one key the chance of a repeated nonce stays below
2^-32 up to 2^32 texts (NIST SP 800-38D, section 8.3), which no spool reaches.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from foundation.errors import ConfigError, IntegrityError

_KEY_BYTES = 32
_FILE_BYTES_MAX = 4096
_NONCE_BYTES = 12


class Cipher:
    """Encrypts and decrypts with one key; without a key texts stay as they are."""

    def __init__(self, key: bytes | None) -> None:
        self._aead = None if key is None else AESGCM(key)

    @property
    def encrypts(self) -> bool:
        """Whether there is a key."""
        return self._aead is not None

    @classmethod
    def from_file(cls, path: str) -> Cipher:
        """The cipher of a key file; of none, if the path is empty.

        Raises:
            ConfigError: The file is not readable, or holds no key.
        """
        if not path:
            return cls(None)
        try:
            # Not blocking and not without end: it may be a pipe or a device.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                key = bytes.fromhex(file.read(_FILE_BYTES_MAX).decode("ascii").strip())
        except OSError as error:
            raise ConfigError(
                f"Cannot read the spool's key {path}: {error.strerror}",
                remedy="Make it with `openssl rand -hex 32`, readable for the edge node alone",
            ) from error
        except ValueError:
            key = b""
        if len(key) != _KEY_BYTES:
            raise ConfigError(
                f"{path} does not hold a key of {2 * _KEY_BYTES} hexadecimal digits",
                remedy="Make it with `openssl rand -hex 32`",
            )
        return cls(key)

    def seal(self, text: bytes, place: str) -> bytes:
        """Encrypts a text that belongs to a place."""
        if self._aead is None:
            return text
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, text, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Decrypts a text that belongs to a place.

        Raises:
            IntegrityError: It was changed, belongs elsewhere, or has another key.
        """
        if self._aead is None:
            return sealed
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise IntegrityError(f"{place} in the spool is not what was written there") from error
