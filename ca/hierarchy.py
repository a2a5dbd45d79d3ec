"""The hierarchy: roots, issuing intermediates, and which of them signs which profile.

Owns how a CA certificate comes about and enters the log, here or in a ceremony over files with the root on another machine.
Must never let a certificate out before its event is committed, nor make one that pkilint, under a throw-away key, finds
fault with.

Order of the writes: first the sealed key, durable; then certificate and event in one commit. A crash between the two
leaves a key without a certificate, which the same call, made again, takes up. A crash before the commit loses a CA
certificate that nobody has seen. After the commit everything can be had again from the log.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.db import IntegrityError, transaction

from eventlog import checkpoints, notes
from eventlog.append import append

from . import keys
from .events import Event, IssuerActivated, IssuerAdded
from .models import Activation, BlockedKey, Certificate, Issuer
from .pki import authority, csr
from .pki.authority import Authority
from .pki.constraints import Constraints, read
from .pki.violations import Violation
from .profiles import OCSP_SIGNER, PROFILES

ROOT, INTERMEDIATE = "root", "intermediate"
SELF = "quicklime"  # the owner of what the CA issues to itself
_YEAR = timedelta(days=365)
_BACKDATE = timedelta(hours=1)  # room for hosts whose clock is behind, and for leaves, which are backdated less


class HierarchyFault(Exception):
    """What was asked cannot be done. The text says why and what would do."""


@dataclass(frozen=True)
class _Parent:
    """An issuer whose key is here and that may sign now."""

    name: str
    certificate: x509.Certificate
    signer: keys.Signer


def configured_names() -> Constraints:
    """What the settings say this CA issues for."""
    return Constraints(settings.ZONES, settings.IP_RANGES, settings.SPIFFE_TRUST_DOMAINS)


# --- making


def init_root(name: str, now: datetime, *, kind: str = "P-256", years: int = 10, permitted: Constraints | None = None) -> Issuer:
    """Make a root: key, self-signed certificate, event; and with the first one the log's key and the revocation key.
    `permitted`: the names it may ever certify, by default the configured ones. Raises HierarchyFault, KeyFault."""
    _refuse_taken(name)
    signer = _new_key(name, kind)
    plan = Authority(name, signer.public_key, None, *_validity(now, years, None), permitted or configured_names())
    return _add(name, None, _signed(plan, signer), now)


def add_intermediate(
    name: str, parent: str, now: datetime, *, kind: str = "P-256", years: int = 5, permitted: Constraints | None = None
) -> Issuer:
    """Make an issuing intermediate under the root `parent`, whose key is on this machine. `permitted`: by default what the
    root permits. It signs nothing before it is activated. Raises HierarchyFault, KeyFault."""
    _refuse_taken(name)
    root = _parent(parent, now)
    signer = _new_key(name, kind)
    return _add(name, parent, _intermediate(name, signer.public_key, root, now, years, permitted), now)


def _intermediate(
    name: str, public_key: keys.PublicKey, root: _Parent, now: datetime, years: int, permitted: Constraints | None
) -> x509.Certificate:
    permitted = permitted or read(root.certificate)
    outside = read(root.certificate).outside(permitted)
    if outside:
        raise HierarchyFault(f"the root {root.name} does not permit {', '.join(outside)}; it permits {read(root.certificate)}")
    where = f"{settings.AIA_URL}/issuers/{root.name}.der"
    validity = _validity(now, years, root.certificate)
    return _signed(Authority(name, public_key, root.certificate, *validity, permitted, where), root.signer)


def _validity(now: datetime, years: int, parent: x509.Certificate | None) -> tuple[datetime, datetime]:
    """First and last second, both included (RFC 5280 §4.1.2.5), within the parent's."""
    start, end = now.replace(microsecond=0) - _BACKDATE, now.replace(microsecond=0) + years * _YEAR - timedelta(seconds=1)
    if parent is None:
        return start, end
    if end > parent.not_valid_after_utc:
        raise HierarchyFault(
            f"{years} years are more than its root has left, which ends on {parent.not_valid_after_utc:%Y-%m-%d}: ask for less"
        )
    return max(start, parent.not_valid_before_utc), end


