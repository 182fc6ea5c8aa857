"""What it costs to turn camera bytes into model input: outside the graph, and inside it.

    python -m benchmarks.model_input [--rounds 50]

The model behind the input only averages, so that next to nothing but the input is measured. CPU
seconds on one thread, the median of the rounds, both ways in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import onnx
from onnx import TensorProto, helper

from foundation.bundle import Bundle, Smoke
from foundation.detector import Detector
from foundation.frames import Detections
from foundation.manifest import (
    BundleInfo,
    Calibration,
    ClassifierOutputs,
    InputContract,
    Postprocess,
)
from model_workshop.assemble import RUNTIME_MIN, uncalibrated_thresholds
from model_workshop.importing.preparations import CONVENTIONS, Preparation
from model_workshop.importing.surgery import keep_outputs, put_front

SIDES = (320, 416, 640)


def averaging_model(side: int) -> onnx.ModelProto:
    """float32 NCHW in, the mean of each channel out."""
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
        ],
        "means",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def detector(preparation: Preparation, side: int, *, inside: bool) -> Detector:
    """A detector that prepares its pixels in the graph, or before it."""
    convention = CONVENTIONS[preparation]
    model = averaging_model(side)
    contract = InputContract(
        name="image",
        dtype="float32",
        layout="NCHW",
        color=convention.color,
        width=side,
        height=side,
        scale=convention.scale,
        mean=convention.mean,
        std=convention.std,
    )
    if inside:
        name = put_front(model, "image", convention, (1, side, side, 3))
        keep_outputs(model, {"means": np.zeros((1, 3), np.float32)}, free_batch=False)
        contract = InputContract(name=name, dtype="uint8", layout="NHWC", width=side, height=side)
    info = BundleInfo(
        name="means",
        version="1",
        license="Apache-2.0",
        labels=("first", "second", "third"),
        input=contract,
        letterbox=convention.letterbox,
        outputs=ClassifierOutputs(name="means"),
        postprocess=Postprocess(score_floor=0.99, nms_iou=1.0),
        opset=17,
        runtime_min=RUNTIME_MIN,
    )
    smoke = Smoke(np.zeros((8, 8, 3), np.uint8), Detections.empty())
    thresholds = uncalibrated_thresholds(0.5, 0.1, 0.9)
    return Detector.open(Bundle(info, model.SerializeToString(), Calibration(), thresholds, smoke))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    print(f"{'pixels as':<14}{'input':>10}{'outside':>12}{'inside':>12}   CPU ms")
    for preparation in (Preparation.YOLOX, Preparation.ULTRALYTICS, Preparation.IMAGENET):
        for side in SIDES:
            frame = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
            ways = [detector(preparation, side, inside=inside) for inside in (False, True)]
            spent: list[list[float]] = [[], []]
            for _ in range(rounds):
                for way, times in zip(ways, spent, strict=True):
                    started_s = time.process_time()
                    way.detect(frame)
                    times.append(time.process_time() - started_s)
            outside, inside = (1e3 * statistics.median(times) for times in spent)
            print(f"{preparation:<14}{f'{side}x{side}':>10}{outside:>12.2f}{inside:>12.2f}")


if __name__ == "__main__":
    main()
