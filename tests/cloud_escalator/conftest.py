from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_escalator.config import EscalatorSettings
from foundation.settings import parse_settings
from tests.support.bundles import write_bundle

Configure = Callable[..., EscalatorSettings]


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model sees bright squares."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "squares")


@pytest.fixture
def configure(bundle_path: Path) -> Configure:
    """Makes settings for that bundle on free ports; sections are given as mappings."""

    def make(**given: Any) -> EscalatorSettings:
        document = {
            "bundle": bundle_path,
            "listen": "127.0.0.1:0",
            "telemetry_listen": "127.0.0.1:0",
            "inference": {"threads": 1},
        }
        return parse_settings(document | given, EscalatorSettings, origin="test")

    return make
