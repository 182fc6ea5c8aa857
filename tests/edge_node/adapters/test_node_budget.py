"""The budget that processes share: real files, real locks, real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_node.adapters.node_budget import FILE_BYTES, FILE_NAME, NOTES_MAX, NodeBudget
from edge_node.logic.budget import NS_PER_S
from edge_node.logic.spending import Ledger, Limits, Refusal, Reservation
from edge_node.values import NodeEvent
from foundation.errors import ConfigError
from tests.support.clock import ManualClock

NODE = Limits(1_000.0, 10_000.0, 10.0, 100.0)
AMPLE = Limits(1e9, 1e9, 1e9, 1e9)
FILL_S = 10.0


@contextmanager
def cameras(
    folder: Path, clock: ManualClock, count: int, own: Limits = AMPLE
) -> Iterator[list[NodeBudget]]:
    """Cameras on one machine."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(NodeBudget(folder, NODE, Ledger(own), clock.now_ns))
            for _ in range(count)
        ]


def reserve(camera: NodeBudget, clock: ManualClock, size_bytes: float) -> Reservation | Refusal:
    """An offer of which nobody has heard before, so nothing has a price."""
    return camera.reserve(1.0, size_bytes, clock.now_ns())


def test_cameras_spend_from_one_bucket(tmp_path: Path) -> None:
    """New, it is empty; filled, the one that comes first takes it."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 2) as (one, other):
        assert reserve(one, clock, 1.0) is Refusal.BYTES
        clock.advance_s(FILL_S)
        assert isinstance(reserve(one, clock, 9_000.0), Reservation)
        assert reserve(other, clock, 2_000.0) is Refusal.BYTES
        assert isinstance(reserve(other, clock, 1_000.0), Reservation)
        assert (one.events[NodeEvent.RESET], other.events[NodeEvent.RESET]) == (0, 0)


def test_settlement_is_seen_by_the_others(tmp_path: Path) -> None:
    """What one did not need the other takes."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 2) as (one, other):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        reservation = reserve(one, clock, 10_000.0)
        assert isinstance(reservation, Reservation)
        one.settle(reservation, 4_000.0)
        assert reserve(other, clock, 6_001.0) is Refusal.BYTES
        assert isinstance(reserve(other, clock, 6_000.0), Reservation)


def test_limit_of_a_camera_holds_beside_the_nodes(tmp_path: Path) -> None:
    """Of a full node, a camera takes what its own bucket holds, and no more is charged."""
    clock = ManualClock()
    with (
        cameras(tmp_path, clock, 1, Limits(100.0, 3_000.0, 10.0, 10.0)) as (small,),
        cameras(tmp_path, clock, 1) as (large,),
    ):
        reserve(small, clock, 0.0)
        clock.advance_s(FILL_S)
        assert isinstance(reserve(small, clock, 3_000.0), Reservation)
        assert reserve(small, clock, 500.0) is Refusal.BYTES
        assert isinstance(reserve(large, clock, 7_000.0), Reservation)


def test_all_cameras_see_the_price_that_one_learnt(tmp_path: Path) -> None:
    """A camera of cheap tracks pays the price that the dear ones of another make."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 2) as (dear, cheap):
        for _ in range(600):
            clock.advance_s(1.0)
            for _ in range(4):
                dear.learn(10.0, 1_000.0, clock.now_ns())
                dear.reserve(10.0, 1_000.0, clock.now_ns())
        assert cheap.reserve(1.0, 1_000.0, clock.now_ns()) is Refusal.PRICE
        assert cheap.price(clock.now_ns()).per_byte == pytest.approx(
            dear.price(clock.now_ns()).per_byte, rel=0.05
        )
        assert cheap.price(clock.now_ns()).per_byte > 0.001


def test_crop_may_turn_out_as_large_as_both_prices_and_both_buckets_allow(tmp_path: Path) -> None:
    """At first nothing has a price and the smaller bucket is the limit; then the prices are."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1, Limits(200.0, 6_000.0, 10.0, 100.0)) as (one,):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        bought = reserve(one, clock, 1_000.0)
        assert isinstance(bought, Reservation)
        assert bought.most_bytes == pytest.approx(6_000.0)
        for _ in range(600):
            clock.advance_s(1.0)
            for _ in range(20):
                one.learn(1.0, 1_000.0, clock.now_ns())
            one.reserve(1.0, 1_000.0, clock.now_ns())
        price = one.price(clock.now_ns())
        assert price.per_byte > 0
        value = 1.0 + price.of(1_500.0)
        bought = one.reserve(value, 1_000.0, clock.now_ns(), costs=1.0)
        assert isinstance(bought, Reservation)
        assert bought.most_bytes == pytest.approx(1_500.0)


