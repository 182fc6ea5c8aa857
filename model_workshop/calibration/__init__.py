"""Gives scores a meaning: fitted on the outputs of the very model in a bundle, INT8 moves them."""
