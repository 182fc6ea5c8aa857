"""Who a device is: the names that its certificate carries.

A name is a URI among the certificate's subject alternative names, `hardcase://SITE/CAMERA`, or
`hardcase://SITE/*` for every camera of a site. Site and camera are percent-encoded, so that any
text can be a name and a camera called `*` is not every camera. Certificates may carry several, and
URIs of other schemes beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from cryptography import x509

_SCHEME = "hardcase://"
_EVERY_CAMERA = "*"


@dataclass(frozen=True, slots=True)
class DeviceName:
    """As whom a device may speak.

    Attributes:
        site: the installation.
        camera: the camera; None for every camera of the site.
    """

    site: str
    camera: str | None

    @property
    def uri(self) -> str:
        """How a certificate carries it."""
        camera = _EVERY_CAMERA if self.camera is None else quote(self.camera, safe="")
        return f"{_SCHEME}{quote(self.site, safe='')}/{camera}"

    @classmethod
    def from_uri(cls, uri: str) -> DeviceName:
        """Reads what `uri` writes.

        Raises:
            ValueError: it is no name of a device.
        """
        site, slash, camera = uri.removeprefix(_SCHEME).partition("/")
        if not (uri.startswith(_SCHEME) and slash and site and camera) or "/" in camera:
            raise ValueError(f"{uri!r} is not of the form {_SCHEME}SITE/CAMERA")
        name = None if camera == _EVERY_CAMERA else unquote(camera, errors="strict")
        return cls(unquote(site, errors="strict"), name)

    def permits(self, site: str, camera: str) -> bool:
        """Whether a device of this name may speak for that camera."""
        return site == self.site and self.camera in (None, camera)


def names_of(certificate: x509.Certificate) -> tuple[DeviceName, ...]:
    """The names that a certificate carries; what is none is passed over.

    Raises:
        ValueError, or another of `certificates.UNREADABLE`: its extensions cannot be read.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    names = []
    for uri in extension.value.get_values_for_type(x509.UniformResourceIdentifier):
        try:
            names.append(DeviceName.from_uri(uri))
        except ValueError:
            continue
    return tuple(names)
