"""Each module wraps one outside thing (camera, results file, uplink) and never imports another."""
