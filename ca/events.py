"""The facts that ca writes into the log, as frozen dataclasses in the past tense.

Owns the names, versions and fields of ca's events; the JSON Schema of each version lies in ca/schemas/. Must never hold
a secret: hashes of secrets only. A field is added by a new ADDITION version, never by changing one that was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from eventlog.append import NewEvent


@dataclass(frozen=True)
class Event:
    """Base of all: `schema` is "quicklime/<type>/<MODEL-REVISION-ADDITION>"; `subject()` is what the log is searched by."""

    schema: ClassVar[str]

    def subject(self) -> str:
        raise NotImplementedError

    def new(self) -> NewEvent:
        """The event as eventlog takes it."""
        return NewEvent(schema=self.schema, subject=self.subject(), data=dict(vars(self)))


@dataclass(frozen=True)
class IssuerAdded(Event):
    """A root or intermediate certificate became part of the hierarchy. `certificate` is base64 DER, `parent` the
    issuing issuer's name or None for a root, `key_id` the hex subject key identifier."""

    schema: ClassVar[str] = "quicklime/issuer.added/1-0-0"
    name: str
    kind: str  # "root" or "intermediate"
    parent: str | None
    key_id: str
    certificate: str

    def subject(self) -> str:
        return self.name


@dataclass(frozen=True)
class IssuerActivated(Event):
    """From here on `issuer` signs certificates of `profile`."""

    schema: ClassVar[str] = "quicklime/issuer.activated/1-0-0"
    issuer: str
    profile: str

    def subject(self) -> str:
        return self.issuer


@dataclass(frozen=True)
class TokenCreated(Event):
    """An API token exists. `hash` is the hex SHA-256 of the token; lists are scopes, see ca.models.Token.
    `expires_at` RFC 3339 UTC or None; `approval` whether what it asks for waits for an approver, of ca.policy.APPROVALS; `by` who
    made it."""

    schema: ClassVar[str] = "quicklime/token.created/1-0-1"
    token: str
    hash: str
    label: str
    owner: str
    actions: list[str]
    names: list[str]
    profiles: list[str]
    services: list[str]
    wildcards: bool
    uris: list[str]
    ips: list[str]
    expires_at: str | None
    approval: str
    by: str

    def subject(self) -> str:
        return self.token


@dataclass(frozen=True)
class TokenRevoked(Event):
    schema: ClassVar[str] = "quicklime/token.revoked/1-0-0"
    token: str
    by: str
    why: str

    def subject(self) -> str:
        return self.token


@dataclass(frozen=True)
class IssuanceIntended(Event):
    """`issuer` will sign exactly the to-be-signed bytes whose SHA-256 is `tbs_sha256` (hex). Committed before any
    signature: a certificate found outside without this event was not made by the pipeline."""

    schema: ClassVar[str] = "quicklime/issuance.intended/1-0-0"
    serial: str
    issuer: str
    request: str
    token: str
    owner: str
    profile: str
    names: list[str]
    tbs_sha256: str
    spki_sha256: str

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class IssuanceOrphaned(Event):
    """An intent that ends without a certificate in the inventory: its token was revoked, or its signature could not be
    recorded. Its serial is never good."""

    schema: ClassVar[str] = "quicklime/issuance.orphaned/1-0-0"
    serial: str
    issuer: str
    request: str
    code: str

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class CertificateIssued(Event):
    """A certificate exists and may be fetched. `certificate` base64 DER; `names` as in the SAN, prefixed dns:, ip: or
    uri:; hashes are hex SHA-256; `renewal_challenge` base64 of 32 public random bytes; `replaces` a serial or None;
    `crl_shard` the sharded CRL that its distribution point names, or None; `challenge_password_hash` what
    ca.challenges.password_hash makes of the CSR's challengePassword, or None; `renew_by` when at the latest its successor was to be
    expected, as ca.profiles.renew_by had it then."""

    schema: ClassVar[str] = "quicklime/certificate.issued/1-0-2"
    serial: str
    issuer: str
    request: str
    token: str
    owner: str
    profile: str
    service: str
    node: str
    names: list[str]
    not_before: str
    not_after: str
    key_type: str
    spki_sha256: str
    certificate: str
    renewal_challenge: str
    revocation_secret_hash: str
    replaces: str | None
    crl_shard: int | None
    challenge_password_hash: str | None
    renew_by: str

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class CertificateRevoked(Event):
    """The certificate, or a serial that was signed and never recorded, is not to be trusted from the event's time on.
    `reason` a name of RFC 5280 §5.3.1; `way` how the caller was authorised, see ca.pki.reasons; `by` the token's id or the
    operator's name, "" where the holder named nobody; `order` the mass revocation or replacement that it belongs to, or None."""

    schema: ClassVar[str] = "quicklime/certificate.revoked/1-0-0"
    serial: str
    issuer: str
    reason: str
    way: str
    by: str
    order: str | None

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class RevocationEscalated(Event):
    """A certificate revoked for a weaker reason turns out to have a compromised key. When it was revoked stays."""

    schema: ClassVar[str] = "quicklime/revocation.escalated/1-0-0"
    serial: str
    issuer: str
    reason: str
    way: str
    by: str
    order: str | None

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class RevocationOrdered(Event):
    """Every certificate that `selection` meets (see ca.selections.Selection) and that was issued before this event
    is to be revoked; there were `selected` of them. `order` 16 hex digits."""

    schema: ClassVar[str] = "quicklime/revocation.ordered/1-0-0"
    order: str
    selection: dict[str, str | list[str]]
    selected: int
    reason: str
    way: str
    why: str
    by: str

    def subject(self) -> str:
        return self.order


