"""ca.hierarchy: roots and intermediates, the ceremony, activation, and every reason that stops a start."""

from __future__ import annotations

import re
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.core.management import CommandError, call_command
from django.db import transaction

from ca import hierarchy, keys
from ca.hierarchy import HierarchyFault
from ca.keys import KEY_KINDS, KeyFault
from ca.models import Activation, Issuer
from ca.pki import authority
from ca.pki.authority import Authority
from ca.pki.constraints import Constraints, read
from ca.pki.leaf import issuer_facts
from ca.pki.violations import Violation
from ca.profiles import LEAF
from eventlog.models import Checkpoint, Event

pytestmark = pytest.mark.django_db
HERE = Constraints(
    ("internal", "localhost", "fleet.example"),
    (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"), ip_network("::1/128")),
    ("fleet.example",),
)


@pytest.fixture(autouse=True)
def machine(settings: Any, tmp_path: Path) -> Callable[[str], None]:
    """Go to a machine by its name: each has a state directory of its own. Begins at "here"."""

    def go(name: str) -> None:
        state = tmp_path / name
        state.mkdir(exist_ok=True)
        settings.STATE, settings.KEYS_DIR, settings.CHECKPOINT_DIR = state, state / "keys", state / "checkpoints"
        settings.REVOCATION_KEY_FILE = state / "revocation.key"
        keys.forget()

    go("here")
    return go


@contextmanager
def separate_log() -> Iterator[None]:
    """A database that knows nothing of what comes before or after: everything inside is undone at the end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def ready(now: datetime, **options: Any) -> None:
    hierarchy.init_root("root", now, **options)
    hierarchy.add_intermediate("issuing-1", "root", now)
    for profile in LEAF:
        hierarchy.activate("issuing-1", profile, now)


def certificate(name: str) -> x509.Certificate:
    return hierarchy.certificate_of(hierarchy.find(name))


def facts() -> list[tuple[str, str]]:
    return list(Event.objects.order_by("position").values_list("type", "subject"))


# --- chains


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_openssl_and_gnutls_verify_a_chain_of_each_kind(kind: str, now: datetime, tmp_path: Path) -> None:
    hierarchy.init_root("root", now, kind=kind)
    hierarchy.add_intermediate("issuing-1", "root", now, kind=kind)
    leaf = signed_by_the_key("issuing-1", "a.internal", now)
    chain = [leaf, certificate("issuing-1"), certificate("root")]
    for name, item in zip(("leaf", "intermediate", "root"), chain, strict=True):
        (tmp_path / f"{name}.pem").write_bytes(item.public_bytes(Encoding.PEM))
    (tmp_path / "chain.pem").write_bytes(b"".join(item.public_bytes(Encoding.PEM) for item in chain))
    openssl = [
        "openssl",
        "verify",
        "-x509_strict",
        "-verify_hostname",
        "a.internal",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "intermediate.pem",
    ]
    subprocess.run([*openssl, "leaf.pem"], cwd=tmp_path, check=True, capture_output=True)
    gnutls = ["certtool", "--verify", "--load-ca-certificate", "root.pem", "--verify-hostname", "a.internal", "--infile", "chain.pem"]
    subprocess.run(gnutls, cwd=tmp_path, check=True, capture_output=True)


def signed_by_the_key(issuer: str, host: str, now: datetime) -> x509.Certificate:
    """A leaf signed with the issuer's key past the pipeline; its signature is made by Signer.sign, as the pipeline's are."""
    above, signer = certificate(issuer), keys.issuer_signer(issuer)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(above.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    for extension, critical in (
        (x509.SubjectAlternativeName([x509.DNSName(host)]), True),
        (x509.AuthorityKeyIdentifier(authority.key_id(above), None, None), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ):
        builder = builder.add_extension(extension, critical)
    leaf = signer.sign_certificate(builder)
    assert leaf.signature == signer.sign(leaf.tbs_certificate_bytes), "the two ways to sign agree"
    return leaf


def test_root_and_intermediate_say_what_they_must(now: datetime, settings: Any) -> None:
    ready(now)
    root, intermediate = certificate("root"), certificate("issuing-1")
    assert [extension.oid._name for extension in intermediate.extensions if extension.critical] == [
        "basicConstraints",
        "keyUsage",
        "nameConstraints",
    ]
    path_lengths = [item.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length for item in (root, intermediate)]
    assert path_lengths == [None, 0]
    assert read(root) == read(intermediate) == HERE
    aia = intermediate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [access.access_location.value for access in aia] == [f"{settings.AIA_URL}/issuers/root.der"]
    assert intermediate.subject.rfc4514_string() == "CN=issuing-1,O=Quicklime"
    facts_of_it = issuer_facts("issuing-1", intermediate)
    assert facts_of_it.key_id == bytes(hierarchy.find("issuing-1").key_id)
    assert facts_of_it.signature_algorithm == keys.issuer_signer("issuing-1").algorithm


def test_validity_is_backdated_an_hour_counts_its_last_second_and_lies_within_the_root(now: datetime) -> None:
    ready(now)
    root, intermediate = certificate("root"), certificate("issuing-1")
    assert root.not_valid_before_utc == intermediate.not_valid_before_utc == now - timedelta(hours=1)
    assert root.not_valid_after_utc == now + timedelta(days=3650, seconds=-1)
    assert intermediate.not_valid_after_utc == now + timedelta(days=5 * 365, seconds=-1)
    later = now + timedelta(days=6 * 365)
    with pytest.raises(HierarchyFault, match="5 years are more than its root has left"):
        hierarchy.add_intermediate("issuing-2", "root", later)
    assert hierarchy.add_intermediate("issuing-2", "root", later, years=4).not_before == later - timedelta(hours=1)


def test_every_issuer_is_in_the_log_under_a_checkpoint(now: datetime) -> None:
    ready(now)
    assert facts()[:2] == [("issuer.added", "root"), ("issuer.added", "issuing-1")]
    assert facts()[2:] == [("issuer.activated", "issuing-1")] * len(LEAF)
    body = bytes(Event.objects.get(position=2).body)
    assert certificate("issuing-1").public_bytes(Encoding.DER) == b64decode(body.split(b'"certificate":"')[1].split(b'"')[0])
    assert Checkpoint.objects.order_by("-size").values_list("size", flat=True)[0] == len(facts())


def test_nothing_secret_is_in_the_log(now: datetime) -> None:
    ready(now)
    log = b"".join(bytes(body) for body in Event.objects.values_list("body", flat=True))
    assert keys.revocation_key().hex().encode() not in log
    assert b"PRIVATE" not in log


def test_a_name_is_given_once(now: datetime) -> None:
    ready(now)
    before = facts()
    for attempt in (
        lambda: hierarchy.init_root("root", now),
        lambda: hierarchy.add_intermediate("root", "root", now),
        lambda: hierarchy.intermediate_csr("issuing-1"),
    ):
        with pytest.raises(HierarchyFault, match=r"there is an issuer .* already .*choose another name"):
            attempt()
    assert facts() == before


@pytest.mark.parametrize("name", ["", "Root", "a.b", "../x", "x" * 65])
def test_odd_names_are_refused(name: str, now: datetime) -> None:
    with pytest.raises(KeyFault, match="cannot be an issuer's name"):
        hierarchy.init_root(name, now)
    assert not Event.objects.exists()


def test_a_parent_must_be_a_root_with_its_key_here(now: datetime) -> None:
    ready(now)
    with pytest.raises(HierarchyFault, match="there is no issuer nowhere; there are: issuing-1, root"):
        hierarchy.add_intermediate("issuing-2", "nowhere", now)
    with pytest.raises(HierarchyFault, match="issuing-1 is an intermediate, which may not make further CAs"):
        hierarchy.add_intermediate("issuing-2", "issuing-1", now)
    keys.path_of("root").unlink()
    keys.forget()
    with pytest.raises(HierarchyFault, match=r"the root root cannot sign: .*root\.key is missing"):
        hierarchy.add_intermediate("issuing-2", "root", now)
    assert not keys.path_of("issuing-2").exists()


def test_an_intermediate_may_be_narrower_than_its_root_and_not_wider(now: datetime) -> None:
    hierarchy.init_root("root", now)
    narrow = Constraints(("a.internal",))
    hierarchy.add_intermediate("narrow", "root", now, permitted=narrow)
    assert read(certificate("narrow")) == narrow
    with pytest.raises(HierarchyFault, match=r"does not permit zone example\.com; it permits zones internal, localhost, fleet\.example;"):
        hierarchy.add_intermediate("wide", "root", now, permitted=Constraints(("example.com",)))


def test_what_pkilint_refuses_is_not_signed(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    examined: list[x509.Certificate] = []

    def findings(plan: Authority, draft: x509.Certificate) -> list[str]:
        examined.append(draft)
        return ["some finding at certificate"]

    monkeypatch.setattr(authority, "pkilint_findings", findings)
    with pytest.raises(HierarchyFault, match="pkilint refuses this certificate, nothing was signed: some finding at certificate"):
        hierarchy.init_root("root", now)
    own = keys.issuer_signer("root").public_key
    assert examined[0].public_key() == own
    assert isinstance(own, ec.EllipticCurvePublicKey)
    with pytest.raises(InvalidSignature):
        own.verify(examined[0].signature, examined[0].tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    assert not Event.objects.exists()


def test_pkilint_finds_what_is_wrong_with_a_ca_certificate(now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    plan = Authority("x", key.public_key(), None, now, now + timedelta(days=1), HERE, "http://localhost:8080/issuers/x.der")
    assert authority.pkilint_findings(plan, plan.builder().sign(key, hashes.SHA256())) == []
    name = authority.subject("x")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    bare = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    assert any(finding.startswith("pkix.ca_certificate_no_ku_extension") for finding in authority.pkilint_findings(plan, bare))


# --- crashes


class Crash(BaseException):
    """The process dies here."""


def crash(*args: object, **kwargs: object) -> None:
    raise Crash


@pytest.mark.parametrize("line", ["create_log_key", "create_revocation_key", "create", "throw_away", "log_signer"])
def test_a_crash_at_any_line_is_made_good_by_the_same_call(line: str, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(keys, line, crash)
        with pytest.raises(Crash):
            hierarchy.init_root("root", now)
    assert not Event.objects.exists()
    left = keys.path_of("root").read_bytes() if keys.path_of("root").exists() else None
    keys.forget()
    ready(now)
    assert left in (None, keys.path_of("root").read_bytes())
    assert hierarchy.check(now) == []


def test_a_crash_in_the_commit_leaves_no_issuer(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy.init_root("root", now)
    with monkeypatch.context() as patch:
        patch.setattr(Issuer.objects, "create", crash)
        with pytest.raises(Crash):
            hierarchy.add_intermediate("issuing-1", "root", now)
    assert facts() == [("issuer.added", "root")]
    kept = keys.issuer_signer("issuing-1").public_key
    hierarchy.add_intermediate("issuing-1", "root", now)
    assert certificate("issuing-1").public_key() == kept


def test_a_left_key_of_another_kind_is_named(now: datetime) -> None:
    keys.create("root", "Ed25519")
    with pytest.raises(KeyFault, match=r"root\.key is there already and is Ed25519, not P-256: ask for Ed25519, or move the file away"):
        hierarchy.init_root("root", now)
    assert hierarchy.init_root("root", now, kind="Ed25519")


def test_lost_shared_keys_are_not_made_again(now: datetime, settings: Any) -> None:
    hierarchy.init_root("root", now)
    settings.REVOCATION_KEY_FILE.unlink()
    keys.path_of("x").with_name("_log.key").unlink()
    keys.forget()
    with pytest.raises(KeyFault, match=r"_log\.key is missing"):
        hierarchy.init_root("another", now)
    assert not settings.REVOCATION_KEY_FILE.exists()


# --- the ceremony


def carry(now: datetime, machine: Callable[[str], None], **options: Any) -> tuple[bytes, str]:
    """Request made here, signed at the root's machine: (intermediate and root as PEM, the root's fingerprint)."""
    request = hierarchy.intermediate_csr("issuing-1", options.pop("kind", "P-256"))
    machine("vault")
    with separate_log():
        root = hierarchy.init_root("offline-root", now)
        chain = hierarchy.sign_intermediate(request, "offline-root", now, **options)
        assert hierarchy.sign_intermediate(request, "offline-root", now, **options) == chain
        assert facts() == [("issuer.added", "offline-root"), ("issuer.added", "issuing-1")]
        assert not keys.path_of("issuing-1").exists()
    machine("here")
    return chain, root.fingerprint


@pytest.mark.parametrize("kind", ["P-256", "Ed25519", "RSA-2048"])
def test_ceremony_over_files(kind: str, now: datetime, machine: Callable[[str], None]) -> None:
    chain, fingerprint = carry(now, machine, kind=kind)
    made = hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=fingerprint)
    assert (made.kind, made.parent) == ("intermediate", "offline-root")
    assert hierarchy.pem_of(made, hierarchy.find("offline-root")) == chain
    assert facts() == [("issuer.added", "offline-root"), ("issuer.added", "issuing-1")]
    assert hierarchy.import_intermediate("issuing-1", chain, now) == made
    assert len(facts()) == 2
    assert not keys.path_of("offline-root").exists()
    hierarchy.activate("issuing-1", "server", now)
    assert hierarchy.check(now) == []


def test_the_request_made_again_is_for_the_same_key() -> None:
    assert hierarchy.intermediate_csr("issuing-1") == hierarchy.intermediate_csr("issuing-1")


def test_openssl_reads_the_request(tmp_path: Path) -> None:
    (tmp_path / "csr.pem").write_bytes(hierarchy.intermediate_csr("issuing-1"))
    command = ["openssl", "req", "-verify", "-noout", "-subject", "-in", "csr.pem"]
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "CN = issuing-1" in told.stdout


def test_an_unknown_root_needs_its_fingerprint(now: datetime, machine: Callable[[str], None]) -> None:
    chain, fingerprint = carry(now, machine)
    for wrong in (None, "", "00" * 32):
        with pytest.raises(HierarchyFault, match=f"not known here; its SHA-256 is {fingerprint}"):
            hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=wrong)
    assert not Event.objects.exists()
    spelled = ":".join(fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    assert hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=spelled, root_name="corporate").parent == "corporate"


def test_a_certificate_for_another_key_is_refused(now: datetime, machine: Callable[[str], None]) -> None:
    chain, fingerprint = carry(now, machine)
    keys.path_of("issuing-1").unlink()
    keys.forget()
    with pytest.raises(HierarchyFault, match=r"not for the key of issuing-1: .*issuing-1\.key is missing"):
        hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=fingerprint)
    hierarchy.intermediate_csr("issuing-1")
    with pytest.raises(HierarchyFault, match=r"not for the key of issuing-1: .* is not the key of the certificate"):
        hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=fingerprint)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda chain: b"", "does not hold readable certificates as PEM"),
        (lambda chain: chain[: chain.index(b"-----END")], "does not hold readable certificates as PEM"),
        (lambda chain: chain[: len(chain) // 2], "does not hold readable certificates as PEM|holds 1 certificates"),
        (lambda chain: chain + chain, "holds 4 certificates, not the intermediate"),
    ],
)
def test_files_that_are_no_chain_are_refused(spoil, reason, now: datetime, machine: Callable[[str], None]) -> None:
    chain, fingerprint = carry(now, machine)
    with pytest.raises(HierarchyFault, match=reason):
        hierarchy.import_intermediate("issuing-1", spoil(chain), now, root_fingerprint=fingerprint)


def foreign_chain(now: datetime, **changes: Any) -> bytes:
    """Intermediate and root as somebody else's software might make them for our request."""
    ours = x509.load_pem_x509_csr(hierarchy.intermediate_csr("issuing-1")).public_key()
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corporate-root")])
    usage = x509.KeyUsage(False, False, False, False, False, True, changes.get("crl_sign", True), False, False)
    root = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=99))
    for extension, critical in (
        (x509.BasicConstraints(True, None), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.KeyUsage(False, False, False, False, False, True, True, False, False), True),
    ):
        root = root.add_extension(extension, critical)
    if "root_constraints" in changes:
        root = root.add_extension(changes["root_constraints"], critical=True)
    signer = changes.get("signer", key)
    start, end = now + changes.get("start", timedelta()), now + changes.get("end", timedelta(days=9))
    made = x509.CertificateBuilder(name, authority.subject("issuing-1"), ours, 2, start, end)
    for extension, critical in (
        (changes.get("basic", x509.BasicConstraints(True, 0)), True),
        (usage, True),
        (changes.get("identifier", x509.SubjectKeyIdentifier.from_public_key(ours)), False),
        (changes.get("issued_by", x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())), False),
        (changes.get("constraints", HERE.extension()), True),
    ):
        made = made.add_extension(extension, critical) if extension else made
    both = made.sign(signer, hashes.SHA256()), root.sign(key, hashes.SHA256())
    return b"".join(item.public_bytes(Encoding.PEM) for item in both)


