"""What a bundle says of itself, for a person at a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.bundle import Bundle
from foundation.errors import IntegrityError
from foundation.manifest import ClassThresholds


def describe(bundle: Bundle) -> str:
    """What a bundle is, takes, gives, decides and was made from, one fact a line.

    Raises:
        IntegrityError: its model is no ONNX model.
    """
    info = bundle.info
    contract, card = info.input, info.model_card
    normalized = "" if contract.dtype == "uint8" else f", (v * {contract.scale:g} - mean) / std"
    batch = "N" if contract.dynamic_batch else "1"
    sizes = {name: len(data) for name, data in bundle.members().items()}
    facts = {
        "digest": bundle.digest,
        "size": f"{sum(sizes.values()):,} bytes, of which {len(bundle.model):,} are the model",
        "model": f"opset {info.opset}, ONNX Runtime {info.runtime_min} or newer",
        **_arithmetic_in_words(bundle.model),
        "labels": f"{len(info.labels)}: {', '.join(info.labels)}",
        "input": f"{contract.name}: {contract.dtype} {contract.layout} {contract.color}, "
        f"batch {batch}, {contract.width}x{contract.height}{normalized}",
        "letterbox": f"{info.letterbox.kind}, {info.letterbox.anchor}, "
        f"{info.letterbox.interpolation}, padding {info.letterbox.pad_value}",
        "outputs": _flat(info.outputs.model_dump(mode="json")),
        "postprocess": _flat(info.postprocess.model_dump(mode="json")),
        "calibration": _calibrated_classes(bundle),
        "thresholds": f"{_band(bundle.thresholds.default)}, on calibrated scores",
        "smoke test": f"{len(bundle.smoke.expected)} detections in "
        f"{bundle.smoke.pixels.shape[1]}x{bundle.smoke.pixels.shape[0]}",
        "description": card.description,
        "script": f"{card.script}, seed {card.seed}",
        "dataset": card.dataset,
        "parents": ", ".join(card.parents) or "none",
    }
    lines = [f"{info.name} {info.version} ({info.license})"]
    lines += [f"{name:<13}{fact}" for name, fact in facts.items()]
    sections = {
        "thresholds by class": {k: _band(v) for k, v in bundle.thresholds.classes.items()},
        "dataset digests": card.dataset_digests,
        "figures": card.figures,
    }
    for name, values in sections.items():
        lines += [name, *_tree(values, "  ")] if values else []
    return "\n".join(lines)


def as_document(bundle: Bundle) -> dict[str, Any]:
    """The same as plain values for JSON: the manifest's own fields, and what is counted.

    Raises:
        IntegrityError: its model is no ONNX model.
    """
    return {
        "digest": bundle.digest,
        **bundle.info.model_dump(mode="json"),
        "bytes": {name: len(data) for name, data in bundle.members().items()},
        "arithmetic": _arithmetic(bundle.model),
        "calibration": bundle.calibration.model_dump(mode="json"),
        "thresholds": {
            label: bundle.thresholds.of(label).model_dump(mode="json") for label in bundle.labels
        },
    }


def _arithmetic(model: bytes) -> dict[str, Any] | None:
    """What the graph computes with; None where the extra that reads graphs is absent."""
    # A machine that only runs bundles should be able to look into one as well.
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    from google.protobuf.message import DecodeError

    from model_workshop.arithmetic import count_arithmetic

    try:
        return count_arithmetic(onnx.load_from_string(model)).as_dict()
    except DecodeError as error:
        raise IntegrityError(
            "The bundle's model.onnx is not an ONNX model", remedy="Build the bundle again"
        ) from error


def _arithmetic_in_words(model: bytes) -> dict[str, str]:
    found = _arithmetic(model)
    if found is None:
        return {"arithmetic": "not counted: onnx is in the extra 'workshop'"}
    weights = (f"{dtype} {size:,}" for dtype, size in found["weight_bytes"].items())
    return {
        "arithmetic": f"{found['integer_products']} of {found['products']} convolutions and matrix "
        f"products are integer; nodes: {found['integer_nodes']} integer, {found['float_nodes']} "
        f"others, {found['conversion_nodes']} between them",
        "weights": f"bytes: {', '.join(weights)}",
    }


def _band(thresholds: ClassThresholds) -> str:
    return (
        f"report {thresholds.report:g}, escalate {thresholds.escalate_low:g} to "
        f"{thresholds.escalate_high:g}"
    )


def _calibrated_classes(bundle: Bundle) -> str:
    fitted = [label for label in bundle.labels if bundle.calibration.knots.get(label)]
    return f"isotonic for {', '.join(fitted)}" if fitted else "none: raw scores"


def _flat(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _tree(values: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}", *_tree(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
