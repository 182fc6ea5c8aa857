"""What a gate says no with."""

from __future__ import annotations

from foundation.errors import HardcaseError


class BelowFloorError(HardcaseError):
    """A model misses a floor: nothing is wrong with the command, so it ends with 1, not with 78."""