def test_a_root_of_other_software_will_do(now: datetime) -> None:
    chain = foreign_chain(now)
    root = x509.load_pem_x509_certificates(chain)[1]
    made = hierarchy.import_intermediate("issuing-1", chain, now, root_fingerprint=root.fingerprint(hashes.SHA256()).hex())
    assert made.parent == "corporate-root"


def test_a_chain_with_any_byte_changed_is_refused_and_nothing_worse(now: datetime) -> None:
    chain = foreign_chain(now)
    good = [item.public_bytes(Encoding.DER) for item in x509.load_pem_x509_certificates(chain)]
    authority.check(*authority.read_chain(chain), now)
    for which in (0, 1):
        for at in range(len(good[which])):
            changed = bytearray(good[which])
            changed[at] ^= 1 << at % 8
            pair = [*good[:which], bytes(changed), *good[which + 1 :]]
            pem = "".join(f"-----BEGIN CERTIFICATE-----\n{b64encode(item).decode()}\n-----END CERTIFICATE-----\n" for item in pair)
            with pytest.raises(Violation):
                authority.check(*authority.read_chain(pem.encode()), now)


def test_unused_bits_in_a_signature_are_refused(now: datetime) -> None:
    for _ in range(200):
        made, root = x509.load_pem_x509_certificates(foreign_chain(now))
        if made.signature[-1] & 1 == 0:  # its last bit may be marked unused without changing what it says
            break
    changed = bytearray(made.public_bytes(Encoding.DER))
    changed[-len(made.signature) - 1] = 1
    with pytest.raises(Violation, match="whole octets"):
        authority.check(x509.load_der_x509_certificate(bytes(changed)), root, now)


