"""Running a service: signals, exit codes, threads. The one place that may catch anything.

A service is one coroutine on one event loop. It is asked to stop through an event, by SIGTERM or
SIGINT; a second signal ends the process at once. Errors that an operator can mend end it with one
line on standard error and exit code 78, everything else with a traceback and exit code 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable

from foundation.errors import (
    EXIT_CONFIG,
    EXIT_FAILURE,
    EXIT_OK,
    ConfigError,
    HardcaseError,
    IntegrityError,
)

log = logging.getLogger(__name__)

_EXIT_INTERRUPTED = 130
_M_ARENA_MAX = -8
"""Of mallopt(3) in malloc.h, glibc."""


def run_service(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Runs a service until it ends by itself or is told to stop.

    The process gets one heap. By default glibc gives each thread its own, and a picture that one
    thread decodes and another lets go of leaves holes in all of them: an escalator grew by 3 to 6
    MB in 100,000 requests without anything being held (`benchmarks.fuzz`).

    Args:
        main: the service; it returns soon after the event it is given is set.

    Returns:
        The exit code of the process.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # other libraries do otherwise
        mallopt(_M_ARENA_MAX, 1)

    async def supervise() -> None:
        stop = asyncio.Event()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(_EXIT_INTERRUPTED)
            stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await main(stop)

    return exit_code_of(lambda: asyncio.run(supervise()))


def exit_code_of(command: Callable[[], object]) -> int:
    """Runs a command to its end and says in one line on standard error why it failed.

    Returns:
        0, 78 for what an operator has to mend, or 1.
    """
    try:
        command()
    except BaseExceptionGroup as group:
        foreseen, bugs = group.split(HardcaseError)
        if foreseen is None or bugs is not None:
            log.critical("ended by a bug", exc_info=group)
            return EXIT_FAILURE
        return _report(_first(foreseen))
    except HardcaseError as error:
        return _report(error)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except Exception:
        log.critical("ended by a bug", exc_info=True)
        return EXIT_FAILURE
    return EXIT_OK


async def run_thread(
    name: str,
    target: Callable[[], None],
    *,
    stop: Callable[[], None],
    join_s: float = 5.0,
) -> None:
    """Runs blocking native work in a named thread of its own until it returns.

    Args:
        name: of the thread, for whoever looks at the process.
        target: the work; an exception that it raises is raised here.
        stop: makes `target` return soon; called when this coroutine is cancelled.
        join_s: how long to wait for it then.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def body() -> None:
        error: BaseException | None = None
        try:
            target()
        except StopIteration as raised:
            error = RuntimeError(f"thread {name} ran past the end of an iterator")
            error.__cause__ = raised  # a future refuses StopIteration itself
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(finish, error)
        except RuntimeError:
            # The loop is gone because the join below timed out; nobody waits any more.
            log.warning("thread %s ended after its service", name)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        stop()
        finished, _ = await asyncio.wait({done}, timeout=join_s)
        if not finished:
            log.error("thread %s did not end within %.1f s", name, join_s)
        elif (error := done.exception()) is not None:
            raise error from None
        raise


def start_thread(
    name: str, target: Callable[[], None], failed: Callable[[BaseException], None]
) -> threading.Thread:
    """Starts a named thread that outlives the tasks beside it; whoever started it joins it.

    Args:
        name: of the thread, for whoever looks at the process.
        target: the work.
        failed: hears, in that thread, of the error that has ended it.
    """

    def body() -> None:
        try:
            target()
        except BaseException as error:
            failed(error)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    return thread


class ThreadFailure:
    """Brings the error that ended such a thread to the tasks, which end with it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._error: asyncio.Future[None] = self._loop.create_future()

    def hear(self, error: BaseException) -> None:
        """From that thread."""
        with contextlib.suppress(RuntimeError):  # after the loop nobody waits any more
            self._loop.call_soon_threadsafe(self._take, error)

    async def wait(self) -> None:
        """Raises the first error; until there is one it does not return."""
        await asyncio.shield(self._error)

    def _take(self, error: BaseException) -> None:
        if not self._error.done():
            self._error.set_exception(error)


def _first(group: BaseExceptionGroup[HardcaseError]) -> HardcaseError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _report(error: HardcaseError) -> int:
    sys.stderr.write(f"error: {error}\n")
    return EXIT_CONFIG if isinstance(error, ConfigError | IntegrityError) else EXIT_FAILURE
