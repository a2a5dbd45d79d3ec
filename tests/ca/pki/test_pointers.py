"""Where certificates say their status is, read from what leaf writes and from what other tools write."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.pki.der import Malformed
from ca.pki.pointers import status_channels

from . import plans

OCSP, CRL, AIA = "http://pki.internal/ocsp", "http://pki.internal/crl/issuing-1.crl", "http://pki.internal/issuers/issuing-1.der"


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        ({"ocsp_url": OCSP, "crl_url": CRL}, "ocsp crl"),
        ({"ocsp_url": OCSP, "crl_url": None}, "ocsp"),
        ({"ocsp_url": None, "crl_url": CRL}, "crl"),
        ({"ocsp_url": None, "crl_url": None, "aia_url": AIA}, ""),
        ({"ocsp_url": None, "crl_url": None, "aia_url": None}, ""),
    ],
)
@pytest.mark.parametrize("kind", ["P-256", "RSA-2048", "Ed25519"])
def test_channels_are_the_pointers_that_are_there(kind: str, urls: dict[str, Any], expected: str) -> None:
    assert status_channels(plans.signed(plans.plan(kind=kind, **urls))) == expected


def test_a_certificate_of_another_make_points_nowhere() -> None:
    assert status_channels(plans.issuer_certificate().public_bytes(Encoding.DER)) == ""


@pytest.mark.parametrize("broken", [b"", b"\x30\x03\x02\x01\x01", b"\x30\x80"])
def test_what_is_no_certificate_is_refused(broken: bytes) -> None:
    with pytest.raises(Malformed):
        status_channels(broken)
