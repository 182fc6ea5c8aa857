"""Names of devices in certificates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates.authority import read_certificate
from foundation.identity import DeviceName, names_of
from tests.support.pki import Pki

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(texts, st.none() | texts)
def test_name_survives_its_uri(site: str, camera: str | None) -> None:
    """Whatever the text, it comes back, and the URI is plain ASCII."""
    name = DeviceName(site, camera)
    assert name.uri.isascii()
    assert DeviceName.from_uri(name.uri) == name


@given(texts, texts, texts, texts)
def test_name_permits_itself_alone(site: str, camera: str, other: str, another: str) -> None:
    """Site and camera are both compared, whole."""
    name = DeviceName(site, camera)
    assert name.permits(site, camera)
    assert name.permits(other, another) is ((other, another) == (site, camera))
    assert DeviceName(site, None).permits(site, another)
    assert DeviceName(site, None).permits(other, another) is (other == site)


def test_camera_called_star_is_one_camera() -> None:
    """Only the unquoted star means every camera."""
    assert DeviceName("plant", "*").uri == "hardcase://plant/%2A"
    assert not DeviceName.from_uri("hardcase://plant/%2A").permits("plant", "cam")
    assert DeviceName.from_uri("hardcase://plant/*").permits("plant", "cam")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "hardcase://",
        "hardcase://plant",
        "hardcase://plant/",
        "hardcase:///cam",
        "hardcase://plant/cam/more",
        "spiffe://plant/cam",
        "hardcase://plant/%ff",
    ],
)
def test_other_uris_are_no_names(uri: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r"not of the form|decode"):
        DeviceName.from_uri(uri)


def test_certificate_carries_its_names(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A device's several, a server's none."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    device = pki.device("plant/cam 1", "north & south/*")
    assert names_of(read_certificate(device.certificate)) == (
        DeviceName("plant", "cam 1"),
        DeviceName("north & south", None),
    )
    assert names_of(read_certificate(pki.server("localhost").certificate)) == ()
    assert names_of(read_certificate(pki.ca)) == ()
