"""Running a service: real processes for exit codes and signals, real threads for the rest."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foundation.errors import ConfigError, IntegrityError, TransientError
from foundation.supervision import ThreadFailure, exit_code_of, run_thread, start_thread

PATIENCE_S = 30.0
PRELUDE = """
import asyncio, sys
from foundation.errors import *
from foundation.supervision import run_service, run_thread
"""


@contextmanager
def service(body: str, repository: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `async def main(stop)` of this body as a service."""
    program = (
        f"{PRELUDE}\nasync def main(stop):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
    )
    program += "\nsys.exit(run_service(main))\n"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """How a process ended: its exit code and what it wrote to standard error."""
    _, errors = process.communicate(timeout=PATIENCE_S)
    return process.returncode, errors


def wait_until_it_says(process: subprocess.Popen[str], line: str) -> None:
    """Blocks until the process has printed this line."""
    assert process.stdout is not None
    assert process.stdout.readline() == line + "\n"


# --- exit codes -----------------------------------------------------------------------------------


def test_a_service_that_ends_by_itself_ends_well(repository: Path) -> None:
    """Exit code 0 and nothing on standard error."""
    with service("pass", repository) as process:
        assert end(process) == (0, "")


@pytest.mark.parametrize("kind", ["ConfigError", "IntegrityError"])
def test_what_an_operator_can_mend_is_one_line(repository: Path, kind: str) -> None:
    """Exit code 78, the error and its remedy, no traceback."""
    with service(f"raise {kind}('Port 80 is taken', remedy='Choose another')", repository) as it:
        assert end(it) == (78, "error: Port 80 is taken. Choose another.\n")


def test_an_error_from_inside_a_task_group_is_one_line_too(repository: Path) -> None:
    """Where the services run everything."""
    body = """
        async def fail():
            raise ConfigError("No camera at /dev/video7", remedy="Plug it in")
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(fail())
    """
    with service(body, repository) as process:
        assert end(process) == (78, "error: No camera at /dev/video7. Plug it in.\n")


def test_a_bug_ends_with_a_traceback(repository: Path) -> None:
    """Exit code 1, so that a supervisor restarts it, and where it happened."""
    with service("{}['the missing key']", repository) as process:
        code, errors = end(process)
    assert code == 1
    assert "Traceback" in errors
    assert "KeyError: 'the missing key'" in errors


def test_a_bug_beside_an_error_is_a_bug(repository: Path) -> None:
    """A group that holds both is not explained by the foreseen one."""
    body = "raise ExceptionGroup('both', [ConfigError('wrong'), ValueError('the bug')])"
    with service(body, repository) as process:
        code, errors = end(process)
    assert code == 1
    assert "the bug" in errors
    assert "Traceback" in errors


def test_a_passing_failure_asks_for_a_restart() -> None:
    """Exit code 1 without a traceback: the same settings may work in a minute."""

    def fail() -> None:
        raise TransientError("The disk is full")

    assert exit_code_of(fail) == 1


def test_commands_end_with_the_same_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """Off-line programs use the same rules."""

    def fail() -> None:
        raise IntegrityError("The bundle is damaged", remedy="Install it again")

    def interrupted() -> None:
        raise KeyboardInterrupt

    def group() -> None:
        raise BaseExceptionGroup("one", [ConfigError("Wrong")])

    assert exit_code_of(lambda: None) == 0
    assert exit_code_of(fail) == 78
    assert exit_code_of(interrupted) == 130
    assert exit_code_of(group) == 78
    assert capsys.readouterr().err == (
        "error: The bundle is damaged. Install it again.\nerror: Wrong.\n"
    )


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_service_to_stop(repository: Path, number: signal.Signals) -> None:
    """It finishes what it has to and ends with 0."""
    body = """
        print("ready", flush=True)
        await stop.wait()
        print("stopped", flush=True)
    """
    with service(body, repository) as process:
        wait_until_it_says(process, "ready")
        process.send_signal(number)
        wait_until_it_says(process, "stopped")
        assert end(process) == (0, "")


