"""What escalation would have bought: any pair of bundles replayed over recorded material.

Both models run once over every frame and their answers are kept; every rule of choosing what to
ask is then judged on the same answers, by the bytes that it really sends.
"""
