"""Renewal: who holds a certificate's key may have its successor.

Owns who may renew what, what may change by it, and what is read about the certificate to be replaced. Both the door and the steps
that use a CA key ask here, each with what the database says at that moment. Must never store, sign or append: a renewal is a
request like any other, which ends as a certificate that names its predecessor.

A proof is a signature by the old key. Where the door saw that key at work in TLS there is none, and it attests what it saw by the server's
revocation key. That counts in the database alone, where it keeps a row from being made by who can write there and nothing else: at the
door nobody can send one.

A proof serves once: a certificate has one successor, ever. That is kept by the unique index over the requests that were not
rejected, and, where the requests are lost and the log is not, by the successor that the certificate's row names.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509

from eventlog.bulk import places, read_rows

from . import challenges, keys
from .errors import Problem
from .models import Certificate, CertificateName
from .pki import proofs
from .pki.csr import ParsedCSR
from .pki.keycheck import PublicKey
from .policy import Wanted, lifetime_end
from .profiles import LEAF, PROFILES, Profile

_SECOND = timedelta(seconds=1)
_ATTESTED = 32  # bytes; the shortest signature, Ed25519's, has 64


class Old(NamedTuple):
    """The certificate to be replaced."""

    serial: str
    token: str
    owner: str
    profile: str
    service: str
    node: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    spki_sha256: bytes
    der: bytes
    renewal_challenge: bytes
    revoked_at: datetime | None
    replaced_by: str | None
    replace_by: datetime | None
    replace_key: bool | None
    log_position: int


@dataclass(frozen=True, slots=True)
class Proof:
    """`signature` over pki.proofs.renewal_statement for the certificate `serial` and a new request of this SHA-256."""

    serial: str
    signature: bytes
    csr_sha256: bytes


def find(serials: Collection[str]) -> dict[str, Old]:
    """The certificates of these serials, each 40 hex digits."""
    if not serials:
        return {}
    rows = read_rows(Certificate, Old._fields, f"WHERE serial IN ({places(serials)})", list(serials))
    found = (Old._make(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows)
    return {old.serial: old for old in found}


def entitled(proof: Proof, old: Old | None, owner: str | None) -> Old:
    """`old`, what was found of `proof.serial`, if its key made the proof and it is `owner`'s; None: whoever's it is. Raises
    Problem, the same after the same work where there is no such certificate."""
    key, issuer_key_id = signer(old.der) if old else (proofs.nobodys_key(), b"")
    statement = proofs.renewal_statement(issuer_key_id, proof.serial, old.renewal_challenge if old else b"", proof.csr_sha256)
    proven = proofs.proves(key, proof.signature, statement)
    if old is None or not proven or owner not in (None, old.owner):
        raise _not_entitled()
    return old


def _not_entitled() -> Problem:
    return Problem("notEntitled", "no certificate of this serial number is renewed by this proof")


def entitled_still(proof: Proof, old: Old | None, owner: str) -> Old:
    """As `entitled`, where a CA key is used: here the door's own attestation counts as well."""
    if old is None or owner != old.owner or len(proof.signature) != _ATTESTED:
        return entitled(proof, old, owner)
    if not hmac.compare_digest(attestation(old, proof.csr_sha256), proof.signature):
        raise _not_entitled()
    return old


def attestation(old: Old, csr_sha256: bytes) -> bytes:
    """32 bytes that stand for a proof: the door saw in TLS that the caller who asks with this CSR has the key of `old`."""
    statement = proofs.renewal_statement(signer(old.der)[1], old.serial, old.renewal_challenge, csr_sha256)
    return challenges.attestation(keys.revocation_key(), statement)


@lru_cache(256)  # a batch of one worker's, which asks about each again before it signs
def signer(der: bytes) -> tuple[PublicKey, bytes]:
    """The certificate's key, and the key id of its issuer, which it names itself (RFC 5280 §4.2.1.1)."""
    certificate = x509.load_der_x509_certificate(der)
    authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    return certificate.public_key(), authority.key_identifier or b""  # type: ignore[return-value]  # only kinds of keycheck are certified


def check_renewable(old: Old, at: datetime) -> None:
    """Raise Problem unless `old` may have a successor that is asked for at `at`."""
    if old.revoked_at is not None:
        raise Problem("certificateRevoked", "a revoked certificate is not renewed: ask for a new one")
    if old.replaced_by is not None:
        raise taken(old.replaced_by)
    end = old.not_after + _profile(old).renewal_grace
    if at > end:
        raise Problem("renewalTooLate", f"it could be renewed until {end:%Y-%m-%dT%H:%M:%SZ}: ask for a new one")
    if at > old.not_after and _was_asked_for_anew(old):
        raise Problem("renewalTooLate", "it has ended, and a later one was asked for in its place: renew that")


def _was_asked_for_anew(old: Old) -> bool:
    """Whether there is a later certificate for the same owner, profile, service, node and names, whatever became of it."""
    later = CertificateName.objects.filter(name=old.names[0].partition(":")[2], log_position__gt=old.log_position).values("serial")
    same = Certificate.objects.filter(serial__in=later, owner=old.owner, profile=old.profile, service=old.service, node=old.node)
    return any(set(names) == set(old.names) for names in same.values_list("names", flat=True))


def taken(successor: str | None = None) -> Problem:
    """Somebody was first."""
    what = f"it was renewed by {successor}" if successor else "another renewal of it is under way"
    return Problem("alreadyRenewed", f"{what}; to repeat a call, send the Idempotency-Key that it had")


def check_changes(old: Old, csr: ParsedCSR, names_as_before: bool) -> None:
    """Raise Problem where `csr` asks for what `old` had and a successor may not, or for names that only a token grants."""
    if csr.spki_sha256 == old.spki_sha256:
        _check_reuse(old)
    if names_as_before and {str(name) for name in csr.names} != set(old.names):
        raise Problem("namesChanged", f"without a token that may issue, the names stay {', '.join(old.names)}", "names")


def _check_reuse(old: Old) -> None:
    if old.replace_key:
        raise Problem("keyReused", "it is to be replaced for its key: make another", "csr.key")
    if not _profile(old).may_reuse_key:
        raise Problem("keyReused", f"the profile {old.profile} wants a new key in each certificate", "csr.key")


def wanted(old: Old, now: datetime) -> Wanted:
    """What a successor decided at `now` is: all as before, and as long a life, as far as the profile permits that today."""
    profile = _profile(old)
    lifetime = min(old.not_after - old.not_before + _SECOND, profile.maximum)
    return Wanted(profile=profile.name, service=old.service, node=old.node, not_after=lifetime_end(lifetime, profile, now))


def _profile(old: Old) -> Profile:
    if old.profile not in LEAF:
        raise Problem("profileUnknown", f"certificates of the profile {old.profile} are not had this way", "profile")
    return PROFILES[old.profile]