def test_crop_may_turn_out_no_larger_than_what_the_node_holds(tmp_path: Path) -> None:
    """However much the camera may spend by itself."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1) as (one,):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        bought = reserve(one, clock, 1_000.0)
        assert isinstance(bought, Reservation)
        assert bought.most_bytes == pytest.approx(NODE.bytes_burst)


def test_held_lock_refuses_at_once_and_notes_follow(tmp_path: Path) -> None:
    """While another has the lock nothing is charged; a settlement made meanwhile is not lost."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 2) as (one, other):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        reservation = reserve(one, clock, 10_000.0)
        assert isinstance(reservation, Reservation)
        with holder(tmp_path):
            assert reserve(one, clock, 1.0) is Refusal.CONTENDED
            one.settle(reservation, 0)
            for _ in range(NOTES_MAX + 3):
                one.learn(1.0, 1_000.0, clock.now_ns())
        assert one.events[NodeEvent.CONTENDED] == 2
        assert one.events[NodeEvent.FORGOTTEN] == 3
        assert reserve(other, clock, 10_000.0) is Refusal.BYTES
        one.reserve(0.0, 1.0, clock.now_ns())
        assert isinstance(other.reserve(1e9, 10_000.0, clock.now_ns()), Reservation)


def test_what_is_too_dear_is_refused_without_the_file(tmp_path: Path) -> None:
    """By the state that was seen within the last second; later the file is asked."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1) as (one,):
        reserve(one, clock, 0.0)
        with holder(tmp_path):
            assert one.reserve(0.0, 1_000.0, clock.now_ns()) is Refusal.PRICE
            assert one.events[NodeEvent.CONTENDED] == 0
            clock.advance_s(1.0)
            assert one.reserve(0.0, 1_000.0, clock.now_ns()) is Refusal.CONTENDED


def test_disk_that_is_full(tmp_path: Path) -> None:
    """At the start there is no room: an error. Later it cannot be written: nothing is granted."""
    program = """
        import resource, signal, sys
        from pathlib import Path
        from edge_node.adapters.node_budget import NodeBudget
        from edge_node.logic.spending import Ledger, Limits, Refusal
        from foundation.errors import ConfigError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = Limits(1e3, 1e4, 1e3, 1e3)
        now_ns = 10**12
        def full(size):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        full(0)
        try:
            NodeBudget(Path(sys.argv[1]), limits, Ledger(limits)).__enter__()
        except ConfigError as error:
            print(error)
        full(resource.RLIM_INFINITY)
        with NodeBudget(Path(sys.argv[1]), limits, Ledger(limits), lambda: now_ns) as budget:
            budget.reserve(1.0, 0.0, now_ns)
            now_ns += 10**10
            full(0)
            print(budget.reserve(1.0, 5_000.0, now_ns), budget.events["unwritten"])
            full(resource.RLIM_INFINITY)
            print(type(budget.reserve(1.0, 10_000.0, now_ns)).__name__)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    error, *rest = done.stdout.splitlines()
    assert error.startswith("Cannot keep the node's budget in")
    assert rest == ["unusable 1", "Reservation"]


