"""Revocation lists, judged by asn1crypto, pyca, openssl, gnutls and pkilint."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from asn1crypto import crl as other_crl
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.pki import crl, leaf
from ca.pki.crl import Crl
from ca.pki.reasons import CODES

from . import forge
from .plans import NOW, issuer, issuer_certificate, plan, signed
from .test_leaf import run

SERIALS = [f"{number:040x}" for number in (1, 0x7F, 0x80, 2**64, 2**158, 2**159 - 1, 2**159)]
ENTRIES = [
    (serial, NOW - timedelta(hours=place), reason) for place, (serial, reason) in enumerate(zip(SERIALS, [*CODES, *CODES], strict=False))
]
SHARD = "http://pki.internal/crl/issuing-1/3.crl"
KINDS = ("P-256", "P-384", "Ed25519", "RSA-2048")


def made(entries: object = ENTRIES, url: str | None = None, kind: str = "P-256", **changes: object) -> bytes:
    """A signed list; certtool can check no other time than now, so `this_update` is an argument."""
    values = {"number": 2**40, "this_update": NOW, "next_update": NOW + timedelta(days=1)} | changes
    facts = issuer(kind)
    tbs = crl.build(Crl(issuer=facts, entries=entries, url=url, **values))  # type: ignore[arg-type]
    from cryptography.hazmat.primitives import hashes

    signature = forge.sign(forge.key("issuer " + kind), tbs, hashes.SHA384() if kind == "P-384" else hashes.SHA256())
    return leaf.assemble(tbs, facts, signature)


def test_every_field_as_pyca_reads_it() -> None:
    read = x509.load_der_x509_crl(made())
    assert read.issuer.public_bytes() == issuer_certificate().subject.public_bytes()
    assert (read.last_update_utc, read.next_update_utc) == (NOW, NOW + timedelta(days=1))
    assert [(f"{entry.serial_number:040x}", entry.revocation_date_utc) for entry in read] == [(serial, at) for serial, at, _ in ENTRIES]
    number = read.extensions.get_extension_for_class(x509.CRLNumber)
    assert (number.critical, number.value.crl_number) == (False, 2**40)
    authority = read.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert (authority.critical, authority.value) == (False, x509.AuthorityKeyIdentifier(b"copied, not computed", None, None))
    assert len(read.extensions) == 2


@pytest.mark.parametrize("reason", CODES)
def test_reasons_and_the_silence_about_none(reason: str) -> None:
    (entry,) = x509.load_der_x509_crl(made([(SERIALS[3], NOW, reason)]))
    if reason == "unspecified":
        assert len(entry.extensions) == 0
        parsed = other_crl.CertificateList.load(made([(SERIALS[3], NOW, reason)]))
        assert parsed["tbs_cert_list"]["revoked_certificates"][0]["crl_entry_extensions"].native is None  # absent, not empty
    else:
        (extension,) = entry.extensions
        assert isinstance(extension.value, x509.CRLReason)
        assert (extension.critical, extension.value.reason.value) == (False, reason)


def test_a_shard_says_its_url_as_the_certificates_do() -> None:
    scope = x509.load_der_x509_crl(made(url=SHARD)).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert scope.critical
    certificate = x509.load_der_x509_certificate(signed(plan(crl_url=SHARD)))
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert scope.value.full_name == point.full_name == [x509.UniformResourceIdentifier(SHARD)]
    assert not scope.value.only_contains_ca_certs
    assert not scope.value.indirect_crl


def test_urls() -> None:
    assert crl.url("http://pki.internal/crl", "issuing-1", None) == "http://pki.internal/crl/issuing-1.crl"
    assert crl.url("http://pki.internal/crl", "issuing-1", 3) == SHARD


def test_an_empty_list_has_no_list() -> None:
    assert list(x509.load_der_x509_crl(made([]))) == []
    tbs = other_crl.CertificateList.load(made([]), strict=True)["tbs_cert_list"]
    assert tbs["revoked_certificates"].native is None


def test_the_order_given_does_not_matter() -> None:
    facts = {"issuer": issuer(), "number": 1, "this_update": NOW, "next_update": NOW}
    assert crl.build(Crl(entries=ENTRIES, **facts)) == crl.build(Crl(entries=reversed(ENTRIES), **facts))  # type: ignore[arg-type]


def test_time_forms_around_2050() -> None:
    late = datetime(2050, 1, 1, tzinfo=UTC)
    data = made(
        [(SERIALS[0], late, "unspecified"), (SERIALS[1], NOW, "unspecified")], this_update=late - timedelta(seconds=1), next_update=late
    )
    tbs = other_crl.CertificateList.load(data)["tbs_cert_list"]
    assert (tbs["this_update"].name, tbs["next_update"].name) == ("utc_time", "general_time")
    assert [entry["revocation_date"].name for entry in tbs["revoked_certificates"]] == ["general_time", "utc_time"]
    assert x509.load_der_x509_crl(data).next_update_utc == late


def test_numbers_are_positive_and_fit_twenty_octets() -> None:
    for number in (0, 127, 128, 2**63, 2**158):
        read = x509.load_der_x509_crl(made(number=number))
        assert read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == number


@pytest.mark.parametrize("url", [None, SHARD])
@pytest.mark.parametrize("entries", [[], ENTRIES])
def test_another_reader_finds_the_same_bytes(entries: object, url: str | None) -> None:
    data = made(entries, url)
    parsed = other_crl.CertificateList.load(data, strict=True)
    assert parsed["tbs_cert_list"]["version"].native == "v2"
    assert [entry["user_certificate"].native for entry in parsed["tbs_cert_list"]["revoked_certificates"]] == [
        int(entry[0], 16) for entry in entries
    ]  # type: ignore[attr-defined]
    assert parsed.dump(force=True) == data


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("url", [None, SHARD])
def test_openssl_and_gnutls_verify_it(tmp_path: Path, kind: str, url: str | None) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    data = made(url=url, kind=kind, this_update=now, next_update=now + timedelta(days=1))
    (tmp_path / "ca.pem").write_bytes(issuer_certificate(kind).public_bytes(Encoding.PEM))
    (tmp_path / "crl.der").write_bytes(data)
    verified = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-noout", "-text", "-verify", "-CAfile", tmp_path / "ca.pem", "-in", tmp_path / "crl.der"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert b"verify OK" in verified.stderr
    text = verified.stdout.decode()
    assert ("Issuing Distribution Point: critical" in text) is (url is not None)
    for part in ("Version 2", "X509v3 CRL Number", "Key Compromise", "Privilege Withdrawn", "Serial Number: 4000000000"):
        assert part in text
    (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(data).public_bytes(Encoding.PEM))
    report = run("certtool", "--verify-crl", "--load-ca-certificate", tmp_path / "ca.pem", "--infile", tmp_path / "crl.pem")
    assert "Verification output: Verified." in report
    info = run("certtool", "--crl-info", "--inder", "--infile", tmp_path / "crl.der")
    assert f"Revoked certificates ({len(ENTRIES)})" in info
    assert "warning" not in info.lower()


def test_openssl_refuses_a_certificate_that_its_shard_lists(tmp_path: Path) -> None:
    """A whole verification with -crl_check: the shard is found by its scope, and another shard's list does not do."""
    now = datetime.now(UTC).replace(microsecond=0)
    life = {"not_before": now, "not_after": now + timedelta(hours=1)}
    certificate = plan(crl_url=SHARD, **life)
    (tmp_path / "ca.pem").write_bytes(issuer_certificate().public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(x509.load_der_x509_certificate(signed(certificate)).public_bytes(Encoding.PEM))
    update = {"this_update": now, "next_update": now + timedelta(hours=1)}
    listed = [(f"{certificate.serial:040x}", now, "keyCompromise")]

    def verdict(entries: object, url: str | None) -> str:
        (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(made(entries, url, **update)).public_bytes(Encoding.PEM))
        checks = ["openssl", "verify", "-crl_check", "-x509_strict", "-check_ss_sig", "-CRLfile", tmp_path / "crl.pem", "-CAfile"]
        result = subprocess.run([*checks, tmp_path / "ca.pem", tmp_path / "leaf.pem"], capture_output=True, check=False)
        return (result.stdout + result.stderr).decode()

    for url in (SHARD, None):
        assert ": OK" in verdict([], url)
        assert "certificate revoked" in verdict(listed, url)
    assert "scope" in verdict([], "http://pki.internal/crl/issuing-1/4.crl")


@pytest.mark.parametrize("kind", KINDS)
def test_pkilint_agrees(kind: str) -> None:
    for url in (None, SHARD):
        for entries in ([], ENTRIES[:-1]):
            assert pkilint_findings(made(entries, url, kind)) == []
    assert "serial" in pkilint_findings(made(ENTRIES))[0]  # 160 bits: the 21 octets that no certificate here has


def pkilint_findings(data: bytes) -> list[str]:
    from pkilint import pkix
    from pkilint.loader import load_crl
    from pkilint.pkix import crl as rules
    from pkilint.pkix import extension, name
    from pkilint.validation import ValidationFindingSeverity

    validator = rules.create_pkix_crl_validator_container(
        [pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS), pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)],
        [
            rules.create_issuer_validator_container([]),
            rules.create_validity_validator_container([]),
            rules.create_extensions_validator_container([]),
        ],
    )
    results = validator.validate(load_crl(data, "crl").root)
    return [
        found.finding.code
        for result in results
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.WARNING
    ]


def test_a_hundred_thousand_entries_in_two_seconds() -> None:
    entries = [(f"{2**150 + number * 7919:040x}", NOW + timedelta(microseconds=number), "superseded") for number in range(100_000)]
    began = time.process_time()
    data = made(entries)
    assert time.process_time() - began < 2
    assert len(x509.load_der_x509_crl(data)) == 100_000
