"""Issuers and plans for the tests of leaf and lint."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.pki import leaf
from ca.pki.leaf import IssuerFacts, LeafPlan
from ca.pki.names import Name
from ca.profiles import PROFILES

from . import forge

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
SERIAL = 0x3F1234567890ABCDEF1234567890ABCDEF123456
DNS = (Name("dns", "payroll.internal"),)
ALL_KINDS = (
    *DNS,
    Name("dns", "*.payroll.internal"),
    Name("ip", "10.0.0.1"),
    Name("ip", "fd00::1"),
    Name("uri", "spiffe://fleet.example/a"),
)


@cache
def issuer_certificate(kind: str = "P-256") -> x509.Certificate:
    """A self-signed CA of this kind of key, valid from 2020 to 2060."""
    private = forge.key("issuer " + kind)
    parts = ((x509.NameOID.ORGANIZATION_NAME, "Fl\u00f6te"), (x509.NameOID.COMMON_NAME, "Issuing 1"))
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    digest = None if kind == "Ed25519" else hashes.SHA384() if kind == "P-384" else hashes.SHA256()
    return (
        x509.CertificateBuilder(name, name, private.public_key(), 2**100 + 1, datetime(2020, 1, 1), datetime(2060, 1, 1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier(b"copied, not computed"), critical=False)
        .sign(private, digest)
    )


@cache
def issuer(kind: str = "P-256") -> IssuerFacts:
    return leaf.issuer_facts("issuing-1", issuer_certificate(kind))


def plan(name: str = "server", kind: str = "P-256", **changes: Any) -> LeafPlan:
    """A plan that passes; `changes` replace its fields."""
    rules = PROFILES[name]
    made = LeafPlan(
        profile=rules, issuer=issuer(), serial=SERIAL, not_before=NOW - rules.backdate,
        not_after=NOW - rules.backdate + rules.default - timedelta(seconds=1), names=DNS if rules.requires_name else (),
        common_name=DNS[0].value if rules.requires_name else "OCSP of Issuing 1", spki=forge.spki_of(forge.key(kind)),
        aia_url="http://pki.internal/issuers/issuing-1.der", ocsp_url="http://pki.internal/ocsp",
        crl_url="http://pki.internal/crl/issuing-1/3.crl",
    )  # fmt: skip
    return replace(made, **changes)


def signed(made: LeafPlan) -> bytes:
    """The plan's certificate, signed by its issuer."""
    tbs = leaf.build(made)
    private = forge.key("issuer " + made.issuer.key_type)
    digest = hashes.SHA384() if made.issuer.key_type == "P-384" else hashes.SHA256()
    return leaf.assemble(tbs, made.issuer, forge.sign(private, tbs, digest))