def _signed(plan: Authority, signer: keys.Signer) -> x509.Certificate:
    """The plan's certificate, examined under a throw-away key before the real one touches it."""
    builder = plan.builder()
    draft = keys.throw_away(signer.kind).sign_certificate(builder)
    findings = authority.pkilint_findings(plan, draft)
    if findings:
        raise HierarchyFault(f"pkilint refuses this certificate, nothing was signed: {'; '.join(findings)}")
    certificate = signer.sign_certificate(builder)
    if certificate.tbs_certificate_bytes != draft.tbs_certificate_bytes:
        raise HierarchyFault("the signed certificate is not the one that was examined; it was thrown away")
    return certificate


def _new_key(name: str, kind: str) -> keys.Signer:
    """The issuer's key, and with the first issuer the keys that the log and the revocation secrets need. Later these are
    not made again: one that is missing was lost, and a new one in its place would hide that."""
    if not Issuer.objects.exists():
        keys.create_log_key()
        keys.create_revocation_key()
    return keys.create(name, kind)


def _refuse_taken(name: str) -> None:
    keys.path_of(name)
    row = Issuer.objects.filter(name=name).first()
    if row:
        raise HierarchyFault(f"there is an issuer {name} already (SHA-256 {row.fingerprint}): choose another name")


def _parent(name: str, now: datetime) -> _Parent:
    row = find(name)
    certificate = certificate_of(row)
    if row.kind != ROOT:
        raise HierarchyFault(f"{name} is an intermediate, which may not make further CAs: name a root")
    if fault := authority.validity_fault(certificate, now) or keys.fault(name, certificate.public_key()):
        raise HierarchyFault(f"the root {name} cannot sign: {fault}")
    return _Parent(name, certificate, keys.issuer_signer(name))


def find(name: str) -> Issuer:
    """The issuer of this name. Raises HierarchyFault."""
    row = Issuer.objects.filter(name=name).first()
    if row is None:
        known = ", ".join(Issuer.objects.order_by("name").values_list("name", flat=True))
        raise HierarchyFault(f"there is no issuer {name}; there are: {known or 'none'}")
    return row


def certificate_of(issuer: Issuer) -> x509.Certificate:
    """The issuer's certificate."""
    return x509.load_der_x509_certificate(bytes(issuer.certificate))


def pem_of(*issuers: Issuer) -> bytes:
    """The issuers' certificates as PEM, one after the other."""
    return b"".join(certificate_of(issuer).public_bytes(Encoding.PEM) for issuer in issuers)


def _add(name: str, parent: str | None, certificate: x509.Certificate, now: datetime) -> Issuer:
    _append([_added(name, parent, certificate)], now)
    return Issuer.objects.get(name=name)


def _added(name: str, parent: str | None, certificate: x509.Certificate) -> IssuerAdded:
    return IssuerAdded(
        name=name, kind=INTERMEDIATE if parent else ROOT, parent=parent, key_id=authority.key_id(certificate).hex(),
        certificate=b64encode(certificate.public_bytes(Encoding.DER)).decode(),
    )  # fmt: skip


def _append(events: Iterable[Event], now: datetime) -> None:
    try:
        with transaction.atomic():
            append([event.new() for event in events], now, sign=keys.log_signer())
    except IntegrityError:
        raise HierarchyFault("another process added the same issuer at this moment: look at what is there, then try again") from None


# --- a ceremony over files


def intermediate_csr(name: str, kind: str = "P-256") -> bytes:
    """Make an intermediate's key here and return the request for it, PEM, to be carried to the root's machine. Made again
    before the certificate is there, it is a request for the same key."""
    _refuse_taken(name)
    signer = _new_key(name, kind)
    return signer.sign_request(x509.CertificateSigningRequestBuilder(authority.subject(name))).public_bytes(Encoding.PEM)