OPEN = x509.NameConstraints([x509.DNSName("internal")], None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signer": rsa.generate_private_key(65537, 2048)}, "the intermediate was not issued by the root"),
        ({"basic": x509.BasicConstraints(False, None)}, "the intermediate is not marked as a CA"),
        ({"basic": x509.BasicConstraints(True, None)}, "no path length of 0"),
        ({"basic": x509.BasicConstraints(True, 1)}, "no path length of 0"),
        ({"crl_sign": False}, "lacks the key usages keyCertSign and cRLSign"),
        ({"identifier": None}, "no subject key identifier of 20 bytes"),
        ({"identifier": x509.SubjectKeyIdentifier(b"x" * 32)}, "no subject key identifier of 20 bytes"),
        ({"issued_by": None}, "authority key identifier is not the root's"),
        ({"issued_by": x509.AuthorityKeyIdentifier(b"x" * 20, None, None)}, "authority key identifier is not the root's"),
        ({"constraints": None}, "the certificate has no name constraints"),
        ({"constraints": OPEN}, "it leaves e-mail names open; it leaves URI names open; it leaves IPv4 names open"),
        ({"root_constraints": Constraints(("internal",)).extension()}, "the root does not permit the intermediate's zone localhost"),
        ({"start": timedelta(minutes=1)}, "the intermediate is not valid before"),
        ({"start": timedelta(days=-1), "end": timedelta(seconds=-1)}, "the intermediate expired on"),
        ({"end": timedelta(days=100)}, "the intermediate's validity is not within the root's"),
    ],
)
def test_a_certificate_that_does_not_bind_the_intermediate_is_refused(changes: dict[str, Any], reason: str, now: datetime) -> None:
    with pytest.raises(HierarchyFault, match=reason):
        hierarchy.import_intermediate("issuing-1", foreign_chain(now, **changes), now)
    assert not Event.objects.exists()


