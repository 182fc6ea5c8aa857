"""What an edge node is given may be anything: it says in one line what is wrong, or runs on.

Each case runs the command in this process, under a limit of time: none may hang, none may end with
a traceback.
"""

from __future__ import annotations

import io
import json
import logging
import os
import random
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_node.__main__ import main
from edge_node.adapters.spool.cipher import Cipher
from edge_node.adapters.spool.database import FILE, SpoolDatabase
from edge_node.adapters.spool.folder import LOCK
from edge_node.values import Kept
from foundation.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK
from tests.edge_node.escalations import candidate, escalation
from tests.support.bundles import make_bundle, write_bundle
from tests.support.videos import moving_squares, write_video

pytestmark = pytest.mark.timeout(60)

Prepare = Callable[[Path], object]
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{', '.join([f'*{chr(97 + n)}'] * 9)}]}}\n"
    for n in range(9)
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound bundle, both ways, and a sound video."""
    folder = tmp_path_factory.mktemp("made")
    write_bundle(folder / "bundle", 320, 240)
    make_bundle(320, 240).write(folder / "bundle.zip")
    write_video(folder / "video.avi", moving_squares(8))
    return folder


@pytest.fixture
def run(
    made: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs `edge-node run`; returns its exit code, and what it printed as errors and logged."""
    interval_s = sys.getswitchinterval()

    def run(config: Path | None = None, **flags: object) -> tuple[int, str]:
        given: dict[str, object] = {"bundle": made / "bundle", "source": made / "video.avi"}
        given |= {"results": "/dev/null", "pace": "unpaced", "telemetry-port": 0, **flags}
        words = [
            "run",
            *(str(word) for name, value in given.items() for word in (f"--{name}", value)),
        ]
        if config is not None:
            words += ["--config", str(config)]
        code = main(words)
        said = capsys.readouterr().err + caplog.text
        assert "Traceback" not in said
        assert "ended by a bug" not in said
        return code, said

    yield run
    sys.setswitchinterval(interval_s)


Run = Callable[..., tuple[int, str]]


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(LAUGHS, "write it out", id="references that multiply"),
        pytest.param(MERGED, "write it out", id="merged references"),
        pytest.param("{a: " * 3000, "not valid YAML", id="deep"),
        pytest.param('results: {path: "a\\0b"}', "no text has", id="null"),
        pytest.param('spool: {folder: "\\ud800"}', "no text has", id="half a character"),
        pytest.param("drain_s: " + "9" * 6000, "not valid YAML", id="digits"),
        pytest.param("drain_s: 1e999", "'drain_s'", id="endless"),
        pytest.param("".join(f"k{n}: 1\n" for n in range(2000)), "and 1980 more", id="many keys"),
    ],
)
def test_hostile_settings(run: Run, tmp_path: Path, text: str, words: str) -> None:
    """One error, short enough to be read, that names the file."""
    config = tmp_path / "edge.yaml"
    config.write_text(text)
    code, said = run(config)
    assert code == EXIT_CONFIG
    assert str(config) in said
    assert words in said
    assert len(said) < 6000


