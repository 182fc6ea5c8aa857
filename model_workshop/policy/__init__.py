"""Fits what asking gains, from observations of both deployed models on the same pictures."""
