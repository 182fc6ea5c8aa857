"""The edge node as a process: what it writes, how it ends, what it says when it cannot start."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import EXIT_CONFIG, EXIT_FAILURE, EXIT_OK
from foundation.gains import LevelCosts, variance_gains
from tests.support.bundles import grid_model, make_bundle, write_bundle
from tests.support.escalator import ScriptedEscalator, confirm, relabel
from tests.support.processes import running
from tests.support.videos import moving_squares, write_video

BOUND_S = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """A folder with a bundle, a video and room for results."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """A bundle for frames of 320x240."""
        return self.folder / "bundle"

    @property
    def video(self) -> Path:
        """Forty frames with a sure and a doubtful object."""
        return self.folder / "video.avi"

    @property
    def results(self) -> Path:
        """Where records go."""
        return self.folder / "results.jsonl"

    def arguments(self, **flags: object) -> list[str]:
        """A quick start, with flags replaced or added."""
        values: dict[str, object] = {
            "source": self.video,
            "bundle": self.bundle,
            "results": self.results,
            "pace": "unpaced",
            "telemetry_port": 0,
            **flags,
        }
        pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in values.items()]
        return ["run", *[text for pair in pairs for text in pair]]

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The records of one type."""
        lines = [json.loads(line) for line in self.results.read_text().splitlines()]
        return [record for record in lines if record["type"] == kind]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle and the video, made once."""
    folder = tmp_path_factory.mktemp("made")
    write_bundle(folder / "bundle", 320, 240)
    write_video(folder / "video.avi", moving_squares(40))
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    """A folder of the test's own."""
    shutil.copytree(made, tmp_path / "site")
    return Site(tmp_path / "site")


