"""From any common detector in ONNX to a bundle of ours."""