@pytest.mark.parametrize("flag", ["config", "bundle", "results"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(run: Run, tmp_path: Path, flag: str) -> None:
    """Nobody writes into it or reads from it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code, said = run(**{flag: pipe})
    assert code == EXIT_CONFIG
    assert str(pipe) in said


@pytest.mark.parametrize("flag", ["bundle", "results", "source"])
@pytest.mark.parametrize("kind", ["loop", "long"])
def test_paths_that_lead_nowhere(run: Run, tmp_path: Path, flag: str, kind: str) -> None:
    """A link to itself; a name longer than names can be."""
    path = tmp_path / ("x" * 300 if kind == "long" else "loop")
    if kind == "loop":
        path.symlink_to(path)
    code, said = run(**{flag: path})
    assert code == EXIT_CONFIG
    assert str(path) in said


# --- bundles --------------------------------------------------------------------------------------


def packed(
    made: Path, target: Path, others: dict[str, bytes], by: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """Writes the sound bundle as a .zip, with members replaced or added; returns its bytes."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(made / "bundle.zip") as sound,
        zipfile.ZipFile(buffer, "w", by) as archive,
    ):
        for name in sound.namelist():
            data = sound.read(name)
            archive.writestr(name, others.get(name, data))
        for name in others.keys() - set(sound.namelist()):
            archive.writestr(name, others[name])
    target.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_hostile_archives(run: Run, made: Path, tmp_path: Path) -> None:
    """Bombs, garbage inside, names that are none; a name that leads out of it is never followed."""
    target = tmp_path / "bundle.zip"
    packed(made, target, {"manifest.json": bytes(17 << 20)})
    assert run(bundle=target)[0] == EXIT_CONFIG
    data = packed(made, target, {}, zipfile.ZIP_LZMA)
    target.write_bytes(data[:60] + bytes(15) + data[75:])
    code, said = run(bundle=target)
    assert code == EXIT_CONFIG
    assert "install it again" in said
    data = packed(made, target, {"n\u00e9": b""})
    target.write_bytes(data.replace("n\u00e9".encode(), b"n\xff\xfe"))
    assert run(bundle=target)[0] == EXIT_CONFIG
    packed(made, target, {"../../outside": b"x"})
    assert run(bundle=target)[0] == EXIT_OK
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize("damage", ["pipe", "endless", "deep", "huge", "digits", "smoke"])
def test_hostile_members(run: Run, made: Path, tmp_path: Path, damage: str) -> None:
    """Members without end, and manifests that claim what nothing has."""
    bundle = tmp_path / "bundle"
    shutil.copytree(made / "bundle", bundle)
    model, manifest = bundle / "model.onnx", bundle / "manifest.json"
    if damage in {"pipe", "endless"}:
        model.unlink()
        os.mkfifo(model) if damage == "pipe" else model.symlink_to("/dev/zero")
    elif damage == "deep":
        manifest.write_text("[" * 100_000)
    elif damage == "smoke":
        image = bundle / "smoke" / "input.png"
        image.write_bytes(image.read_bytes()[:33] + b"\x7f\0\0\0" + image.read_bytes()[37:])
    else:
        document = json.loads(manifest.read_text())
        document["input"] |= {"width": 8192, "height": 8192}
        if damage == "digits":
            document["outputs"]["stride"] = 10**30
        manifest.write_text(json.dumps(document))
    code, said = run(bundle=bundle)
    assert code == EXIT_CONFIG
    assert "bundle" in said


# --- videos ---------------------------------------------------------------------------------------


def y4m(width: int, height: int, rate: str, frame: bytes) -> bytes:
    """An uncompressed video of two frames."""
    head = f"YUV4MPEG2 W{width} H{height} F{rate} Ip A1:1\n".encode()
    return head + (b"FRAME\n" + frame) * 2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", EXIT_CONFIG, id="empty"),
        pytest.param(random.Random(1).randbytes(50_000), EXIT_CONFIG, id="random"),
        pytest.param(y4m(10**6, 10**6, "25:1", b""), EXIT_CONFIG, id="absurd size"),
        pytest.param(y4m(30_000, 8000, "25:1", b"x"), EXIT_CONFIG, id="too large"),
        pytest.param(y4m(8000, 8000, "25:1", b"x"), EXIT_FAILURE, id="large and hollow"),
        pytest.param(y4m(1, 1, "25:1", b"abc"), EXIT_OK, id="one pixel"),
        pytest.param(y4m(64, 48, "0:1", bytes(4608)), EXIT_OK, id="no rate"),
        pytest.param(y4m(64, 48, "1:2147483647", bytes(4608)), EXIT_OK, id="a frame in 68 years"),
    ],
)
def test_hostile_videos(run: Run, tmp_path: Path, data: bytes, code: int) -> None:
    """Read as far as they go, whatever their names end in."""
    video = tmp_path / "video.mp4"
    video.write_bytes(data)
    found, said = run(source=video)
    assert found == code
    assert code == EXIT_OK or str(video) in said


def test_a_pipe_is_no_video(run: Run, tmp_path: Path) -> None:
    """To open it would wait for its writer for ever."""
    os.mkfifo(tmp_path / "video.mp4")
    code, said = run(source=tmp_path / "video.mp4")
    assert code == EXIT_CONFIG
    assert "pipe" in said


def test_results_are_not_written_into_the_video(run: Run, made: Path, tmp_path: Path) -> None:
    """By whatever name: its last bytes would be cut off like half a line."""
    video, link = tmp_path / "video.avi", tmp_path / "results.jsonl"
    shutil.copy(made / "video.avi", video)
    link.symlink_to(video)
    for results in (video, link):
        code, said = run(source=video, results=results)
        assert code == EXIT_CONFIG
        assert f"written into {results}" in said
    assert video.read_bytes() == (made / "video.avi").read_bytes()


def test_videos_with_spoilt_bytes(run: Run, made: Path, tmp_path: Path) -> None:
    """Whether or not enough is left to be read."""
    rng = random.Random(7)
    for _ in range(5):
        data = bytearray((made / "video.avi").read_bytes())
        for _ in range(rng.choice((1, 5, 50))):
            data[rng.randrange(min(len(data), rng.choice((600, len(data)))))] = rng.randrange(256)
        (tmp_path / "video.avi").write_bytes(data)
        assert run(source=tmp_path / "video.avi")[0] in {EXIT_OK, EXIT_FAILURE, EXIT_CONFIG}


# --- spools ---------------------------------------------------------------------------------------