def sign_intermediate(request: bytes, parent: str, now: datetime, *, years: int = 5, permitted: Constraints | None = None) -> bytes:
    """On the root's machine: certify the key in `request` (PEM or DER) under the name in it; nothing else is taken from it.
    Returns PEM, intermediate and root. The same request again gives the same certificate. Raises HierarchyFault, KeyFault."""
    try:
        asked = csr.parse(csr.to_der(request))
    except Violation as violation:
        raise HierarchyFault(f"the request is refused: {violation.detail}") from None
    name = asked.common_name or ""
    keys.path_of(name)
    row = Issuer.objects.filter(name=name, parent=parent).first()
    if row is None or certificate_of(row).public_key() != asked.public_key:
        _refuse_taken(name)
        row = _add(name, parent, _intermediate(name, asked.public_key, _parent(parent, now), now, years, permitted), now)
    return pem_of(row, find(parent))


def import_intermediate(
    name: str, chain: bytes, now: datetime, *, root_fingerprint: str | None = None, root_name: str | None = None
) -> Issuer:
    """Back on the intermediate's machine: take in the certificate for the key made by `intermediate_csr`. `chain`: PEM,
    intermediate first, then its root. A root that is not known here yet needs its SHA-256 `root_fingerprint` (hex), from
    somewhere else than these files; it is called `root_name`, by default by its common name.
    The same certificate again changes nothing. Raises HierarchyFault, KeyFault."""
    try:
        certificate, root = authority.read_chain(chain)
    except Violation as violation:
        raise HierarchyFault(f"the file is refused: {violation.detail}") from None
    row = Issuer.objects.filter(name=name).first()
    if row and certificate_of(row) == certificate:
        return row
    _refuse_taken(name)
    if fault := keys.fault(name, certificate.public_key()):
        raise HierarchyFault(f"the certificate is not for the key of {name}: {fault}")
    try:
        authority.check(certificate, root, now)
    except Violation as violation:
        raise HierarchyFault(f"the certificate is refused: {violation.detail}") from None
    known = Issuer.objects.filter(fingerprint=_fingerprint(root)).first()
    parent = known.name if known else _trusted_root(root, root_fingerprint, root_name)
    _append([*([] if known else [_added(parent, None, root)]), _added(name, parent, certificate)], now)
    return Issuer.objects.get(name=name)


def _trusted_root(root: x509.Certificate, fingerprint: str | None, name: str | None) -> str:
    """The name for a root that is new here, if the operator vouches for it."""
    if fingerprint is None or fingerprint.replace(":", "").lower() != _fingerprint(root):
        raise HierarchyFault(
            f"the root in the file is not known here; its SHA-256 is {_fingerprint(root)}. If the root's own machine shows the same, "
            "repeat the command with this fingerprint"
        )
    try:
        name = name or authority.common_name(root.subject)
    except Violation as violation:
        raise HierarchyFault(f"give the root a name: {violation.detail}") from None
    if not keys.NAME.fullmatch(name):
        raise HierarchyFault(f"give the root a name of 1 to 64 of a-z, 0-9 and -: {name!r} is none")
    _refuse_taken(name)
    return name


def _fingerprint(certificate: x509.Certificate) -> str:
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


# --- activating


def activate(issuer: str, profile: str, now: datetime) -> None:
    """From now on `issuer` signs certificates of `profile`, in place of whichever did. Active already, nothing happens.
    Raises HierarchyFault if it could not sign."""
    row = find(issuer)
    if row.kind != INTERMEDIATE:
        raise HierarchyFault(f"{issuer} is a root, which signs intermediates only: activate an intermediate")
    if profile not in PROFILES:
        raise HierarchyFault(f"there is no profile {profile}; there are: {', '.join(PROFILES)}")
    if faults := _issuer_faults(row, now):
        raise HierarchyFault("; ".join(faults))
    if not Activation.objects.filter(profile=profile, issuer=issuer).exists():
        _append([IssuerActivated(issuer=issuer, profile=profile)], now)


# --- checking


def check(now: datetime) -> list[str]:
    """Every reason why this process must not start to issue, each a sentence that says what to do; none: []. In the web
    process, which holds no CA key, what concerns those keys is left out."""
    issuers = Issuer.objects.in_bulk()
    active = sorted(set(Activation.objects.values_list("issuer", flat=True)))
    if not active:
        return ["no issuer is active: run manage.py init_root, add_intermediate and activate_issuer"]
    idle = [row for name, row in sorted(issuers.items()) if name not in active]
    return [
        *(fault for name in active for fault in _active_faults(issuers[name], now)),
        *(fault for row in idle for fault in _key_faults(row) if keys.path_of(row.name).exists()),
        *_ocsp_signer_faults(issuers, now),
        *_shared_key_faults(),
    ]


