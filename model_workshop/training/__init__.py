"""Making small detectors: train, distil, prune, fine-tune for INT8. Needs the extra `train`."""