def edge_node(*arguments: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """A running `edge-node`, killed if the test leaves it behind."""
    return running("edge_node", *arguments)


async def run(*arguments: str) -> tuple[int | None, str, str]:
    """Runs to the end; returns exit code, standard output and standard error."""
    async with edge_node(*arguments) as process:
        async with asyncio.timeout(BOUND_S):
            output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()


async def test_video_becomes_results(site: Site) -> None:
    """Every frame has one record, every object one track."""
    code, _, _ = await run(*site.arguments())
    assert code == EXIT_OK
    frames = site.records("frame")
    assert sorted(record["sequence"] for record in frames) == list(range(40))
    tracks = {record["edge"]["label"]: record for record in site.records("track")}
    assert tracks["blue"]["final"]["source"] == "edge"
    assert tracks["green"]["final"] is None
    assert tracks["green"]["escalation"] is None


async def test_results_go_to_standard_output_alone(site: Site) -> None:
    """Logs go to standard error, so that a pipe holds nothing but records."""
    code, output, _ = await run(*site.arguments(results="-"))
    assert code == EXIT_OK
    kinds = [json.loads(line)["type"] for line in output.splitlines()]
    assert kinds.count("frame") == 40


async def test_verdict_changes_the_record(site: Site) -> None:
    """Escalated, answered, corrected, all through real sockets."""
    async with ScriptedEscalator(relabel("red")) as escalator:
        code, _, _ = await run(*site.arguments(escalator=escalator.address, pace="realtime"))
    assert code == EXIT_OK
    assert len(escalator.received) == 1
    assert escalator.received[0].proposals.labels == ("green",)
    correction = site.records("correction")[0]
    assert correction["effect"] == "reclassified"
    final = {record["track_id"]: record for record in site.records("track")}
    doubtful = final[correction["track_id"]]
    assert doubtful["final"] == {"label": "red", "score": 0.93, "source": "cloud"}
    assert doubtful["edge"]["label"] == "green"
    assert doubtful["escalation"]["outcome"] == "answered"


async def test_absent_escalator_costs_no_frame(site: Site) -> None:
    """Every frame is published, the escalation ends as failed when the node stops."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    code, _, errors = await run(*site.arguments(escalator=address))
    assert code == EXIT_OK
    assert len(site.records("frame")) == 40
    final = [record["escalation"] for record in site.records("track") if record["escalation"]]
    assert final[-1]["outcome"] == "failed"
    assert final[-1]["cause"] == "shutdown"
    assert address in errors


async def test_sigterm_ends_in_order(site: Site) -> None:
    """Verdicts on the way are waited for, tracks are closed, the exit code is 0."""
    write_video(site.folder / "long.avi", moving_squares(400, speed_px=0))
    async with (
        ScriptedEscalator(confirm, delay_s=0.3) as escalator,
        edge_node(
            *site.arguments(
                source=site.folder / "long.avi", pace="realtime", escalator=escalator.address
            )
        ) as process,
    ):
        async with asyncio.timeout(BOUND_S):
            while not escalator.received:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        assert process.returncode == EXIT_OK
    frames = site.records("frame")
    assert 0 < len(frames) < 400
    last = {record["track_id"]: record["escalation"] for record in site.records("track")}
    assert {"answered"} == {escalation["outcome"] for escalation in last.values() if escalation}


async def test_settings_file_is_overridden_by_flags(site: Site) -> None:
    """The rest of the file holds."""
    config = site.folder / "edge.yaml"
    config.write_text(
        f"site: hall-3\ncamera: belt\nsource: {{kind: video, uri: nowhere.mp4}}\n"
        f"detector: {{bundle: {site.bundle}}}\nresults: {{path: {site.results}}}\n"
        "telemetry: {port: 0}\n"
    )
    code, _, _ = await run(
        "run", "--config", str(config), "--source", str(site.video), "--pace", "unpaced"
    )
    assert code == EXIT_OK
    assert {record["camera"] for record in site.records("frame")} == {"belt"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("detectr: {}", ["edge.yaml", "'detectr'", "'detector'"]),
        ("deadline: {deadlin_s: 1}", ["edge.yaml", "'deadline.deadlin_s'", "'deadline_s'"]),
        ("deadline: {deadline_s: soon}", ["edge.yaml", "deadline.deadline_s", "'soon'"]),
        ("escalator: {address: cloud}", ["edge.yaml", "escalator.address"]),
        ("- a list", ["edge.yaml", "mapping"]),
    ],
    ids=["section", "key", "type", "address", "list"],
)
async def test_wrong_setting_names_file_key_and_nearest_key(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    """One line on standard error, exit code 78."""
    config = tmp_path / "edge.yaml"
    config.write_text(text)
    code, _, errors = await run("run", "--config", str(config))
    assert code == EXIT_CONFIG
    assert "Traceback" not in errors
    for word in words:
        assert word in errors


def configured(site: Site, policy: str, crop: str = "{}") -> Path:
    """A settings file of the site with these sections."""
    config = site.folder / "edge.yaml"
    config.write_text(
        f"source: {{kind: video, uri: {site.video}, pace: unpaced}}\n"
        f"detector: {{bundle: {site.bundle}}}\nresults: {{path: {site.results}}}\n"
        f"telemetry: {{port: 0}}\npolicy: {policy}\ncrop: {crop}\n"
    )
    return config


@pytest.mark.parametrize(
    ("policy", "crop", "words"),
    [
        ("{uplink_bytes_per_s: 0}", "{}", ["policy.uplink_bytes_per_s is 0", "rollout"]),
        ("{uplink_bytes_burst: 500}", "{}", ["policy.uplink_bytes_burst is 500", "at least"]),
        ("{class_cost: {bleu: 2}}", "{}", ["policy.class_cost", "'bleu'", "blue, green, red"]),
        ("{aim: risk}", "{}", ["policy.aim is risk", "fit-policy"]),
        ("{node: {folder: /nowhere}}", "{}", ["/nowhere", "folder"]),
        ("{}", "{levels: [webp]}", ["crop.levels", "webp"]),
    ],
    ids=["nothing", "burst", "label", "risk", "folder", "level"],
)
async def test_rules_that_cannot_hold_do_not_start(
    site: Site, policy: str, crop: str, words: list[str]
) -> None:
    """Exit code 78, the key, what to do; and the results of the run before are still there."""
    site.results.write_text("precious")
    code, _, errors = await run("run", "--config", str(configured(site, policy, crop)))
    assert code == EXIT_CONFIG
    assert "Traceback" not in errors
    for word in words:
        assert word in errors
    assert site.results.read_text() == "precious"


async def test_shadow_sends_nothing_and_says_what_it_would_have_sent(site: Site) -> None:
    """The escalator is reached and hears no question."""
    async with ScriptedEscalator(relabel("red")) as escalator:
        config = configured(site, "{rollout: shadow}")
        code, _, _ = await run(
            "run", "--config", str(config), "--escalator", escalator.address, "--pace", "realtime"
        )
    assert code == EXIT_OK
    assert escalator.received == []
    assert site.records("correction") == []
    last = {record["track_id"]: record["escalation"] for record in site.records("track")}
    assert [note["outcome"] for note in last.values() if note] == ["withheld"]


def spoil(site: Site, damage: str) -> None:
    """Damages the site's bundle."""
    if damage == "absent":
        shutil.rmtree(site.bundle)
    elif damage == "digest":
        model = site.bundle / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1] + b"!")
    elif damage == "member":
        (site.bundle / "calibration.json").unlink()
    elif damage == "policy":
        sound = make_bundle(320, 240)
        foreign = variance_gains([LevelCosts(level="webp80")], crop_share=0.9)
        # No bundle is written like that, so its members are.
        for name, data in replace(sound, policy=foreign).members().items():
            (site.bundle / name).write_bytes(data)
    else:
        sound = make_bundle(320, 240)
        models = {
            "truncated": sound.model[: len(sound.model) // 2],
            "foreign": b"\x89PNG\r\n\x1a\n not a graph",
            "labels": grid_model(320, 240, classes=5),
        }
        shutil.rmtree(site.bundle)
        replace(sound, model=models[damage]).write(site.bundle)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("absent", "no bundle at"),
        ("digest", "differs from the digest"),
        ("member", "calibration.json"),
        ("truncated", "cannot load the model"),
        ("foreign", "cannot load the model"),
        ("labels", "5 classes"),
        ("policy", "policy.json was fitted on the scores of another bundle"),
    ],
)
async def test_unsound_bundle_does_not_start(site: Site, damage: str, words: str) -> None:
    """Found before any frame; exit code 78 and what to do."""
    spoil(site, damage)
    code, _, errors = await run(*site.arguments())
    assert code == EXIT_CONFIG
    assert words in errors
    assert "Traceback" not in errors