def test_the_signing_machine_takes_key_and_name_only(now: datetime) -> None:
    hierarchy.init_root("root", now)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuing-9"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Mallory")])
    request = x509.CertificateSigningRequestBuilder(subject).sign(key, hashes.SHA256())
    hierarchy.sign_intermediate(request.public_bytes(Encoding.DER), "root", now)
    assert certificate("issuing-9").subject == authority.subject("issuing-9")
    other = x509.CertificateSigningRequestBuilder(subject).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    with pytest.raises(HierarchyFault, match="there is an issuer issuing-9 already"):
        hierarchy.sign_intermediate(other.public_bytes(Encoding.PEM), "root", now)
    spoiled = request.public_bytes(Encoding.DER)[:-1] + b"\0"
    with pytest.raises(HierarchyFault, match="the request is refused"):
        hierarchy.sign_intermediate(spoiled, "root", now)


# --- activation


def test_one_issuer_is_active_per_profile_and_the_newest_wins(now: datetime) -> None:
    ready(now)
    hierarchy.add_intermediate("issuing-2", "root", now, kind="P-384")
    hierarchy.activate("issuing-2", "server", now)
    hierarchy.activate("issuing-2", "server", now)
    assert dict(Activation.objects.values_list("profile", "issuer")) == {**dict.fromkeys(LEAF, "issuing-1"), "server": "issuing-2"}
    assert facts().count(("issuer.activated", "issuing-2")) == 1
    assert hierarchy.check(now) == []


