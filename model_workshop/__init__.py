"""Prepares models off-line: trains, quantizes, imports, evaluates and bundles them.

Knows the bundle format (`foundation.bundle`) and no service. Torch, onnx and pycocotools are
extras, so every module that needs one is imported only by the command that runs it.
"""