def fill(folder: Path, *statements: str) -> None:
    """A sound spool of three escalations, and then what a stranger does to it."""
    with SpoolDatabase.open(folder, Cipher(None)) as database, database.transaction():
        for letter in "abc":
            id_ = letter * 32
            database.append(Kept(escalation(id_), candidate(id_).question, 0.2, "run", ""))
    connection = sqlite3.connect(folder / FILE)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def foreign(folder: Path) -> None:
    """Another program's database."""
    connection = sqlite3.connect(folder / FILE)
    connection.execute("CREATE TABLE meta (place TEXT)")
    connection.commit()
    connection.close()


def rows(change: str) -> Prepare:
    """A spool whose rows were changed."""
    return lambda folder: fill(folder, f"UPDATE escalations SET {change}")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(lambda f: (f / FILE).write_bytes(b"x" * 5000), "moved to", id="garbage"),
        pytest.param(lambda f: (f / FILE).mkdir(), "not kept until", id="folder"),
        pytest.param(lambda f: (f / FILE).symlink_to(f / FILE), "not kept until", id="loop"),
        pytest.param(lambda f: os.mkfifo(f / FILE), "not kept until", id="pipe"),
        pytest.param(lambda f: (f / f"{FILE}-wal").mkdir(), "not kept until", id="log"),
        pytest.param(rows("reason = 'banana', captured_at_ns = 1"), "moved to", id="reason"),
        pytest.param(rows("captured_at_ns = 'abc'"), "", id="text for a number"),
        pytest.param(rows("outcome = 'banana'"), "", id="outcome"),
        pytest.param(rows("size_bytes = 9223372036854775807"), "", id="overflow"),
        pytest.param(lambda f: fill(f, "UPDATE crops SET question = 5"), "", id="no question"),
        pytest.param(lambda f: fill(f, "DROP TABLE crops"), "", id="no table"),
    ],
)
def test_hostile_spools(run: Run, tmp_path: Path, prepare: Prepare, words: str) -> None:
    """Frames go on; what is kept or not is said once."""
    folder = tmp_path / "spool"
    folder.mkdir()
    prepare(folder)
    code, said = run(configured(tmp_path, folder))
    assert code == EXIT_OK
    assert words in said
    assert main(["spool", "ls", "--folder", str(folder)]) in {EXIT_OK, EXIT_CONFIG}


def test_database_of_another_program_is_a_setting_to_correct(run: Run, tmp_path: Path) -> None:
    """It is not written to."""
    folder = tmp_path / "spool"
    folder.mkdir()
    foreign(folder)
    code, said = run(configured(tmp_path, folder))
    assert code == EXIT_CONFIG
    assert "spool.folder that nothing else uses" in said


@pytest.mark.parametrize("key", ["/dev/zero", "pipe"])
def test_a_key_without_end_is_none(run: Run, tmp_path: Path, key: str) -> None:
    """It is not read for ever, nor waited for."""
    os.mkfifo(tmp_path / "pipe")
    code, said = run(configured(tmp_path, tmp_path / "spool", key=str(tmp_path / key)))
    assert code == EXIT_CONFIG
    assert "64 hexadecimal digits" in said


def test_a_lock_that_is_a_pipe_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    """Nobody reads it."""
    os.mkfifo(tmp_path / LOCK)
    code, said = run(configured(tmp_path, tmp_path))
    assert code == EXIT_CONFIG
    assert "Choose another spool.folder" in said


def configured(tmp_path: Path, folder: Path, *, key: str = "") -> Path:
    """Settings with a spool and an escalator that nobody runs."""
    config = tmp_path / "edge.yaml"
    config.write_text(
        f"spool: {{folder: {folder}, key_file: '{key}'}}\ndrain_s: 0.1\n"
        "escalator: {address: '127.0.0.1:1'}\n"
    )
    return config


# --- results --------------------------------------------------------------------------------------


def test_hostile_earlier_results(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Records that nest without end, or name outcomes that are none, end no escalation."""
    caplog.set_level(logging.INFO)
    folder, results = tmp_path / "spool", tmp_path / "results.jsonl"
    folder.mkdir()
    fill(folder)
    record = {"type": "escalation", "escalation_id": "a" * 32, "outcome": ["x"], "cause": {}}
    lines = ['{"type":"escalation"' + "[" * 100_000, json.dumps(record, separators=(",", ":"))]
    lines += [json.dumps({**record, "outcome": "banana", "cause": ""}, separators=(",", ":"))]
    results.write_text("\n".join(lines) + "\n" + "x" * 1_000_000)
    code, said = run(configured(tmp_path, folder), results=results)
    assert code == EXIT_OK
    assert "is cut off" in said
    assert "3 escalations wait" in said


def test_a_full_disk_costs_results_alone(run: Run) -> None:
    """They are dropped, and it is said once."""
    code, said = run(results="/dev/full")
    assert code == EXIT_OK
    assert said.count("are being dropped") == 1