def test_what_cannot_sign_is_not_activated(now: datetime) -> None:
    ready(now)
    with pytest.raises(HierarchyFault, match="root is a root, which signs intermediates only"):
        hierarchy.activate("root", "server", now)
    with pytest.raises(HierarchyFault, match="there is no profile sever; there are: server"):
        hierarchy.activate("issuing-1", "sever", now)
    with pytest.raises(HierarchyFault, match="there is no issuer issuing-2"):
        hierarchy.activate("issuing-2", "server", now)
    with pytest.raises(HierarchyFault, match="the certificate of issuer issuing-1 expired on"):
        hierarchy.activate("issuing-1", "server", now + timedelta(days=5 * 365))
    hierarchy.add_intermediate("issuing-2", "root", now)
    keys.path_of("issuing-2").unlink()
    keys.forget()
    with pytest.raises(HierarchyFault, match=r"issuing-2\.key is missing"):
        hierarchy.activate("issuing-2", "server", now)


# --- what stops a start


def test_nothing_stops_a_start_where_all_is_well(now: datetime, settings: Any) -> None:
    ready(now)
    assert hierarchy.check(now) == []
    settings.ROLE = "web"
    keys.forget()
    assert hierarchy.check(now) == []


def test_an_empty_installation_is_told_what_to_run(now: datetime) -> None:
    assert hierarchy.check(now) == ["no issuer is active: run manage.py init_root, add_intermediate and activate_issuer"]


