"""Model bundles: a model with everything needed to run and trust it.

A bundle is a directory or a .zip with these members:

    manifest.json        what it is; lists the SHA-256 of every other member
    model.onnx           the graph with its weights
    calibration.json     raw score → probability, per class
    thresholds.json      from which score a detection is reported, and which are escalated
    smoke/input.png      an image, and
    smoke/expected.json  what the model detects in it
    policy.json          optional: what asking a certain cloud model about its detections gains

The digest of a bundle is the SHA-256 of manifest.json and so covers everything. Equal contents give
equal bytes. Services load nothing but bundles; `foundation.detector` runs them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pydantic

from foundation.errors import ConfigError, HardcaseError, IntegrityError, RejectedError
from foundation.escalations import Encoding
from foundation.frames import Detections, Pixels
from foundation.gains import GainModel
from foundation.images import decode_image
from foundation.manifest import BundleInfo, Calibration, Manifest, Thresholds
from foundation.settings import Settings, SettingsT, parse_settings

_MEMBER_BYTES_MAX = 1 << 30
_DOCUMENT_BYTES_MAX = 16 << 20
"""Of every member but the model."""
_SMOKE_PIXELS_MAX = 1 << 26
_MANIFEST = "manifest.json"
_MODEL = "model.onnx"
_CALIBRATION = "calibration.json"
_THRESHOLDS = "thresholds.json"
_SMOKE_INPUT = "smoke/input.png"
_SMOKE_EXPECTED = "smoke/expected.json"
_POLICY = "policy.json"
_MEMBERS = (_MODEL, _CALIBRATION, _THRESHOLDS, _SMOKE_INPUT, _SMOKE_EXPECTED)


class _Expected(Settings):
    """smoke/expected.json."""

    boxes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]
    class_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Smoke:
    """An image (height, width, 3) uint8 BGR and what the model must detect in it."""

    pixels: Pixels = field(repr=False)
    expected: Detections


@dataclass(frozen=True)
class Bundle:
    """A model with everything needed to run and trust it, in memory."""

    info: BundleInfo
    model: bytes = field(repr=False)
    calibration: Calibration
    thresholds: Thresholds
    smoke: Smoke
    policy: GainModel | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by class id."""
        return self.info.labels

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of manifest.json in hexadecimal; it covers every member."""
        return hashlib.sha256(self.members()[_MANIFEST]).hexdigest()

    @functools.cached_property
    def scores_digest(self) -> str:
        """SHA-256 of what its scores come from: the graph, how it is read, and the calibration.

        A gain model holds for scores; it is a member of the bundle, so it cannot name its digest.
        """
        reading = self.info.model_dump(mode="json", include={"labels", "input", "letterbox"})
        parts = (
            self.model,
            _to_json(self.calibration),
            json.dumps(reading, sort_keys=True).encode(),
        )
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def members(self) -> dict[str, bytes]:
        """Every member's bytes by name; equal contents give equal bytes."""
        expected = self.smoke.expected
        done, png = cv2.imencode(".png", self.smoke.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if not done:
            raise ValueError("the smoke input does not encode as PNG")
        members = {
            _MODEL: self.model,
            _CALIBRATION: _to_json(self.calibration),
            _THRESHOLDS: _to_json(self.thresholds),
            _SMOKE_INPUT: png.tobytes(),
            _SMOKE_EXPECTED: _to_json(
                _Expected(
                    boxes=tuple(tuple(row) for row in expected.boxes.round(2).tolist()),
                    scores=tuple(expected.scores.round(4).tolist()),
                    class_ids=tuple(expected.class_ids.tolist()),
                )
            ),
        }
        if self.policy is not None:
            members[_POLICY] = _to_json(self.policy)
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
        members[_MANIFEST] = _to_json(Manifest(**dict(self.info), files=digests))
        return members

    def write(self, path: Path) -> None:
        """Writes a directory, or a .zip where the path ends so; whole or not at all.

        It grows under a hidden name beside `path`, reaches the disk, and is renamed: a process that
        is killed or a machine that loses power leaves a whole bundle or none, and at worst a hidden
        folder that nothing reads.

        Raises:
            ConfigError: the path exists, or cannot be written.
            IntegrityError: its parts contradict each other, so that it could never be opened.
        """
        _check_names(path, self.info, self.calibration, self.thresholds)
        self._check_policy(path)
        if os.path.lexists(path):
            raise ConfigError(f"{path} exists", remedy="Remove it or choose another path")
        members = self.members()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            try:
                whole = scratch / "bundle"
                if path.suffix == ".zip":
                    _write_durably(whole, _zip(members))
                else:
                    _write_members(whole, members)
                whole.replace(path)
                _sync_folder(path.parent)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError as error:
            raise ConfigError(
                f"Cannot write the bundle {path}: {error}", remedy="Check the folder and its space"
            ) from error

    @staticmethod
    def open(path: Path) -> Bundle:
        """Reads a bundle and verifies every member against the manifest.

        Raises:
            ConfigError: there is no bundle at the path.
            IntegrityError: a member is missing, foreign or differs from its digest.
        """
        read = _Reader(path)
        raw_manifest = read(_MANIFEST)
        manifest = _parse(raw_manifest, Manifest, f"{path}/{_MANIFEST}")
        if set(manifest.files) - {_POLICY} != set(_MEMBERS):
            raise IntegrityError(
                f"{path}: {_MANIFEST} lists {sorted(manifest.files)}, not {sorted(_MEMBERS)}",
                remedy="Build the bundle again",
            )
        members = {name: read(name) for name in manifest.files}
        for name, data in members.items():
            if hashlib.sha256(data).hexdigest() != manifest.files[name]:
                raise IntegrityError(
                    f"{path}: {name} differs from the digest in {_MANIFEST}",
                    remedy="The bundle was damaged or altered; install it again",
                )
        calibration = _parse(members[_CALIBRATION], Calibration, f"{path}/{_CALIBRATION}")
        thresholds = _parse(members[_THRESHOLDS], Thresholds, f"{path}/{_THRESHOLDS}")
        expected = _parse(members[_SMOKE_EXPECTED], _Expected, f"{path}/{_SMOKE_EXPECTED}")
        _check_names(path, manifest, calibration, thresholds)
        smoke = _smoke(path, members[_SMOKE_INPUT], expected, len(manifest.labels))
        info = {name: value for name, value in manifest if name in BundleInfo.model_fields}
        policy = None
        if _POLICY in members:
            policy = _parse(members[_POLICY], GainModel, f"{path}/{_POLICY}")
        bundle = Bundle(BundleInfo(**info), members[_MODEL], calibration, thresholds, smoke, policy)
        # The digest is of the bytes that were read, which another writer may have laid out anew.
        bundle.__dict__["digest"] = hashlib.sha256(raw_manifest).hexdigest()
        bundle._check_policy(path)
        return bundle

    def _check_policy(self, path: Path) -> None:
        if self.policy is not None and self.policy.edge_scores != self.scores_digest:
            raise IntegrityError(
                f"{path}: {_POLICY} was fitted on the scores of another bundle",
                remedy="Fit it for this one with `model-workshop fit-policy`",
            )


def _write_members(folder: Path, members: dict[str, bytes]) -> None:
    for name, data in members.items():
        member = folder / name
        member.parent.mkdir(parents=True, exist_ok=True)
        _write_durably(member, data)
    for filled in {folder, *((folder / name).parent for name in members)}:
        _sync_folder(filled)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        # Without it a rename may outlive the bytes that it names.
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _to_json(value: pydantic.BaseModel) -> bytes:
    document = value.model_dump(mode="json")
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _parse(data: bytes, model: type[SettingsT], origin: str) -> SettingsT:
    try:
        return parse_settings(json.loads(data), model, origin=origin)
    except (ValueError, RecursionError, HardcaseError) as error:
        raise IntegrityError(
            f"{origin} is not what it should be: {error}", remedy="Build the bundle again"
        ) from error


def _check_names(
    path: Path, manifest: BundleInfo, calibration: Calibration, thresholds: Thresholds
) -> None:
    unknown = {*calibration.knots, *thresholds.classes} - set(manifest.labels)
    if unknown or len(set(manifest.labels)) != len(manifest.labels):
        raise IntegrityError(
            f"{path}: labels are not unique, or calibration and thresholds speak of "
            f"{sorted(unknown)}, which the manifest does not list",
            remedy="Build the bundle again",
        )


def _smoke(path: Path, png: bytes, expected: _Expected, classes: int) -> Smoke:
    try:
        pixels = decode_image(png, Encoding.PNG, side_min_px=1, pixels_max=_SMOKE_PIXELS_MAX)
    except RejectedError as error:
        raise IntegrityError(
            f"{path}: {_SMOKE_INPUT} is no image: {error.message}", remedy="Build it again"
        ) from error
    count = len(expected.boxes)
    known = all(0 <= class_id < classes for class_id in expected.class_ids)
    if not known or not count == len(expected.scores) == len(expected.class_ids):
        raise IntegrityError(
            f"{path}: {_SMOKE_EXPECTED} has lists of different lengths or unknown classes",
            remedy="Build the bundle again",
        )
    return Smoke(
        pixels,
        Detections(
            np.array(expected.boxes, np.float32).reshape(-1, 4),
            np.array(expected.scores, np.float32),
            np.array(expected.class_ids, np.int32),
        ),
    )


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            # A fixed date: the same contents must give the same bytes.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, members[name])
    return buffer.getvalue()


_UNREADABLE = (
    *(OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    RuntimeError,  # an encrypted member, or one packed by a method unknown here
)


class _Reader:
    """Reads members by name from a directory or a .zip."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kind = path.stat().st_mode
        except OSError as error:
            raise ConfigError(
                f"There is no bundle at {path}: {error.strerror}", remedy="Check the path"
            ) from error
        # Of a pipe or a device nothing is read: it may have no end.
        if not stat.S_ISDIR(kind) and not (stat.S_ISREG(kind) and zipfile.is_zipfile(path)):
            raise ConfigError(
                f"{path} is neither a bundle directory nor a .zip of one",
                remedy="Make a bundle of an ONNX file with `model-workshop import`",
            )

    def __call__(self, name: str) -> bytes:
        try:
            if self._path.is_dir():
                member = self._path / name
                found = member.stat()
                if not stat.S_ISREG(found.st_mode):  # a pipe or a device may have no end
                    raise OSError("it is no file")
                self._check_size(name, found.st_size)
                return member.read_bytes()
            with zipfile.ZipFile(self._path) as archive:
                self._check_size(name, archive.getinfo(name).file_size)
                return archive.read(name)
        except _UNREADABLE as error:
            raise IntegrityError(
                f"{self._path}: the member {name} is missing or unreadable: {error}",
                remedy="The bundle is incomplete; install it again",
            ) from error

    def _check_size(self, name: str, size: int) -> None:
        if size > (_MEMBER_BYTES_MAX if name == _MODEL else _DOCUMENT_BYTES_MAX):
            raise IntegrityError(
                f"{self._path}: {name} has {size} bytes, more than a bundle may",
                remedy="Check where the bundle comes from",
            )