def test_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    """Kill -9 in the middle of holding it: the next offer is charged as if nothing had been."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1) as (one,):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        with holder(tmp_path) as process:
            assert reserve(one, clock, 1.0) is Refusal.CONTENDED
            process.send_signal(signal.SIGKILL)
            process.wait(10.0)
            assert isinstance(reserve(one, clock, 10_000.0), Reservation)
        assert one.events[NodeEvent.RESET] == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda block: block[: FILE_BYTES // 2],
        lambda block: block[:100] + b"\xff" + block[101:],
        lambda block: block[:-1] + bytes([block[-1] ^ 1]),
        lambda block: b"something else entirely" + block[:2],
        lambda block: 3 * (b"x" + block[1:]),
        lambda block: block[:8] + bytes(16) + block[24:],
    ],
    ids=["truncated", "torn", "checksum", "foreign", "larger", "another boot"],
)
def test_damaged_file_is_an_empty_bucket(tmp_path: Path, damage: object) -> None:
    """Counted, and it fills again from there."""
    assert callable(damage)
    clock = ManualClock()
    path = tmp_path / FILE_NAME
    with cameras(tmp_path, clock, 1) as (one,):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        reserve(one, clock, 0.0)
        path.write_bytes(damage(path.read_bytes()))
        assert reserve(one, clock, 1.0) is Refusal.BYTES
        assert one.events[NodeEvent.RESET] == 1
        clock.advance_s(1.0)
        assert isinstance(reserve(one, clock, 1_000.0), Reservation)
        assert one.events[NodeEvent.RESET] == 1


def test_removed_file_does_not_make_two_budgets(tmp_path: Path) -> None:
    """One that had it open goes on with the new one."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1) as (one,):
        reserve(one, clock, 0.0)
        clock.advance_s(FILL_S)
        (tmp_path / FILE_NAME).unlink()
        with cameras(tmp_path, clock, 1) as (other,):
            assert reserve(other, clock, 1.0) is Refusal.BYTES
            assert reserve(one, clock, 1.0) is Refusal.BYTES
            clock.advance_s(FILL_S)
            assert isinstance(reserve(other, clock, 10_000.0), Reservation)
            assert reserve(one, clock, 1.0) is Refusal.BYTES


def test_limits_of_the_last_to_open_hold_for_all(tmp_path: Path) -> None:
    """After a change of settings the cameras are restarted one by one."""
    clock = ManualClock()
    with cameras(tmp_path, clock, 1) as (old,):
        reserve(old, clock, 0.0)
        less = Limits(100.0, 2_000.0, 10.0, 100.0)
        with NodeBudget(tmp_path, less, Ledger(AMPLE), clock.now_ns) as new:
            reserve(new, clock, 0.0)
            clock.advance_s(FILL_S)
            assert reserve(old, clock, 1_001.0) is Refusal.BYTES
            assert isinstance(reserve(old, clock, 1_000.0), Reservation)


def test_folder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    """As is something else under its name."""
    with (
        pytest.raises(ConfigError, match="node's budget"),
        NodeBudget(tmp_path / "absent", NODE, Ledger(AMPLE)),
    ):
        pass
    os.mkfifo(tmp_path / FILE_NAME)
    with (
        pytest.raises(ConfigError, match="it is not a file"),
        NodeBudget(tmp_path, NODE, Ledger(AMPLE)),
    ):
        pass


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """Whatever it points at stays as it is."""
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / FILE_NAME).symlink_to(target)
    with pytest.raises(ConfigError), NodeBudget(tmp_path, NODE, Ledger(AMPLE)):
        pass
    assert target.read_text() == "kept"


def test_processes_together_stay_within_the_budget(tmp_path: Path) -> None:
    """Four that ask as fast as they can, one of them killed: what they got is what there was."""
    program = """
        import sys, time
        from pathlib import Path
        from edge_node.adapters.node_budget import NodeBudget, boottime_ns
        from edge_node.logic.spending import Ledger, Limits, Reservation
        ample = Limits(1e12, 1e12, 1e12, 1e12)
        limits = Limits(20_000.0, 10_000.0, 1e9, 1e9)
        print(boottime_ns(), flush=True)
        with NodeBudget(Path(sys.argv[1]), limits, Ledger(ample)) as budget:
            end_ns = boottime_ns() + 2_000_000_000
            while boottime_ns() < end_ns:
                if isinstance(budget.reserve(1.0, 100.0, boottime_ns()), Reservation):
                    print(boottime_ns(), flush=True)
                time.sleep(0.0005)
            print("resets", budget.events["reset"], file=sys.stderr)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    opened_ns = 0
    for process in running:
        assert process.stdout is not None
        begun_ns = int(process.stdout.readline())
        opened_ns = min(opened_ns or begun_ns, begun_ns)
    running[0].send_signal(signal.SIGKILL)
    grants_ns: list[int] = []
    for process in running:
        out, errors = process.communicate(timeout=60)
        grants_ns += [int(line) for line in out.split()]
        assert process is running[0] or errors == "resets 0\n"
    # The bucket began empty, after the first of them said that it was there.
    elapsed_s = (max(grants_ns) - opened_ns) / NS_PER_S
    assert len(grants_ns) > 20
    assert 100.0 * len(grants_ns) <= 20_000.0 * elapsed_s


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it is killed."""
    program = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'r+b'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder / FILE_NAME)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