def lose(settings: Any) -> None:
    keys.path_of("issuing-1").unlink()


def loosen(settings: Any) -> None:
    keys.path_of("issuing-1").chmod(0o644)


def exchange(settings: Any) -> None:
    keys.path_of("issuing-1").write_bytes(keys.path_of("root").read_bytes())


def loosen_the_roots(settings: Any) -> None:
    keys.path_of("root").chmod(0o644)


def mistype(settings: Any) -> None:
    settings.KEY_PASSPHRASE = "mistyped"


def lose_the_logs(settings: Any) -> None:
    keys.path_of("x").with_name("_log.key").unlink()


def exchange_the_logs(settings: Any) -> None:
    lose_the_logs(settings)
    keys.create_log_key()


def lose_the_revocation_key(settings: Any) -> None:
    settings.REVOCATION_KEY_FILE.unlink()


def widen_zones(settings: Any) -> None:
    settings.ZONES = ("internal", "example.com")


def widen_ranges(settings: Any) -> None:
    settings.IP_RANGES = (ip_network("192.168.0.0/16"),)


def widen_trust(settings: Any) -> None:
    settings.SPIFFE_TRUST_DOMAINS = ("internal",)


@pytest.mark.parametrize(
    ("harm", "reasons"),
    [
        (lose, [r"issuing-1\.key is missing: restore it"]),
        (loosen, [r"issuing-1\.key is open to others \(mode 0644\): chmod 600"]),
        (exchange, [r"issuing-1\.key is not the key of the certificate of issuer issuing-1: restore the right file"]),
        (loosen_the_roots, [r"root\.key is open to others"]),
        (mistype, [r"issuing-1\.key does not open: wrong passphrase", r"root\.key does not open", r"_log\.key does not open"]),
        (lose_the_logs, [r"_log\.key is missing"]),
        (exchange_the_logs, ["the log's checkpoints are signed by quicklime/log.*, but the key here is"]),
        (lose_the_revocation_key, [r"revocation\.key is missing"]),
        (
            widen_zones,
            [r"the zone example\.com, .* may not certify \(it permits zones internal, .*: take it out .* or add and activate"],
        ),
        (widen_ranges, ["the settings name the IP range 192.168.0.0/16, which issuer issuing-1 may not certify"]),
        (widen_trust, ["the settings name the trust domain internal, which issuer issuing-1 may not certify"]),
    ],
)
def test_each_fault_stops_the_start_with_its_reason(harm, reasons: list[str], now: datetime, settings: Any) -> None:
    ready(now)
    harm(settings)
    keys.forget()
    told = hierarchy.check(now)
    assert len(told) == len(reasons)
    for text, reason in zip(told, reasons, strict=True):
        assert re.search(reason, text), text


