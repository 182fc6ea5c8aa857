"""A bundle's manifest in words, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.bundle import Bundle


def describe(bundle: Bundle) -> str:
    """What a bundle is, takes, gives, decides and was made from, one fact a line."""
    info = bundle.info
    contract, card = info.input, info.model_card
    normalized = "" if contract.dtype == "uint8" else f", (v * {contract.scale:g} - mean) / std"
    batch = "N" if contract.dynamic_batch else "1"
    thresholds = bundle.thresholds.default
    facts = {
        "digest": bundle.digest,
        "model": f"{len(bundle.model):,} bytes, opset {info.opset}, "
        f"ONNX Runtime {info.runtime_min} or newer",
        "labels": f"{len(info.labels)}: {', '.join(info.labels)}",
        "input": f"{contract.name}: {contract.dtype} {contract.layout} {contract.color}, "
        f"batch {batch}, {contract.width}x{contract.height}{normalized}",
        "letterbox": f"{info.letterbox.kind}, {info.letterbox.anchor}, "
        f"{info.letterbox.interpolation}, padding {info.letterbox.pad_value}",
        "outputs": _flat(info.outputs.model_dump(mode="json")),
        "postprocess": _flat(info.postprocess.model_dump(mode="json")),
        "calibration": _calibrated_classes(bundle),
        "thresholds": f"report {thresholds.report:g}, escalate {thresholds.escalate_low:g} to "
        f"{thresholds.escalate_high:g}, on calibrated scores; "
        f"others for {', '.join(bundle.thresholds.classes) or 'no class'}",
        "smoke test": f"{len(bundle.smoke.expected)} detections in "
        f"{bundle.smoke.pixels.shape[1]}x{bundle.smoke.pixels.shape[0]}",
        "description": card.description,
        "script": f"{card.script}, seed {card.seed}",
        "dataset": card.dataset,
        "parents": ", ".join(card.parents) or "none",
    }
    lines = [f"{info.name} {info.version} ({info.license})"]
    lines += [f"{name:<13}{fact}" for name, fact in facts.items()]
    lines += ["figures", *_tree(card.figures, "  ")] if card.figures else []
    return "\n".join(lines)


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
