"""Tuning files: they hold for one bundle, processor and runtime, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from foundation.errors import ConfigError
from foundation.session import RUNTIME_VERSION
from foundation.tuning import Tuning, core_count, name_processor, processor_name, read_tuning
from tests.support.bundles import make_bundle

X86 = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC
flags		: fpu sse avx2 avx512f avx512_vnni

processor	: 1
model name	: another
"""
ARM = """\
processor	: 0
BogoMIPS	: 108.00
Features	: fp asimd asimddp
CPU implementer	: 0x41
CPU part	: 0xd0b
"""


def tuning_for(digest: str) -> Tuning:
    """What a benchmark on this machine might choose."""
    return Tuning(
        bundle="squares 1",
        bundle_digest=digest,
        processor=processor_name(),
        runtime=RUNTIME_VERSION,
        provider="CPUExecutionProvider",
        intra_op_threads=1,
        spinning=False,
        figures={"p99_s": 0.01, "p99_9_s": None},
    )


def test_what_was_written_is_read_and_holds_here(tmp_path: Path) -> None:
    """For the bundle, processor and runtime that it was written for."""
    bundle, path = make_bundle(), tmp_path / "made" / "tuning.yaml"
    tuning = tuning_for(bundle.digest)
    tuning.write(path)
    assert read_tuning(path) == tuning
    read_tuning(path).check(bundle, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["tuning.yaml"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bundle_digest": "0" * 64}, r"bundle is \w{12}, the file is for 000000000000"),
        ({"processor": "another"}, "processor is .*, the file is for another"),
        ({"runtime": "0.1"}, r"ONNX Runtime is .*, the file is for 0\.1"),
        ({"intra_op_threads": 1024}, "1024 threads"),
    ],
    ids=["bundle", "processor", "runtime", "cores"],
)
def test_a_file_for_anything_else_is_refused(change: dict[str, object], words: str) -> None:
    """With what differs, and how to get one that holds."""
    bundle = make_bundle()
    foreign = tuning_for(bundle.digest).model_copy(update=change)
    with pytest.raises(ConfigError, match=words) as caught:
        foreign.check(bundle, Path("tuning.yaml"))
    assert "tuning.yaml" in caught.value.message
    assert "model-workshop bench" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bundle: [", "not valid YAML"),
        ("", "'bundle' is missing"),
        ("format: hardcase-tuning/2", "'format'"),
        ("spining: true", "did you mean 'spinning'"),
    ],
    ids=["no yaml", "empty", "another version", "unknown key"],
)
def test_a_corrupt_file_is_refused(text: str, words: str, tmp_path: Path) -> None:
    """Named, with what is wrong in it and how to get a sound one."""
    path = tmp_path / "tuning.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_tuning(path)
    assert str(path) in caught.value.message
    assert "model-workshop bench" in caught.value.remedy


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """And not taken for no tuning at all."""
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_tuning(tmp_path / "absent.yaml")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot write the tuning file"):
        tuning_for("0" * 64).write(tmp_path / "file" / "tuning.yaml")


def test_the_file_explains_itself(tmp_path: Path) -> None:
    """It begins with a comment, and is plain YAML."""
    path = tmp_path / "tuning.yaml"
    tuning_for("0" * 64).write(path)
    assert path.read_text().startswith("# Written by `model-workshop bench`")
    assert yaml.safe_load(path.read_text())["format"] == "hardcase-tuning/1"


def test_processors_are_told_apart() -> None:
    """By their names, and by the instructions that kernels choose by."""
    assert name_processor(X86) == "AMD EPYC, cpu family 25, model 17, avx2, avx512f, avx512_vnni"
    assert name_processor(ARM) == "CPU implementer 0x41, CPU part 0xd0b, asimddp"
    assert processor_name() == processor_name() != ""
    assert core_count() >= 1
