import os
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest

from edge_node.config import SourceSettings
from foundation.clock import SystemClock
from foundation.errors import ConfigError, IntegrityError
from reference_line.board import render_board
from reference_line.camera import LineSource, open_line
from reference_line.line import Line, LineSettings
from reference_line.renderer import BoardRenderer
from tests.support.clock import ManualClock


def settings(pace: str = "unpaced", **parameters: object) -> SourceSettings:
    """Settings of a line source."""
    return SourceSettings.model_validate({"kind": "line", "pace": pace, "parameters": parameters})


def read_many(source: LineSource, stop: threading.Event) -> None:
    """Read until boards that were not rendered yet are needed, and beyond."""
    for _ in range(200):
        source.read(stop)


def test_source_shows_the_line_frame_by_frame_and_ends() -> None:
    """Reads are the line's frames in order, across a board's end, then None."""
    stop = threading.Event()
    clock = ManualClock()
    line = Line(4, settings=LineSettings(speed_px=64.0))
    with open_line(settings(seed=4, speed_px=64.0, frames_max=30), clock) as source:
        assert not source.live
        for index in range(30):
            capture = source.read(stop)
            assert capture is not None
            assert capture.captured_at_ns == clock.now_ns()
            if index % 7 == 0:
                assert np.array_equal(capture.pixels, line.frame(index))
        assert source.read(stop) is None


def test_live_source_keeps_its_rate() -> None:
    """Captures of a live source are a period apart or more, on the process's clock."""
    stop = threading.Event()
    with open_line(settings("realtime", seed=4), SystemClock()) as source:
        assert source.live
        assert source.frame_rate_hz == 30.0
        captures = [source.read(stop) for _ in range(5)]
    instants = [c.captured_at_ns for c in captures if c is not None]
    assert len(instants) == 5
    assert instants[-1] - instants[0] >= 4 * 33_000_000


def test_stop_ends_a_wait() -> None:
    """A source told to stop gives no further picture."""
    stop = threading.Event()
    with open_line(settings("realtime", seed=4), SystemClock()) as source:
        assert source.read(stop) is not None
        stop.set()
        assert source.read(stop) is None


def test_unknown_parameter_names_the_nearest() -> None:
    """A typo in the parameters is fatal and says what was meant."""
    with pytest.raises(ConfigError, match=r"sead.*did you mean 'seed'"):
        open_line(settings(sead=4), ManualClock())
    with pytest.raises(ConfigError, match="seed"):
        open_line(settings(seed="seven"), ManualClock())


def test_renderer_makes_the_same_board_elsewhere() -> None:
    """A board from the process equals one rendered here."""
    renderer = BoardRenderer(9)
    renderer.open()
    try:
        renderer.request(2)
        renderer.request(2)
        received = renderer.receive(60.0)
        assert received is not None
        number, board = received
        assert number == 2
        expected = render_board(9, 2)
        assert np.array_equal(board.texture, expected.texture)
        assert board.defects == expected.defects
        assert renderer.receive(0.0) is None
    finally:
        renderer.close()
    renderer.close()


def test_source_whose_renderer_was_killed_is_broken_not_silent() -> None:
    """When the process dies the source says so instead of standing still."""
    with open_line(settings(seed=4, speed_px=64.0), ManualClock()) as source:
        assert source.renderer_process_id is not None
        os.kill(source.renderer_process_id, signal.SIGKILL)
        stop = threading.Event()
        with pytest.raises(IntegrityError, match="renders the line's boards has ended"):
            read_many(source, stop)


def test_renderer_ends_with_an_owner_that_was_killed() -> None:
    """Nothing stays behind when the process that plays the line dies without a word."""
    program = (
        "from reference_line.renderer import BoardRenderer; import time;"
        "r = BoardRenderer(1); r.open(); print(r.process_id, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    renderer = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert psutil.wait_procs([renderer], timeout=60)[0] == [renderer]
