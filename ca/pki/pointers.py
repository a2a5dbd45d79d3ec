"""Where a certificate says that its status is to be had.

Owns the reading of two extensions, and of them only which are there: what the URLs are is for those who follow them.
"""

from __future__ import annotations

from . import der

_AIA = der.oid("1.3.6.1.5.5.7.1.1")[2:]
_CRL_POINTS = der.oid("2.5.29.31")[2:]
_OCSP = der.oid("1.3.6.1.5.5.7.48.1")
_EXTENSIONS = 0xA3


def status_channels(certificate: bytes) -> str:
    """ "", "ocsp", "crl" or "ocsp crl": which of authorityInfoAccess with an OCSP responder and cRLDistributionPoints this
    DER certificate has. Raises Malformed."""
    found = {_oid(certificate, extension): extension for extension in _extensions(certificate)}
    ocsp = _AIA in found and _OCSP in der.encoded(certificate, found[_AIA])
    return " ".join(name for name, there in (("ocsp", ocsp), ("crl", _CRL_POINTS in found)) if there)


def _extensions(certificate: bytes) -> list[der.Element]:
    tbs = der.children(certificate, der.whole(certificate))[0]
    last = der.children(certificate, tbs)[-1]
    if last.tag != _EXTENSIONS:
        return []
    return der.children(certificate, der.children(certificate, last)[0])


def _oid(data: bytes, extension: der.Element) -> bytes:
    """The contents of the OBJECT IDENTIFIER, all of which here are short, that the extension begins with."""
    at = extension.body + 2
    return data[at : at + data[at - 1]]
