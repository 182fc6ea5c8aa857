"""The two services as real processes: started, watched, stopped, and heard when they fail.

Each runs in its own working folder and session, so that Ctrl-C reaches the demo alone, which then
stops them in the order in which data flows. What they say goes to `log.txt` in their folder.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from foundation.errors import HardcaseError

_POLL_S = 0.05
_TAIL_LINES = 12


class ServiceProcess:
    """One running service.

    Args:
        name: what to call it in messages.
        arguments: after `python -m`.
        folder: its working folder, which exists.
        telemetry_port: where it serves /readyz and /metrics.
        niceness: how much it yields to others.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        folder: Path,
        telemetry_port: int,
        niceness: int = 0,
    ) -> None:
        self.name = name
        self.telemetry_port = telemetry_port
        self._log_path = folder / "log.txt"
        self._folder = folder
        yielding = ["nice", "-n", str(niceness)] if niceness else []
        self._command = [*yielding, sys.executable, "-m", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves nothing running, whatever has happened."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id; `nice` replaces itself by the service and so shares it."""
        if self._process is None:
            raise RuntimeError(f"the {self.name} has not been started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the service says that it takes work, or has already done all of it.

        Raises:
            HardcaseError: it failed, or was not ready in time; its last words are in the message.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if not self.is_running:
                self.wait_end(0.0)
                return
            try:
                url = f"http://127.0.0.1:{self.telemetry_port}/readyz"
                with urllib.request.urlopen(url, timeout=1.0):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(_POLL_S)
        raise HardcaseError(
            f"The {self.name} was not ready within {timeout_s:.0f} s:\n{self.last_words()}",
            remedy=f"Its log is {self._log_path}",
        )

    def ask_to_stop(self) -> None:
        """Asks it to drain and end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_end(self, timeout_s: float) -> None:
        """Waits until it has ended by itself or as asked.

        Raises:
            HardcaseError: it did not end in time, or ended with an error.
        """
        if self._process is None:
            return
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise HardcaseError(
                f"The {self.name} did not end within {timeout_s:.0f} s:\n{self.last_words()}",
                remedy=f"Its log is {self._log_path}",
            ) from None
        if code != 0:
            raise self.failure()

    def failure(self) -> HardcaseError:
        """What to raise when it has ended and should not have."""
        code = self._process.returncode if self._process is not None else None
        return HardcaseError(
            f"The {self.name} ended with exit code {code}:\n{self.last_words()}",
            remedy=f"Its log is {self._log_path}",
        )

    def last_words(self) -> str:
        """The end of its log, indented."""
        try:
            lines = self._log_path.read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (it said nothing)"