async def test_absent_video_does_not_start(site: Site) -> None:
    """Exit code 78."""
    code, _, errors = await run(*site.arguments(source=site.folder / "nowhere.mp4"))
    assert code == EXIT_CONFIG
    assert "no video file at" in errors


async def test_video_cut_off_half_way_is_processed_and_fails(site: Site) -> None:
    """The frames that are there have records; the exit code says that there should be more."""
    whole = site.video.read_bytes()
    site.video.write_bytes(whole[: len(whole) // 2])
    code, _, errors = await run(*site.arguments())
    assert code == EXIT_FAILURE
    assert "of its 40 frames" in errors
    assert 5 < len(site.records("frame")) < 35
    assert site.records("track")


async def test_video_that_changes_size_is_processed_to_its_end(site: Site) -> None:
    """Tracks end at the change, boxes and crops stay inside the frame they belong to."""
    parts = []
    for name, width, height in (("a", 320, 240), ("b", 192, 160)):
        pictures = moving_squares(20, width=width, height=height)
        parts.append(write_video(site.folder / f"{name}.ts", pictures).read_bytes())
    video = site.folder / "both.ts"
    video.write_bytes(b"".join(parts))
    async with ScriptedEscalator() as escalator:
        code, _, _ = await run(*site.arguments(source=video, escalator=escalator.address))
    assert code == EXIT_OK
    frames = site.records("frame")
    assert len(frames) > 30
    limits = {max(track["box"][2] for track in record["tracks"]) for record in frames[-5:]}
    assert max(limits) <= 192
    for escalation in escalator.received:
        width = escalation.frame_width
        assert escalation.region.lies_inside(width, {320: 240, 192: 160}[width])


async def test_address_of_something_else_costs_no_frame(site: Site) -> None:
    """A socket that accepts and never speaks: the lane runs to its end."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        code, _, _ = await run(*site.arguments(escalator=address))
    assert code == EXIT_OK
    assert len(site.records("frame")) == 40


async def test_absent_source_leaves_the_results_of_the_run_before(site: Site) -> None:
    """What cannot start empties no file."""
    site.results.write_text("precious")
    code, _, _ = await run(*site.arguments(source=site.folder / "nowhere.mp4"))
    assert code == EXIT_CONFIG
    assert site.results.read_text() == "precious"


async def test_telemetry_port_in_use_does_not_start(site: Site) -> None:
    """Exit code 78, with the port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, errors = await run(*site.arguments(telemetry_port=port))
    assert code == EXIT_CONFIG
    assert f"127.0.0.1:{port}" in errors


async def test_schema_describes_the_settings() -> None:
    """For editors; every key has its description."""
    code, output, _ = await run("schema")
    assert code == EXIT_OK
    schema = json.loads(output)
    assert "deadline_s" in schema["$defs"]["DeadlineSettings"]["properties"]
    for model in schema["$defs"].values():
        for key, description in model.get("properties", {}).items():
            # What a section's own model says of itself is not said again where it is used.
            named = schema["$defs"].get(description.get("$ref", "").removeprefix("#/$defs/"), {})
            assert description.get("description") or named.get("description"), key