@pytest.mark.parametrize(
    ("after", "reasons"),
    [
        (timedelta(hours=-2), ["issuer issuing-1 is not valid before", "issuer root is not valid before"]),
        (timedelta(days=5 * 365), ["issuer issuing-1 expired on"]),
        (timedelta(days=10 * 365), ["issuer issuing-1 expired on", "issuer root expired on"]),
    ],
)
def test_certificates_stop_the_start_outside_their_validity(after: timedelta, reasons: list[str], now: datetime) -> None:
    ready(now)
    told = hierarchy.check(now + after)
    assert len(told) == len(reasons)
    assert all(reason in text for reason, text in zip(reasons, told, strict=True))


def test_an_idle_intermediate_may_expire_and_a_roots_key_may_be_away(now: datetime) -> None:
    ready(now)
    hierarchy.add_intermediate("old", "root", now, years=1)
    keys.path_of("root").unlink()
    assert hierarchy.check(now + timedelta(days=366)) == []


# --- the commands


def test_commands_lead_from_nothing_to_a_working_hierarchy(now: datetime, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    call_command("init_root", "root", "--out", str(tmp_path / "root.pem"))
    told = capsys.readouterr().out
    assert hierarchy.find("root").fingerprint in told
    assert str(keys.path_of("root")) in told
    assert "Next: manage.py add_intermediate issuing-1 --parent root" in told
    assert (tmp_path / "root.pem").read_bytes() == hierarchy.pem_of(hierarchy.find("root"))
    call_command(
        "add_intermediate", "issuing-1", "--kind", "P-384", "--zone", "internal", "--zone", "localhost", "--ip-range", "10.0.0.0/8"
    )
    assert "Next: manage.py activate_issuer issuing-1" in capsys.readouterr().out
    assert str(read(certificate("issuing-1"))) == "zones internal, localhost; IP ranges 10.0.0.0/8; trust domains none"
    call_command("activate_issuer", "issuing-1")
    assert capsys.readouterr().out == f"issuing-1 signs {', '.join(LEAF)}\n"
    with pytest.raises(CommandError, match=r"the keys do not fit\n  the settings name the zone fleet\.example"):
        call_command("check_keys")
    call_command("add_intermediate", "issuing-2")
    call_command("activate_issuer", "issuing-2", "--profile", "server", "--profile", "client")
    assert Activation.objects.get(profile="server").issuer == "issuing-2"
    assert Activation.objects.get(profile="peer").issuer == "issuing-1"


def test_commands_of_a_ceremony(now: datetime, capsys: pytest.CaptureFixture[str], tmp_path: Path, machine: Callable[[str], None]) -> None:
    request, chain = str(tmp_path / "issuing-1.csr"), str(tmp_path / "issuing-1.pem")
    call_command("add_intermediate", "issuing-1", "--csr-out", request)
    machine("vault")
    with separate_log():
        call_command("init_root")
        call_command("add_intermediate", "--sign", request, "--out", chain, "--years", "3")
        told = capsys.readouterr().out
        fingerprint = hierarchy.find("root").fingerprint
        assert f"--import issuing-1.pem --root-fingerprint {fingerprint}" in told
    machine("here")
    with pytest.raises(CommandError, match="repeat the command with this fingerprint"):
        call_command("add_intermediate", "issuing-1", "--import", chain)
    call_command("add_intermediate", "issuing-1", "--import", chain, "--root-fingerprint", fingerprint)
    call_command("activate_issuer", "issuing-1")
    call_command("check_keys")
    assert capsys.readouterr().out.endswith("keys, certificates and settings fit\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("init_root", "No"), "'No' cannot be an issuer's name"),
        (("init_root", "--years", "0"), "give a whole number from 1 to 50"),
        (("init_root", "--kind", "DSA"), "invalid choice: 'DSA'"),
        (("init_root", "--zone", "Upper.internal"), "'Upper.internal' is not a lower-case domain name"),
        (("init_root", "--ip-range", "10.0.0.1/8"), "has host bits set"),
        (("init_root", "--ip-range", "10.0.0.0/8"), "no DNS zone is permitted"),
        (("add_intermediate",), "name the intermediate"),
        (("add_intermediate", "a"), "there is no issuer root; there are: none"),
        (("add_intermediate", "--sign", "/nonexistent.csr"), "name the file for the certificates: --out FILE"),
        (("add_intermediate", "--sign", "/nonexistent.csr", "--out", "/nonexistent.pem"), "No such file or directory: '/nonexistent.csr'"),
        (("add_intermediate", "a", "--csr-out", "x", "--import", "y"), "not allowed with argument"),
        (("activate_issuer", "a"), "there is no issuer a; there are: none"),
        (("check_keys",), "no issuer is active"),
    ],
)
def test_commands_refuse_with_a_sentence(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command(*arguments)


def test_a_ceremony_file_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "issuing-1.csr"
    path.write_text("something else")
    with pytest.raises(CommandError, match="exists and holds something else"):
        call_command("add_intermediate", "issuing-1", "--csr-out", str(path))
    assert path.read_text() == "something else"