@dataclass(frozen=True)
class RevocationCompleted(Event):
    """The order is carried out: how many certificates were revoked under it, and how many had only their reason changed."""

    schema: ClassVar[str] = "quicklime/revocation.completed/1-0-0"
    order: str
    revoked: int
    escalated: int
    by: str

    def subject(self) -> str:
        return self.order


@dataclass(frozen=True)
class ReplacementOrdered(Event):
    """Every certificate that `selection` meets (see ca.selections.Selection) and that was issued before this event is to be renewed
    before `deadline`, RFC 3339 UTC, with another key if `new_key`; there were `selected` of them. What was renewed, and at the deadline
    what was not, is revoked for `reason`. `order` 16 hex digits."""

    schema: ClassVar[str] = "quicklime/replacement.ordered/1-0-0"
    order: str
    selection: dict[str, str | list[str]]
    selected: int
    deadline: str
    new_key: bool
    reason: str
    why: str
    by: str

    def subject(self) -> str:
        return self.order


@dataclass(frozen=True)
class ReplacementMarked(Event):
    """These certificates are to be replaced under the order. Of those that it selects, all that were issued up to the log position
    `upto` are marked now."""

    schema: ClassVar[str] = "quicklime/replacement.marked/1-0-0"
    order: str
    serials: list[str]
    upto: int

    def subject(self) -> str:
        return self.order


@dataclass(frozen=True)
class ReplacementCompleted(Event):
    """None of the certificates that were marked under the order is trusted any more: how many these were, how many of them were
    renewed, and how many were not."""

    schema: ClassVar[str] = "quicklime/replacement.completed/1-0-0"
    order: str
    marked: int
    replaced: int
    left: int

    def subject(self) -> str:
        return self.order


@dataclass(frozen=True)
class RequestRejected(Event):
    """An accepted request ended without a certificate; `code`, `detail`, `where` as in ca.errors.Problem."""

    schema: ClassVar[str] = "quicklime/request.rejected/1-0-0"
    request: str
    token: str
    owner: str
    code: str
    detail: str
    where: str

    def subject(self) -> str:
        return self.request


@dataclass(frozen=True)
class ApprovalRequested(Event):
    """A request that keeps every rule waits for an approver until `decide_by`, RFC 3339 UTC. `asked` is the hex SHA-256 of all that was
    asked for (ca.approvals.digest), `cause` "profile" or "token": which of them wants it. `names` as in certificate.issued."""

    schema: ClassVar[str] = "quicklime/approval.requested/1-0-0"
    request: str
    asked: str
    cause: str
    token: str
    owner: str
    profile: str
    service: str
    node: str
    names: list[str]
    spki_sha256: str
    replaces: str | None
    decide_by: str

    def subject(self) -> str:
        return self.request


@dataclass(frozen=True)
class ApprovalGranted(Event):
    """`by`, who is not the requester, approved exactly what `asked` is the hash of."""

    schema: ClassVar[str] = "quicklime/approval.granted/1-0-0"
    request: str
    asked: str
    by: str
    why: str

    def subject(self) -> str:
        return self.request


@dataclass(frozen=True)
class ApprovalRefused(Event):
    """`by`, who is not the requester, refused it; the request is rejected in the same commit."""

    schema: ClassVar[str] = "quicklime/approval.refused/1-0-0"
    request: str
    asked: str
    by: str
    why: str

    def subject(self) -> str:
        return self.request


@dataclass(frozen=True)
class KeyBlocked(Event):
    """No certificate is issued for this public key again. `spki_sha256` hex; `code` says why, e.g. keyCompromise."""

    schema: ClassVar[str] = "quicklime/key.blocked/1-0-0"
    spki_sha256: str
    code: str
    by: str

    def subject(self) -> str:
        return self.spki_sha256
