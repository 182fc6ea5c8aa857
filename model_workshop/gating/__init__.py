"""Holds models against accuracy floors that were decided before anyone optimized them.

What is below a floor never becomes a bundle: every command that makes one by changing a model opens
a gate before its work (`gating.arguments`) and writes through it.
"""
