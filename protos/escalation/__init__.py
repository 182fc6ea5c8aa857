"""Escalation of doubtful image regions."""
