"""Sessions: bound buffers, threads, and models that do not load."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from foundation.errors import ConfigError, IntegrityError
from foundation.session import ModelSession, available_providers
from tests.support.graphs import RAW, family_model, model_with_external_data


def white(batch: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """White images for the squares model."""
    return np.full((batch, 64, 64, 3), 255, np.uint8)


def test_a_session_describes_its_graph() -> None:
    """Names, dtypes and shapes; a dynamic dimension is None."""
    session = ModelSession.open(family_model())
    assert session.input.name == "image"
    assert session.input.dtype == np.uint8
    assert session.input.shape == (None, 64, 64, 3)
    assert [(output.name, output.shape) for output in session.outputs] == [
        ("heatmap", (None, 3, 8, 8)),
        ("box", (None, 4, 8, 8)),
    ]


def test_buffers_are_bound_once_and_written_in_place() -> None:
    """A run replaces no array: the ones that were given out hold its results."""
    buffers = ModelSession.open(family_model()).bind((2, 64, 64, 3))
    heatmap, address = buffers.outputs["heatmap"], buffers.outputs["heatmap"].ctypes.data
    buffers.input[:] = 0
    buffers.run()
    dark = heatmap.copy()
    buffers.input[1] = 255
    buffers.run()
    assert buffers.outputs["heatmap"] is heatmap
    assert heatmap.ctypes.data == address
    np.testing.assert_array_equal(heatmap[0], dark[0])
    assert (heatmap[1] > dark[1]).all()


def test_batch_sizes_have_buffers_of_their_own() -> None:
    """What one size computes, another does not overwrite."""
    session = ModelSession.open(family_model())
    one, two = session.bind((1, 64, 64, 3)), session.bind((2, 64, 64, 3))
    two.input[:] = white(2)
    two.run()
    bright = two.outputs["heatmap"].copy()
    one.run()
    np.testing.assert_array_equal(two.outputs["heatmap"], bright)


def test_two_sessions_run_in_two_threads() -> None:
    """Each thread with a session of its own gets its own results, every time."""
    failures: list[str] = []

    def work(level: int) -> None:
        buffers = ModelSession.open(family_model()).bind((1, 64, 64, 3))
        buffers.input[:] = level
        buffers.run()
        first = buffers.outputs["heatmap"].copy()
        for _ in range(200):
            buffers.run()
            if not np.array_equal(buffers.outputs["heatmap"], first):
                failures.append(f"level {level}")

    threads = [threading.Thread(target=work, args=(level,)) for level in (40, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_shape_that_the_graph_does_not_take_is_refused() -> None:
    """Named with its shape when buffers are bound, not later."""
    fixed = RAW.model_copy(update={"dynamic_batch": False})
    session = ModelSession.open(family_model(contract=fixed))
    with pytest.raises(IntegrityError, match=r"\(2, 64, 64, 3\)"):
        session.bind((2, 64, 64, 3))


@pytest.mark.parametrize(
    "model",
    [b"", b"not a model", family_model()[:-200], family_model()[200:]],
    ids=["empty", "text", "cut off", "beheaded"],
)
def test_bytes_that_are_no_model_are_refused(model: bytes) -> None:
    """With the version of the runtime and what to check."""
    with pytest.raises(IntegrityError, match=r"ONNX Runtime .* cannot load the model") as caught:
        ModelSession.open(model)
    assert "opset" in caught.value.remedy


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "absolute"])
def test_weights_in_another_file_are_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would escape the bundle's digest, even where such a file lies beside the process."""
    (tmp_path / "inside").mkdir()
    for folder in (tmp_path, tmp_path / "inside"):
        (folder / "weights.bin").write_bytes(bytes(1024))
    monkeypatch.chdir(tmp_path / "inside")
    place = str(tmp_path / "weights.bin") if location == "absolute" else location
    with pytest.raises(IntegrityError, match="cannot load the model"):
        ModelSession.open(model_with_external_data(place))


def test_a_traced_session_tells_who_took_what_and_how_long_it_ran(tmp_path: Path) -> None:
    """Every node has a provider, and the trace has an event for every kernel that ran."""
    session = ModelSession.open(family_model(), trace=tmp_path / "trace")
    session.bind((1, 64, 64, 3)).run()
    assigned = session.assignment()
    assert {node.provider for node in assigned} == {"CPUExecutionProvider"}
    assert {"Conv", "AveragePool"} <= {node.op_type for node in assigned}
    path = session.end_trace()
    assert path.parent == tmp_path
    events = json.loads(path.read_text())
    assert any(event["cat"] == "Node" for event in events)


def test_providers_that_are_here_are_named() -> None:
    """The processor is always among them, and each is named once."""
    found = available_providers()
    assert "CPUExecutionProvider" in found
    assert len(set(found)) == len(found)


def test_spinning_changes_no_result() -> None:
    """It is about waiting, not about computing."""
    found = []
    for spinning in (False, True):
        session = ModelSession.open(family_model(), intra_op_threads=2, spinning=spinning)
        buffers = session.bind((1, 64, 64, 3))
        buffers.input[:] = 200
        buffers.run()
        found.append(buffers.outputs["heatmap"])
    np.testing.assert_array_equal(found[0], found[1])


def test_a_provider_that_leaves_work_to_the_processor_is_refused() -> None:
    """Unless the processor is among the providers. This provider takes nothing of any detector."""
    remote = "AzureExecutionProvider"
    if remote not in available_providers():
        pytest.skip(f"this build of the runtime has no {remote}")
    with pytest.raises(ConfigError, match=f"{remote} does not take the whole model"):
        ModelSession.open(family_model(), providers=(remote,))
    both = ModelSession.open(family_model(), providers=(remote, "CPUExecutionProvider"))
    both.bind((1, 64, 64, 3)).run()
