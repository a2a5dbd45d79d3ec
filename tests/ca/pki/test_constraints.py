"""ca.pki.constraints: what OpenSSL, GnuTLS and pyca let through an intermediate so constrained, and how it reads back.

The leaves here are signed with the intermediate's key directly, past every rule of Quicklime: the question is what is
stopped by those who verify, when the CA itself has been taken over.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca.pki.constraints import OID, Constraints, read
from ca.pki.violations import Violation

NOW = datetime.now(UTC).replace(microsecond=0)
ZONE = "fleet.internal"
PLAIN = Constraints((ZONE,))
WITH_IPV4 = Constraints((ZONE,), (ip_network("10.0.0.0/8"),))
WITH_SPIFFE = Constraints((ZONE,), (), (ZONE,))


def dns(name: str) -> x509.GeneralName:
    return x509.DNSName(name)


def ip(address: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(address))


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def mail(text: str) -> x509.GeneralName:
    return x509.RFC822Name(text)


def certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[str, ec.EllipticCurvePrivateKey],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])

    builder = x509.CertificateBuilder(named(issuer[0]), named(name), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(NOW - timedelta(hours=1)).not_valid_after(NOW + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer[1], hashes.SHA256())


def usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)


@dataclass
class Chain:
    """A root and an intermediate under `constraints`, in files for the commands that verify."""

    constraints: Constraints
    directory: Path
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        both = [(usage(ca=True), True), (self.constraints.extension(), True)]
        self.root = certificate("root", self.root_key, ("root", self.root_key), [(x509.BasicConstraints(True, None), True), *both])
        issuer = ("root", self.root_key)
        self.intermediate = certificate("issuing", self.key, issuer, [(x509.BasicConstraints(True, 0), True), *both])
        (self.directory / "root.pem").write_bytes(pem(self.root))
        (self.directory / "intermediate.pem").write_bytes(pem(self.intermediate))

    def leaf(self, *names: x509.GeneralName) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [
            (x509.BasicConstraints(False, None), True),
            (usage(ca=False), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName(names), True),
        ]
        return certificate("", key, ("issuing", self.key), extensions)


def pem(item: x509.Certificate) -> bytes:
    return item.public_bytes(Encoding.PEM)


def openssl(chain: Chain, leaf: x509.Certificate) -> bool:
    (chain.directory / "leaf.pem").write_bytes(pem(leaf))
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "intermediate.pem", "leaf.pem"]
    return subprocess.run(command, cwd=chain.directory, capture_output=True).returncode == 0


def gnutls(chain: Chain, leaf: x509.Certificate) -> bool:
    (chain.directory / "chain.pem").write_bytes(pem(leaf) + pem(chain.intermediate) + pem(chain.root))
    command = ["certtool", "--verify", "--load-ca-certificate", "root.pem", "--infile", "chain.pem"]
    return subprocess.run(command, cwd=chain.directory, capture_output=True).returncode == 0


def pyca(chain: Chain, leaf: x509.Certificate) -> bool:
    verifier = verification.PolicyBuilder().store(verification.Store([chain.root])).time(NOW).build_client_verifier()
    try:
        verifier.verify(leaf, [chain.intermediate])
    except verification.VerificationError:
        return False
    return True


VERIFIERS = {"openssl": openssl, "gnutls": gnutls, "pyca": pyca}
EVERYBODY, NOBODY = set(VERIFIERS), set[str]()


@pytest.fixture(scope="module")
def chain_of(tmp_path_factory: pytest.TempPathFactory):
    return cache(lambda constraints: Chain(constraints, tmp_path_factory.mktemp("chain")))


IN = dns(f"a.{ZONE}")
MATRIX = [
    (PLAIN, [IN], EVERYBODY),
    (PLAIN, [dns(ZONE)], EVERYBODY),
    (PLAIN, [dns(f"*.{ZONE}")], EVERYBODY),
    (PLAIN, [dns("a.example.com")], NOBODY),
    (PLAIN, [dns("evilfleet.internal")], NOBODY),
    (PLAIN, [dns("internal")], NOBODY),
    (PLAIN, [dns("*.internal")], NOBODY),
    (PLAIN, [dns("*.example.com")], NOBODY),
    (PLAIN, [IN, dns("a.example.com")], NOBODY),
    (PLAIN, [IN, ip("192.0.2.1")], NOBODY),
    (PLAIN, [IN, ip("10.0.0.1")], NOBODY),
    (PLAIN, [IN, ip("2001:db8::1")], NOBODY),
    (PLAIN, [IN, uri("spiffe://example.com/x")], NOBODY),
    (PLAIN, [IN, uri(f"spiffe://{ZONE}/x")], NOBODY),
    (PLAIN, [IN, uri(f"https://a.{ZONE}/")], NOBODY),
    (PLAIN, [IN, mail("root@example.com")], NOBODY),
    (PLAIN, [IN, mail(f"root@{ZONE}")], NOBODY),
    (WITH_IPV4, [IN, ip("10.1.2.3")], EVERYBODY),
    (WITH_IPV4, [IN, ip("11.0.0.0")], NOBODY),
    (WITH_IPV4, [IN, ip("2001:db8::1")], NOBODY),
    (WITH_SPIFFE, [IN], EVERYBODY),
    (WITH_SPIFFE, [IN, uri(f"spiffe://{ZONE}/x")], {"openssl", "gnutls"}),
    (WITH_SPIFFE, [IN, uri(f"spiffe://a.{ZONE}/x")], {"gnutls"}),
    (WITH_SPIFFE, [IN, uri("spiffe://example.com/x")], {"gnutls"}),
    (WITH_SPIFFE, [IN, mail(f"root@{ZONE}")], NOBODY),
]


@pytest.mark.parametrize(("constraints", "names", "by"), MATRIX)
def test_who_lets_a_leaf_through(chain_of, constraints, names, by) -> None:
    chain = chain_of(constraints)
    leaf = chain.leaf(*names)
    assert {name for name, verify in VERIFIERS.items() if verify(chain, leaf)} == by


def read_back(constraints: Constraints) -> Constraints:
    key = ec.generate_private_key(ec.SECP256R1())
    return read(certificate("x", key, ("x", key), [(constraints.extension(), True)]))


@pytest.mark.parametrize(
    "constraints",
    [
        PLAIN,
        WITH_IPV4,
        WITH_SPIFFE,
        Constraints(("internal", "localhost"), (ip_network("127.0.0.0/8"), ip_network("::1/128"))),
        Constraints(tuple(f"zone-{number}.internal" for number in range(3000)), (ip_network("0.0.0.0/0"),), ("a.internal", "b.internal")),
    ],
)
def test_what_is_written_is_read_back(constraints: Constraints) -> None:
    assert read_back(constraints) == constraints


@pytest.mark.parametrize(
    "zones", [(), ("",), ("Fleet.internal",), (".internal",), ("a..b",), ("a.b\n",), ("\u00fc.internal",), ("a" * 64,)]
)
def test_no_zone_or_no_domain_is_refused(zones: tuple[str, ...]) -> None:
    with pytest.raises(Violation):
        Constraints(zones)


def test_outside_names_what_is_not_covered() -> None:
    own = Constraints(("fleet.internal",), (ip_network("10.0.0.0/8"),), ("fleet.internal",))
    ranges = (ip_network("10.1.0.0/16"), ip_network("0.0.0.0/0"), ip_network("fd00::/8"))
    wanted = Constraints(("a.fleet.internal", "evilfleet.internal", "internal"), ranges, ("fleet.internal", "a.fleet.internal"))
    assert own.outside(wanted) == [
        "zone evilfleet.internal", "zone internal", "IP range 0.0.0.0/0", "IP range fd00::/8", "trust domain a.fleet.internal",
    ]  # fmt: skip
    assert own.outside(own) == []


DIRECTORY = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")]))
ALL_V4, ALL_V6 = x509.IPAddress(ip_network("0.0.0.0/0")), x509.IPAddress(ip_network("::/0"))


@pytest.mark.parametrize(
    ("permitted", "excluded", "reason"),
    [
        ([dns(ZONE)], None, "it leaves e-mail names open; it leaves URI names open; it leaves IPv4 names open; it leaves IPv6 names open"),
        ([dns(ZONE), mail("invalid"), uri("invalid")], [ALL_V4, ALL_V6], "it leaves e-mail names open"),
        ([dns(ZONE), DIRECTORY], [ALL_V4, ALL_V6], "is a form Quicklime does not use"),
        ([dns(ZONE)], [dns("secret.fleet.internal")], "excluding 'secret.fleet.internal' is a form Quicklime does not use"),
    ],
)
def test_constraints_that_leave_something_open_are_refused(permitted, excluded, reason) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Violation) as refusal:
        read(certificate("x", key, ("x", key), [(x509.NameConstraints(permitted, excluded), True)]))
    assert reason in refusal.value.detail


def test_missing_uncritical_and_unreadable_constraints_are_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    unreadable = x509.UnrecognizedExtension(OID, b"\x30\x02\xa0\x07")
    for extensions, code in [
        ([], "constraintsMissing"),
        ([(PLAIN.extension(), False)], "constraintsIncomplete"),
        ([(unreadable, True)], "constraintsMalformed"),
    ]:
        with pytest.raises(Violation) as refusal:
            read(certificate("x", key, ("x", key), extensions))
        assert refusal.value.code == code