def _active_faults(row: Issuer, now: datetime) -> Iterable[str]:
    yield from _issuer_faults(row, now)
    permitted = read(certificate_of(row))
    for outside in permitted.outside(configured_names()):
        yield (
            f"the settings name the {outside}, which issuer {row.name} may not certify (it permits {permitted}): "
            "take it out of the settings, or add and activate an intermediate that permits it, under a root that does"
        )


def _issuer_faults(row: Issuer, now: datetime) -> list[str]:
    """Why the issuer cannot sign: its validity, its root's, its key."""
    faults = []
    for link in (row, *Issuer.objects.filter(name=row.parent)):
        if fault := authority.validity_fault(certificate_of(link), now):
            faults.append(f"the certificate of issuer {link.name} {fault}: add and activate another, or set the clock")
    return [*faults, *_key_faults(row)]


def _key_faults(row: Issuer) -> list[str]:
    if settings.ROLE == "web":
        return []
    fault = keys.fault(row.name, certificate_of(row).public_key())
    return [fault] if fault else []


def _ocsp_signer_faults(issuers: Mapping[str, Issuer], now: datetime) -> Iterable[str]:
    intermediates = {name: row for name, row in sorted(issuers.items()) if row.kind == INTERMEDIATE}
    for name in settings.OCSP_SIGNERS.keys() - {"*"} - intermediates.keys():
        yield f"QUICKLIME_OCSP_SIGNER names {name}, which is no intermediate here; there are: {', '.join(intermediates)}"
    for name in delegating(intermediates) if settings.ROLE != "web" else ():
        if fault := ocsp_key_fault(name, now):
            yield fault


def delegating(intermediates: Iterable[str]) -> list[str]:
    """Those of the intermediates whose responses the settings have signed by a key of their own, and whose own key is here."""
    return [name for name in intermediates if keys.delegates(name) and keys.path_of(name).exists()]


def ocsp_key_fault(issuer: str, now: datetime) -> str | None:
    """Why the key here that signs OCSP responses in the issuer's name is not the one it should be; None if it is, or if none
    is certified yet. A key that was lost is not made again before its certificate is revoked: it may have been stolen."""
    certified = ocsp_keys(issuer, now)
    if not certified and not keys.ocsp_path_of(issuer).exists():
        return None
    way_out = f"; if it is lost, revoke {', '.join(sorted(certified.values()))} as compromised, and another is made" if certified else ""
    try:
        own = keys.ocsp_signer(issuer).spki_sha256
    except keys.KeyFault as fault:
        return f"{fault}{way_out}"
    if certified and own not in certified:
        return f"{keys.ocsp_path_of(issuer)} is not the key that {issuer} certified to sign its OCSP responses: restore that{way_out}"
    return None


def ocsp_keys(issuer: str, now: datetime) -> dict[bytes, str]:
    """The keys that may sign OCSP responses in the issuer's name now: SHA-256 of the DER SubjectPublicKeyInfo → serial of the
    newest certificate. Neither revoked nor blocked ones."""
    rows = Certificate.objects.filter(owner=SELF, issuer=issuer, profile=OCSP_SIGNER, revoked_at=None, not_after__gt=now)
    found = {bytes(spki): serial for spki, serial in rows.order_by("log_position").values_list("spki_sha256", "serial")}
    blocked = BlockedKey.objects.filter(spki_sha256__in=list(found)).values_list("spki_sha256", flat=True)
    return {spki: serial for spki, serial in found.items() if spki not in {bytes(each) for each in blocked}}


def _shared_key_faults() -> Iterable[str]:
    try:
        keys.revocation_key()
        if settings.ROLE != "web":
            yield from _log_key_faults()
    except keys.KeyFault as error:
        yield str(error)


def _log_key_faults() -> Iterable[str]:
    newest = checkpoints.latest()
    own = notes.vkey_of(keys.log_signer())
    if newest and newest.vkey != own:
        yield f"the log's checkpoints are signed by {newest.vkey}, but the key here is {own}: restore the key, or QUICKLIME_LOG_ORIGIN"
