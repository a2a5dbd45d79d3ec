"""Issued bytes, judged by openssl, gnutls and pyca."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from asn1crypto import x509 as other_x509
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID
from cryptography.x509.verification import PolicyBuilder, Store

from ca.pki import leaf
from ca.pki.leaf import LeafPlan
from ca.pki.names import Name
from ca.profiles import LEAF, PROFILES

from . import forge
from .plans import ALL_KINDS, DNS, NOW, SERIAL, issuer, issuer_certificate, plan, signed

KINDS = ("P-256", "P-384", "Ed25519", "RSA-2048")
LEAVES = (*LEAF, "ocsp-signer")
PURPOSES = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "peer": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "short-lived": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "ocsp-signer": [ExtendedKeyUsageOID.OCSP_SIGNING],
}


def loaded(made: LeafPlan) -> x509.Certificate:
    return x509.load_der_x509_certificate(signed(made))


@pytest.mark.parametrize("issuer_kind", KINDS)
def test_signature_and_what_is_copied_from_the_issuer(issuer_kind: str) -> None:
    certificate = loaded(plan(issuer=issuer(issuer_kind)))
    certificate.verify_directly_issued_by(issuer_certificate(issuer_kind))
    assert certificate.issuer.public_bytes() == issuer_certificate(issuer_kind).subject.public_bytes()
    authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert authority.value == x509.AuthorityKeyIdentifier(b"copied, not computed", None, None)
    assert not authority.critical


def test_issuer_facts() -> None:
    facts, certificate = issuer(), issuer_certificate()
    assert facts.name == "issuing-1"
    assert facts.subject == certificate.subject.public_bytes()
    assert facts.key_id == b"copied, not computed"
    assert facts.key_type == "P-256"
    assert facts.public_key == certificate.public_key()
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert facts.spki_sha256 == sha256(spki).digest()
    assert (facts.not_before, facts.not_after) == (datetime(2020, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", LEAVES)
def test_every_field_of_a_profile(profile: str, kind: str) -> None:
    made = plan(profile, kind)
    certificate, extensions = loaded(made), loaded(made).extensions
    assert certificate.version is x509.Version.v3
    assert certificate.serial_number == SERIAL
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=1)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc + timedelta(seconds=1) == PROFILES[profile].default
    assert [(part.oid, part.value) for part in certificate.subject] == [(x509.NameOID.COMMON_NAME, made.common_name)]
    assert certificate.public_key() == forge.key(kind).public_key()

    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=False, path_length=None))
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    encipher = kind.startswith("RSA") and profile in ("server", "peer", "short-lived")
    assert (usage.critical, usage.value) == (True, x509.KeyUsage(True, False, encipher, False, False, False, False, False, False))
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (purposes.critical, list(purposes.value)) == (False, PURPOSES[profile])
    key_octets = forge.spki_of(forge.key(kind))[{"P-256": 26, "P-384": 23, "Ed25519": 12, "RSA-2048": 24}[kind] :]
    identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert (identifier.critical, identifier.value.digest) == (False, sha256(key_octets).digest()[:20])


@pytest.mark.parametrize("profile", LEAVES)
def test_exactly_the_extensions_of_the_profile(profile: str) -> None:
    always = {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
    usual = {ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.CRL_DISTRIBUTION_POINTS}
    special = {
        "short-lived": {ExtensionOID.SUBJECT_ALTERNATIVE_NAME, x509.ObjectIdentifier("2.5.29.56")},
        "ocsp-signer": {ExtensionOID.OCSP_NO_CHECK},
    }
    extensions = loaded(plan(profile)).extensions
    assert {extension.oid for extension in extensions} == always | special.get(profile, usual)


def test_short_lived_has_no_rev_avail_and_no_status_pointer() -> None:
    extensions = loaded(plan("short-lived")).extensions
    assert b"pki.internal/crl" not in signed(plan("short-lived"))
    marker = extensions.get_extension_for_oid(x509.ObjectIdentifier("2.5.29.56"))
    assert (marker.critical, marker.value.public_bytes()) == (False, b"\x05\x00")
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [place.access_method for place in access] == [AuthorityInformationAccessOID.CA_ISSUERS]


def test_status_and_issuer_pointers() -> None:
    access = loaded(plan()).extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    assert not access.critical
    assert {(place.access_method, place.access_location.value) for place in access.value} == {
        (AuthorityInformationAccessOID.OCSP, "http://pki.internal/ocsp"),
        (AuthorityInformationAccessOID.CA_ISSUERS, "http://pki.internal/issuers/issuing-1.der"),
    }
    points = loaded(plan()).extensions.get_extension_for_class(x509.CRLDistributionPoints)
    url = x509.UniformResourceIdentifier("http://pki.internal/crl/issuing-1/3.crl")
    assert (points.critical, list(points.value)) == (False, [x509.DistributionPoint([url], None, None, None)])


@pytest.mark.parametrize("absent", ["ocsp_url", "crl_url"])
def test_each_channel_without_the_other(absent: str) -> None:
    data = signed(plan(**{absent: None}))
    assert (b"http://pki.internal/ocsp" in data, b"http://pki.internal/crl/" in data) == (absent != "ocsp_url", absent != "crl_url")


def test_no_pointers_without_urls() -> None:
    extensions = loaded(plan(aia_url=None, ocsp_url=None, crl_url=None)).extensions
    for kind in (x509.AuthorityInformationAccess, x509.CRLDistributionPoints):
        with pytest.raises(x509.ExtensionNotFound):
            extensions.get_extension_for_class(kind)


@pytest.mark.parametrize("common_name", [None, "payroll.internal"])
def test_names_and_their_criticality(common_name: str | None) -> None:
    extension = loaded(plan(names=ALL_KINDS, common_name=common_name)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.critical is (common_name is None)
    assert [str(name.value) for name in extension.value] == [name.value for name in ALL_KINDS]
    assert len(extension.value.get_values_for_type(x509.DNSName)) == 2
    assert len(extension.value.get_values_for_type(x509.IPAddress)) == 2
    assert len(extension.value.get_values_for_type(x509.UniformResourceIdentifier)) == 1


def test_a_hundred_long_names() -> None:
    names = tuple(Name("dns", f"{'n' * 63}.{number}.internal") for number in range(100))
    extension = loaded(plan(names=names)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.value.get_values_for_type(x509.DNSName) == [name.value for name in names]


@pytest.mark.parametrize("serial", [2**64, 2**127, 2**128 - 1, 2**159 - 1, 2**158])
def test_serials_are_positive_and_at_most_twenty_octets(serial: int) -> None:
    certificate = signed(plan(serial=serial))
    assert x509.load_der_x509_certificate(certificate).serial_number == serial
    content = other_x509.Certificate.load(certificate)["tbs_certificate"]["serial_number"].contents
    assert len(content) <= 20
    assert content[0] < 0x80


def test_time_forms_around_2050() -> None:
    made = plan(not_before=datetime(2049, 12, 1, tzinfo=UTC), not_after=datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC))
    later = plan(not_before=datetime(2049, 12, 1, tzinfo=UTC), not_after=datetime(2050, 1, 1, tzinfo=UTC))
    for case, form in ((made, "utc_time"), (later, "general_time")):
        validity = other_x509.Certificate.load(signed(case))["tbs_certificate"]["validity"]
        assert (validity["not_before"].name, validity["not_after"].name) == ("utc_time", form)
        assert x509.load_der_x509_certificate(signed(case)).not_valid_after_utc == case.not_after


def test_another_reader_finds_the_same_bytes() -> None:
    """asn1crypto, told to build the certificate again from what it understood."""
    for profile in LEAVES:
        data = signed(plan(profile))
        parsed = other_x509.Certificate.load(data, strict=True)
        assert parsed.native["tbs_certificate"]["serial_number"] == SERIAL
        assert parsed.dump(force=True) == data


# --- openssl and gnutls


def run(*command: str | Path, data: bytes = b"") -> str:
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("profile", LEAVES)
def test_openssl_reads_it(profile: str) -> None:
    data = signed(plan(profile))
    text = run("openssl", "x509", "-inform", "DER", "-noout", "-text", data=data)
    for part in ("Version: 3", "CA:FALSE", "Digital Signature", "CN = Issuing 1", "ASN1 OID: prime256v1"):
        assert part in text
    assert ("No Check" in text) is (profile == "ocsp-signer")
    assert ("OCSP - URI:http://pki.internal/ocsp" in text) is (profile in ("server", "client", "peer"))
    assert ("URI:http://pki.internal/crl/issuing-1/3.crl" in text) is (profile in ("server", "client", "peer"))
    run("openssl", "asn1parse", "-inform", "DER", data=data)


@pytest.mark.parametrize("profile", LEAVES)
def test_gnutls_reads_it(profile: str) -> None:
    text = run("certtool", "-i", "--inder", data=signed(plan(profile)))
    for part in ("Version: 3", "Certificate Authority (CA): FALSE", "Digital signature.", "CN=Issuing 1", "Key Identifier"):
        assert part in text
    assert "warning" not in text.lower()
    assert ("Unknown extension" in text) is (profile in ("short-lived", "ocsp-signer"))  # gnutls 3.7 knows neither marker


@pytest.mark.parametrize("issuer_kind", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_and_gnutls_verify_it(tmp_path: Path, issuer_kind: str, kind: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)  # certtool can verify for no other time
    life = {"not_before": now, "not_after": now + timedelta(days=1)}
    made = plan("server", kind, issuer=issuer(issuer_kind), names=ALL_KINDS, common_name=None, **life)
    (tmp_path / "ca.pem").write_bytes(issuer_certificate(issuer_kind).public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(loaded(made).public_bytes(Encoding.PEM))
    for name in ("-verify_hostname payroll.internal", "-verify_hostname a.payroll.internal", "-verify_ip 10.0.0.1", "-verify_ip fd00::1"):
        run(
            "openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", *name.split(),
            "-CAfile", tmp_path / "ca.pem", tmp_path / "leaf.pem",
        )  # fmt: skip
    report = run("certtool", "--verify", "--load-ca-certificate", tmp_path / "ca.pem", "--infile", tmp_path / "leaf.pem")
    assert "Chain verification output: Verified." in report


def test_pyca_verifies_it() -> None:
    verifier = PolicyBuilder().store(Store([issuer_certificate()])).time(NOW.replace(tzinfo=None))
    chain = verifier.build_server_verifier(x509.DNSName("payroll.internal")).verify(loaded(plan()), [])
    assert len(chain) == 2
    verifier.build_client_verifier().verify(loaded(plan("client")), [])


def test_assemble_wraps_the_bytes_as_they_are() -> None:
    made = plan()
    certificate = x509.load_der_x509_certificate(leaf.assemble(leaf.build(made), made.issuer, b"signature"))
    assert certificate.tbs_certificate_bytes == leaf.build(made)
    assert certificate.signature == b"signature"
    assert made.names == DNS