def test_a_second_signal_ends_it_at_once(repository: Path) -> None:
    """A service that hangs while it stops can still be ended from the keyboard."""
    body = """
        print("ready", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.sleep(3600)
    """
    with service(body, repository) as process:
        wait_until_it_says(process, "ready")
        process.send_signal(signal.SIGTERM)
        wait_until_it_says(process, "stopping")
        process.send_signal(signal.SIGTERM)
        code, _ = end(process)
    assert code == 130


def test_a_stuck_thread_does_not_keep_the_process(repository: Path) -> None:
    """Native work that never returns is reported and left behind."""
    body = """
        import threading
        print("ready", flush=True)
        async with asyncio.TaskGroup() as group:
            stuck = run_thread(
                "camera_left", threading.Event().wait, stop=lambda: None, join_s=0.01
            )
            task = group.create_task(stuck)
            await stop.wait()
            task.cancel()
    """
    with service(body, repository) as process:
        wait_until_it_says(process, "ready")
        process.send_signal(signal.SIGTERM)
        code, errors = end(process)
    assert code == 0
    assert "thread camera_left did not end" in errors


# --- threads --------------------------------------------------------------------------------------


async def test_a_thread_runs_under_its_name_until_it_returns() -> None:
    """Not on the loop's thread."""
    seen: list[threading.Thread] = []
    await run_thread("decode_0", lambda: seen.append(threading.current_thread()), stop=print)
    assert seen[0].name == "decode_0"
    assert seen[0] is not threading.current_thread()


@pytest.mark.parametrize("error", [ConfigError("no camera"), ValueError("a bug"), SystemExit(3)])
async def test_what_a_thread_raises_is_raised_here(error: BaseException) -> None:
    """As the same exception, of whatever kind."""

    def target() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await run_thread("camera", target, stop=lambda: None)
    assert caught.value is error


async def test_the_end_of_an_iterator_does_not_hang_the_service() -> None:
    """No future takes a StopIteration; it is a bug and must end the process like one."""
    with pytest.raises(RuntimeError, match="thread camera ran past the end") as caught:
        await run_thread("camera", lambda: next(iter(())), stop=lambda: None)
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_cancelling_stops_and_joins_the_thread() -> None:
    """The caller goes on only when the native work has ended."""
    started, asked, ended = threading.Event(), threading.Event(), threading.Event()

    def target() -> None:
        started.set()
        asked.wait(PATIENCE_S)
        ended.set()

    task = asyncio.create_task(run_thread("camera", target, stop=asked.set, join_s=PATIENCE_S))
    await asyncio.to_thread(started.wait, PATIENCE_S)
    assert not ended.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_a_thread_raises_while_it_is_stopped_is_not_lost() -> None:
    """A camera that fails on closing says so."""
    started, asked = threading.Event(), threading.Event()

    def target() -> None:
        started.set()
        asked.wait(PATIENCE_S)
        raise ConfigError("the camera does not close")

    task = asyncio.create_task(run_thread("camera", target, stop=asked.set, join_s=PATIENCE_S))
    await asyncio.to_thread(started.wait, PATIENCE_S)
    task.cancel()
    with pytest.raises(ConfigError, match="does not close"):
        await task


async def test_a_failed_thread_ends_the_task_group() -> None:
    """Its siblings are cancelled: a service without its camera is no service."""

    def target() -> None:
        raise ConfigError("no camera")

    sibling = asyncio.create_task(asyncio.sleep(3600))

    async def wait() -> None:
        await sibling

    async def service_without_camera() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(run_thread("camera", target, stop=lambda: None))

    with pytest.raises(ExceptionGroup) as caught:
        await service_without_camera()
    assert caught.group_contains(ConfigError)
    assert sibling.cancelled()


async def test_error_of_a_thread_beside_the_tasks_ends_them() -> None:
    """Where it could not be awaited: whoever started it is told, and the tasks end with it."""
    failure = ThreadFailure()

    def target() -> None:
        raise ArithmeticError("a bug")

    async def service() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failure.wait())
            group.create_task(asyncio.sleep(3600))
            start_thread("spool", target, failure.hear)

    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(service(), PATIENCE_S)
    assert caught.group_contains(ArithmeticError)


async def test_thread_that_ends_well_says_nothing() -> None:
    """Waiting for a failure goes on, and may be given up and begun again."""
    failure = ThreadFailure()
    start_thread("spool", lambda: None, failure.hear).join(PATIENCE_S)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(failure.wait(), 0.01)
