"""Bundles on disk: what is written comes back, and what was damaged is named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundation.bundle import Bundle
from foundation.detector import Detector
from foundation.errors import ConfigError, IntegrityError
from foundation.geometry import LetterboxSpec
from foundation.manifest import (
    Calibration,
    ClassifierOutputs,
    ClassThresholds,
    EndToEndOutputs,
    FastestDetOutputs,
    GridOutputs,
    InputContract,
    Manifest,
    ModelCard,
    Postprocess,
    Thresholds,
    Yolov5Outputs,
    Yolov8Outputs,
    YoloxOutputs,
)
from foundation.settings import Settings
from tests.support.bundles import LABELS, make_bundle

MEMBERS = [
    "calibration.json",
    "manifest.json",
    "model.onnx",
    "smoke/expected.json",
    "smoke/input.png",
    "thresholds.json",
]
Document = dict[str, Any]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """A sound bundle with a calibration and thresholds of its own for one class."""
    sound = make_bundle()
    return dataclasses.replace(
        sound,
        calibration=Calibration(knots={"red": ((0.0, 0.0), (0.5, 0.2), (1.0, 0.9))}),
        thresholds=sound.thresholds.model_copy(
            update={
                "classes": {"red": ClassThresholds(report=0.6, escalate_low=0.1, escalate_high=0.9)}
            }
        ),
    )


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """The sound bundle as a directory."""
    bundle.write(tmp_path / "bundle")
    return tmp_path / "bundle"


def seal(folder: Path) -> None:
    """Writes the true digests into the manifest, so that only what a test broke is broken."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit(folder: Path, name: str, change: Callable[[Document], object]) -> None:
    """Changes a JSON member and seals the bundle again."""
    document = json.loads((folder / name).read_bytes())
    change(document)
    (folder / name).write_text(json.dumps(document))
    seal(folder)


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a directory by its relative name."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("name", ["bundle", "bundle.zip", "deep/down/bundle.zip"])
def test_what_is_written_comes_back(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """A directory and a .zip hold the same; the smoke test passes on what was read."""
    bundle.write(tmp_path / name)
    found = Bundle.open(tmp_path / name)
    assert found.digest == bundle.digest
    assert found.info == bundle.info
    assert found.labels == LABELS
    assert found.model == bundle.model
    assert found.calibration == bundle.calibration
    assert found.thresholds == bundle.thresholds
    np.testing.assert_array_equal(found.smoke.pixels, bundle.smoke.pixels)
    np.testing.assert_allclose(found.smoke.expected.boxes, bundle.smoke.expected.boxes, atol=0.01)
    Detector.open(found).check_smoke()


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_equal_contents_give_equal_bytes(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    """Written twice, or read and written again: not a byte differs, and so not the digest."""
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    bundle.write(first)
    os.utime(first, (0, 0))
    Bundle.open(first).write(second)
    if suffix:
        assert first.read_bytes() == second.read_bytes()
    else:
        assert contents(first) == contents(second)


def test_members_are_the_documented_ones(bundle: Bundle, folder: Path) -> None:
    """What docs/bundle-format.md lists, and no more."""
    assert sorted(contents(folder)) == MEMBERS
    bundle.write(folder.with_suffix(".zip"))
    assert zipfile.ZipFile(folder.with_suffix(".zip")).namelist() == MEMBERS


@pytest.mark.parametrize(
    "model",
    [
        Manifest,
        InputContract,
        LetterboxSpec,
        GridOutputs,
        YoloxOutputs,
        Yolov8Outputs,
        Yolov5Outputs,
        FastestDetOutputs,
        EndToEndOutputs,
        ClassifierOutputs,
        Postprocess,
        ModelCard,
        Calibration,
        Thresholds,
        ClassThresholds,
    ],
)
def test_every_field_is_documented(repository: Path, model: type[Settings]) -> None:
    """docs/bundle-format.md is the reference for whoever writes bundles elsewhere."""
    reference = (repository / "docs" / "bundle-format.md").read_text("utf-8")
    assert [name for name in model.model_fields if f"`{name}`" not in reference] == []


def test_the_digest_is_of_the_manifests_bytes(folder: Path) -> None:
    """An operator can compute it with sha256sum, however another writer laid the file out."""
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()), indent=4))
    expected = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert Bundle.open(folder).digest == expected


