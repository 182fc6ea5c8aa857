"""ONNX Runtime, and the one file of the services that imports it.

A session names its providers and thread counts explicitly. Its buffers are allocated once per batch
size and bound, so that a run allocates nothing: write the input, `run()`, read the outputs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from foundation.errors import ConfigError, IntegrityError, RejectedError, RejectReason

CPU_PROVIDERS = ("CPUExecutionProvider",)
RUNTIME_VERSION: str = onnxruntime.__version__
_OPENVINO = "OpenVINOExecutionProvider"
_OPENVINO_PLUGIN = "onnxruntime_ep_openvino"

# The runtime's exceptions share no base class of their own.
_RUNTIME_ERRORS = (
    _state.EPFail,
    _state.EngineError,
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoModel,
    _state.NoSuchFile,
    _state.NotFound,
    _state.NotImplemented,
    _state.RuntimeException,
    RuntimeError,
    ValueError,
)
_DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(float16)": np.float16}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, dtype and shape of a graph's input or output; None stands for a dynamic dimension."""

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class AssignedNode:
    """A node of the graph as it was shared out among providers, before any fused their own."""

    provider: str
    op_type: str
    name: str


class BoundBuffers:
    """Input and outputs of one batch size, bound to a session. Not thread-safe.

    Attributes:
        input: write the model's input here.
        outputs: read by name after `run()`; overwritten by the next one.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        binding: onnxruntime.IOBinding,
        input_array: npt.NDArray[Any],
        outputs: dict[str, npt.NDArray[Any]],
    ) -> None:
        self._session = session
        self._binding = binding
        self._input_name = session.get_inputs()[0].name
        self.input = input_array
        self.outputs: Mapping[str, npt.NDArray[Any]] = outputs

    def run(self) -> None:
        """Runs the model on `input` into `outputs`; the interpreter lock is released meanwhile.

        Raises:
            RejectedError: the runtime failed on this input.
        """
        try:
            # A device takes its copy of the input when that is bound, not when the model runs.
            self._binding.bind_input(
                self._input_name,
                "cpu",
                0,
                self.input.dtype,
                self.input.shape,
                self.input.ctypes.data,
            )
            self._session.run_with_iobinding(self._binding)
        except _RUNTIME_ERRORS as error:
            raise RejectedError(
                f"The model failed to run: {error}", reason=RejectReason.INFERENCE_FAILED
            ) from error


class ModelSession:
    """A loaded graph with one image input."""

    def __init__(self, session: onnxruntime.InferenceSession, inputs: list[TensorInfo]) -> None:
        self._session = session
        self.input = inputs[0]
        self.outputs = tuple(_tensor_info(node) for node in session.get_outputs())

    @staticmethod
    def open(
        model: bytes,
        *,
        providers: Sequence[str] = CPU_PROVIDERS,
        intra_op_threads: int = 1,
        spinning: bool = False,
        trace: Path | None = None,
    ) -> ModelSession:
        """Loads a graph.

        Args:
            model: a serialized ONNX model without external data.
            providers: execution providers in order of preference, all of which must be available.
            intra_op_threads: threads of one run, the calling one included.
            spinning: whether the CPU's pool waits for work by spinning, which burns a core between
                frames to save microseconds within one.
            trace: start of the path of a file to write every operator's time into, for looking into
                a model, not for serving. Such a session lets the CPU take what the providers leave,
                so that `assignment` can say what that is.

        Raises:
            ConfigError: a provider is not available here, or leaves work to a processor that is
                not among the providers.
            IntegrityError: the graph does not load, or has not exactly one input.
        """
        available = available_providers()
        for provider in providers:
            if provider not in available:
                raise ConfigError(
                    f"ONNX Runtime has no execution provider {provider}",
                    remedy=f"Choose from {', '.join(available)}",
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        # Weights in a file beside the process would escape the bundle's digest: no folder has any.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", "/dev/null/none"
        )
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(trace)
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        elif not set(CPU_PROVIDERS) & set(providers):
            # An accelerator that quietly leaves work to the CPU is a failure, not a fallback.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = _create(model, options, providers, intra_op_threads)
        except _RUNTIME_ERRORS as error:
            if "fallback to CPU EP" in str(error):
                raise ConfigError(
                    f"{', '.join(providers)} does not take the whole model",
                    remedy="See with `model-workshop bench` what it leaves; to let the processor "
                    f"take that, add {CPU_PROVIDERS[0]} to the providers",
                ) from error
            raise IntegrityError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {error}",
                remedy="Give a whole ONNX model, weights inside, of an opset that it supports",
            ) from error
        inputs = [_tensor_info(node) for node in session.get_inputs()]
        if len(inputs) != 1:
            raise IntegrityError(
                f"The model has the inputs {[tensor.name for tensor in inputs]}, not just an image",
                remedy="Export it with one image input",
            )
        return ModelSession(session, inputs)

    def end_trace(self) -> Path:
        """Ends the trace and returns its file, in the format of chrome://tracing."""
        return Path(self._session.end_profiling())

    def assignment(self) -> tuple[AssignedNode, ...]:
        """Which provider took which node; of a traced session only.

        Raises:
            ConfigError: the installed runtime is too old to tell.
        """
        if not hasattr(self._session, "get_provider_graph_assignment_info"):
            raise ConfigError(
                f"ONNX Runtime {RUNTIME_VERSION} does not tell which provider took which node",
                remedy="Install onnxruntime>=1.24",
            )
        return tuple(
            AssignedNode(part.ep_name, node.op_type, node.name)
            for part in self._session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        )

    def run_once(self, array: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by name of one run outside the frame lane; each run allocates them anew.

        Raises:
            IntegrityError: the graph does not run on this input, or puts out what is no tensor.
        """
        try:
            found = self._session.run(None, {self.input.name: array})
        except _RUNTIME_ERRORS as error:
            raise IntegrityError(
                f"The model does not run on input of shape {array.shape}: {error}",
                remedy="Check the input contract in the bundle's manifest",
            ) from error
        outputs = {tensor.name: value for tensor, value in zip(self.outputs, found, strict=True)}
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray):
                raise IntegrityError(
                    f"The model puts out {name!r}, which is no tensor but a {type(value).__name__}",
                    remedy="Export it with tensors as its outputs",
                )
        return outputs

    def bind(self, shape: tuple[int, ...]) -> BoundBuffers:
        """Allocates and binds the buffers for inputs of this shape, whose first axis is the batch.

        The outputs' shapes are learnt from one run on zeros.

        Raises:
            IntegrityError: the graph does not run on this shape.
        """
        input_array = np.zeros(shape, self.input.dtype)
        found = self.run_once(input_array)
        outputs = {name: np.ascontiguousarray(array) for name, array in found.items()}
        for name, array in outputs.items():
            if array.shape[:1] != shape[:1]:
                raise IntegrityError(
                    f"The model answers {shape[0]} images with {name!r} of shape {array.shape}",
                    remedy="Export it so that the first axis of every output is the batch",
                )
        binding = self._session.io_binding()
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return BoundBuffers(self._session, binding, input_array, outputs)


def _tensor_info(node: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorInfo(node.name, _DTYPES.get(node.type, np.object_), shape)


def available_providers() -> tuple[str, ...]:
    """Execution providers that can run a graph here, built into the runtime or plugged in."""
    plugged_in = [_OPENVINO] if _openvino_devices() else []
    return tuple(dict.fromkeys([*onnxruntime.get_available_providers(), *plugged_in]))


@functools.cache
def _openvino_devices() -> tuple[Any, ...]:
    """This processor as the OpenVINO plug-in offers it; none where that is absent."""
    if importlib.util.find_spec(_OPENVINO_PLUGIN) is None:
        return ()
    library = importlib.import_module(_OPENVINO_PLUGIN).get_library_path()
    onnxruntime.register_execution_provider_library("openvino", library)
    return tuple(
        device
        for device in onnxruntime.get_ep_devices()
        if device.ep_name == _OPENVINO and device.ep_metadata.get("ov_device") == "CPU"
    )


def _create(
    model: bytes, options: Any, providers: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
    # OpenVINO has a pool of its own, which takes all cores unless it is told otherwise, and it
    # computes in bfloat16 where a processor can: outputs are to be those of the model.
    wanted = {"INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}
    limits = {"load_config": json.dumps({"CPU": wanted})}
    if _OPENVINO in providers and _openvino_devices():
        options.add_provider_for_devices(list(_openvino_devices()[:1]), limits)
        return onnxruntime.InferenceSession(model, options)
    chosen = [(name, limits) if name == _OPENVINO else name for name in providers]
    return onnxruntime.InferenceSession(model, options, providers=chosen)


def check_runtime(runtime_min: str, bundle_name: str) -> None:
    """Compares the installed ONNX Runtime with the oldest that a bundle may run on.

    Raises:
        ConfigError: the installed one is older.
    """

    def parts(version: str) -> tuple[int, ...]:
        return tuple(int(digits) for digits in re.findall(r"\d+", version)[:2])

    if parts(onnxruntime.__version__) < parts(runtime_min):
        raise ConfigError(
            f"Bundle {bundle_name} needs ONNX Runtime {runtime_min} or newer, "
            f"here is {onnxruntime.__version__}",
            remedy=f"Install onnxruntime>={runtime_min}",
        )