@pytest.mark.parametrize(
    "change",
    [
        {"model": b"another model"},
        {"calibration": Calibration()},
        {"info": make_bundle(name="other").info},
    ],
    ids=["model", "calibration", "name"],
)
def test_the_digest_covers_everything(bundle: Bundle, change: Document) -> None:
    """Another member is another bundle."""
    assert dataclasses.replace(bundle, **change).digest != bundle.digest


# --- what is not there, or cannot be written ------------------------------------------------------


def test_no_bundle_at_the_path(tmp_path: Path) -> None:
    """An operator's mistake, named."""
    with pytest.raises(ConfigError, match=r"no bundle at .*missing") as caught:
        Bundle.open(tmp_path / "missing")
    assert caught.value.remedy


def test_a_file_that_is_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """A bare ONNX file is answered with how to make a bundle of it."""
    model = tmp_path / "yolox.onnx"
    model.write_bytes(bundle.model)
    with pytest.raises(ConfigError, match=r"yolox\.onnx is neither") as caught:
        Bundle.open(model)
    assert "model-workshop import" in caught.value.remedy


def test_a_directory_that_is_no_bundle(tmp_path: Path) -> None:
    """An empty directory lacks a manifest."""
    with pytest.raises(IntegrityError, match=r"manifest\.json is missing"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_an_existing_target_is_left_alone(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    """Nothing is overwritten."""
    target = tmp_path / f"bundle{suffix}"
    target.write_text("precious")
    with pytest.raises(ConfigError, match="exists") as caught:
        bundle.write(target)
    assert target.read_text() == "precious"
    assert caught.value.remedy


def test_a_folder_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    """A file where a folder should be; the message names the bundle."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Cannot write the bundle .*file/bundle\.zip") as caught:
        bundle.write(tmp_path / "file" / "bundle.zip")
    assert "folder" in caught.value.remedy


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_a_bundle_is_written_whole_or_not_at_all(
    bundle: Bundle, tmp_path: Path, suffix: str
) -> None:
    """A write that fails half way leaves neither a bundle nor scraps."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))  # as though the disk were full
    try:
        with pytest.raises(ConfigError, match=r"Cannot write .*too large") as caught:
            bundle.write(tmp_path / f"bundle{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert "space" in caught.value.remedy


def test_writing_leaves_nothing_else_behind(bundle: Bundle, tmp_path: Path) -> None:
    """The bundle is all there is in the folder, and others may read it."""
    bundle.write(tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o777 & ~umask


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_named(folder: Path, name: str) -> None:
    """Every member is needed."""
    (folder / name).unlink()
    with pytest.raises(IntegrityError, match=f"member {name} is missing") as caught:
        Bundle.open(folder)
    assert "install it again" in caught.value.remedy


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "manifest.json"])
def test_an_altered_member_is_named(folder: Path, name: str) -> None:
    """One flipped bit in any member."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name} differs from the digest"):
        Bundle.open(folder)


def test_a_truncated_model_is_named(folder: Path) -> None:
    """A copy that was interrupted."""
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=r"model\.onnx differs"):
        Bundle.open(folder)


def test_any_flipped_byte_of_a_zip_is_found(bundle: Bundle, tmp_path: Path) -> None:
    """Wherever it is flipped: either the bundle is the same, or the error is one to handle."""
    whole = tmp_path / "bundle.zip"
    bundle.write(whole)
    original = whole.read_bytes()
    damaged = tmp_path / "damaged.zip"
    outcomes = []
    for position in range(0, len(original), 3):
        data = bytearray(original)
        data[position] ^= 0xFF
        damaged.write_bytes(data)
        try:
            outcomes.append(Bundle.open(damaged).digest)
        except (IntegrityError, ConfigError) as error:
            outcomes.append(error.message)
    refused = [outcome for outcome in outcomes if str(damaged) in outcome]
    assert set(outcomes) - set(refused) <= {bundle.digest}
    assert len(refused) > 0.8 * len(outcomes)


def test_a_cut_off_zip_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """A download that was interrupted."""
    path = tmp_path / "bundle.zip"
    bundle.write(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ConfigError, match=r"bundle\.zip is neither"):
        Bundle.open(path)


def test_a_digest_that_lies_is_refused(folder: Path) -> None:
    """The manifest's digest is compared, not trusted."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.onnx"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"model\.onnx differs"):
        Bundle.open(folder)


@pytest.mark.parametrize("change", ["more", "fewer"])
def test_the_manifest_lists_the_members_and_no_others(folder: Path, change: str) -> None:
    """A file that nobody verifies must not look as though it were covered."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    if change == "more":
        manifest["files"]["readme.txt"] = "0" * 64
    else:
        del manifest["files"]["thresholds.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IntegrityError, match=r"manifest\.json lists"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b"[" * 100_000, b'"text"'],
    ids=["empty", "cut", "binary", "list", "null", "deep", "text"],
)
@pytest.mark.parametrize("name", [name for name in MEMBERS if name.endswith(".json")])
def test_members_that_are_no_documents_are_named(folder: Path, name: str, data: bytes) -> None:
    """Whatever the bytes, the error says which member they are in."""
    (folder / name).write_bytes(data)
    if name != "manifest.json":
        seal(folder)
    with pytest.raises(IntegrityError, match=f"{name} is not what it should be") as caught:
        Bundle.open(folder)
    assert caught.value.remedy


def test_a_smoke_input_that_is_no_image_is_named(folder: Path) -> None:
    """Sealed, but no picture."""
    for data in (b"", b"no picture"):
        (folder / "smoke" / "input.png").write_bytes(data)
        seal(folder)
        with pytest.raises(IntegrityError, match=r"smoke/input\.png is no image"):
            Bundle.open(folder)


# --- contents that contradict each other ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("manifest.json", lambda d: d.update(colour="red"), "unknown key 'colour'"),
        ("manifest.json", lambda d: d["letterbox"].update(pad=1), "did you mean 'pad_value'"),
        ("manifest.json", lambda d: d.update(format="hardcase-bundle/2"), "key 'format'"),
        ("manifest.json", lambda d: d.pop("license"), "'license' is missing"),
        ("manifest.json", lambda d: d.update(labels=[]), "key 'labels'"),
        ("manifest.json", lambda d: d["letterbox"].update(pad_value=256), "pad_value"),
        ("manifest.json", lambda d: d.update(runtime_min="new"), "runtime_min"),
        ("manifest.json", lambda d: d["input"].update(scale=0.5), "belong to float32"),
        ("manifest.json", lambda d: d.update(labels=["red"] * 3), "not unique"),
        ("calibration.json", lambda d: d["knots"].update(rust=[]), r"\['rust'\]"),
        ("calibration.json", lambda d: d["knots"]["red"].reverse(), "must rise"),
        ("calibration.json", lambda d: d["knots"]["red"].append([1.5, 1.5]), "must rise"),
        ("thresholds.json", lambda d: d["classes"].update(rust=d["default"]), r"\['rust'\]"),
        ("thresholds.json", lambda d: d["default"].update(report=1.5), "report"),
        ("thresholds.json", lambda d: d["default"].update(escalate_low=0.9), "escalate_low"),
        ("smoke/expected.json", lambda d: d["scores"].append(0.5), "different lengths"),
        ("smoke/expected.json", lambda d: d.update(class_ids=[3]), "unknown classes"),
        ("smoke/expected.json", lambda d: d.update(boxes=[[1, 2, 3]]), "boxes"),
    ],
)
def test_contradictions_are_named(
    folder: Path, name: str, change: Callable[[Document], object], message: str
) -> None:
    """A bundle that is whole but wrong says where."""
    edit(folder, name, change)
    with pytest.raises(IntegrityError, match=message) as caught:
        Bundle.open(folder)
    assert str(folder) in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("labels", [["blue", "green"], ["blue", "green", "red", "white"]])
def test_labels_that_are_not_the_models_are_refused(folder: Path, labels: list[str]) -> None:
    """Fewer or more labels than the graph has classes."""
    edit(folder, "manifest.json", lambda document: document.update(labels=labels))
    edit(folder, "calibration.json", lambda document: document.update(knots={}))
    edit(folder, "thresholds.json", lambda document: document.update(classes={}))
    with pytest.raises(IntegrityError, match=f"3 classes apart, but there are {len(labels)}"):
        Detector.open(Bundle.open(folder))
