"""The tables of ca.

Request is the queue of truth: what was accepted, and how far the pipeline came. CheckIn is what nodes say, Shape a cache. The
others (Issuer, Activation, Token, Intent, Certificate, CertificateName, BlockedKey, Replacement, Approval) are a projection of the log and
hold nothing that replay cannot rebuild; only `ca.projections` writes them. No foreign keys: rows refer by serial, request id,
token id or issuer name.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models.functions import Coalesce

from .policy import APPROVALS, Grant


class State(models.TextChoices):
    """Where a request stands. Later states need the earlier ones; issued and rejected end it."""

    RECEIVED = "received"
    AWAITING = "awaiting_approval"  # every rule is kept, and a person is to decide; then RECEIVED again, or REJECTED
    VALIDATED = "validated"
    SIGNED = "signed"
    CHALLENGED = "challenged"
    ISSUED = "issued"
    REJECTED = "rejected"


UNFINISHED = (State.RECEIVED, State.VALIDATED, State.SIGNED, State.CHALLENGED)


class RequestQuerySet(models.QuerySet["Request"]):
    """The glossary of the pipeline's rows."""

    def stuck(self, before: datetime) -> RequestQuerySet:
        """Unfinished, and untouched since `before`."""
        return self.filter(state__in=UNFINISHED, updated_at__lt=before)

    def with_since(self) -> RequestQuerySet:
        """Each with `since`, when it was accepted, or approved: what an approver took to decide is no delay."""
        decided = Approval.objects.filter(request=models.OuterRef("id")).values("decided_at")
        return self.annotate(since=Coalesce(models.Subquery(decided), "created_at"))


class Request(models.Model):
    """One accepted signing request. `id` is time-ordered (UUID version 7), so id order is arrival order."""

    id = models.UUIDField(primary_key=True)
    state = models.CharField(max_length=20, choices=State.choices, default=State.RECEIVED)
    token = models.CharField(max_length=32)
    owner = models.CharField(max_length=200)
    profile = models.CharField(max_length=32)
    service = models.CharField(max_length=100, blank=True)
    node = models.CharField(max_length=100, blank=True)
    csr = models.BinaryField()  # the bytes of a challengePassword in it are overwritten
    challenge_password_hash = models.BinaryField(max_length=32, null=True)  # None: there was none, or a weak one
    not_after = models.DateTimeField(null=True)  # as asked; None: the profile's default from the moment of validation
    # of a renewal, else None: what it replaces, by which right, and whether the names must stay as they were
    replaces = models.CharField(max_length=40, null=True)
    renewal_proof = models.BinaryField(null=True)
    csr_sha256 = models.BinaryField(max_length=32, null=True)  # as the proof covers it, where `csr` was changed since
    names_as_before = models.BooleanField(null=True)
    idempotency_key = models.CharField(max_length=200, null=True)
    body_hash = models.BinaryField(max_length=32)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    decide_by = models.DateTimeField(null=True)  # while it awaits approval: when that ends by itself
    # set by validate
    batch = models.UUIDField(null=True)
    serial = models.CharField(max_length=40, null=True)
    issuer = models.CharField(max_length=64, null=True)
    tbs = models.BinaryField(null=True)
    fixed = models.JSONField(null=True)  # {"names", "not_before", "not_after", "key_type", "spki_sha256", "crl_shard"}, as logged
    # set by sign
    signature = models.BinaryField(null=True)
    # set by challenge
    renewal_challenge = models.BinaryField(null=True)
    # set when rejected: {"code", "detail", "where"}
    error = models.JSONField(null=True)

    objects = RequestQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token", "idempotency_key"], name="ca_request_idempotent"),
            models.UniqueConstraint(  # one renewal of a certificate; a rejected one makes room for another try
                fields=["replaces"], condition=models.Q(replaces__isnull=False) & ~models.Q(state=State.REJECTED), name="ca_request_renewal"
            ),
        ]
        indexes = [
            models.Index(fields=["state", "id"], name="ca_request_unfinished", condition=models.Q(state__in=UNFINISHED)),
            models.Index(fields=["batch"], name="ca_request_batch", condition=models.Q(state__in=UNFINISHED)),
            models.Index(fields=["id"], name="ca_request_awaiting", condition=models.Q(state=State.AWAITING)),
        ]

    def __str__(self) -> str:
        return f"{self.id}"


class Issuer(models.Model):
    """A root or intermediate certificate of the hierarchy."""

    name = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=12)  # root or intermediate
    parent = models.CharField(max_length=64, null=True)
    key_id = models.BinaryField(max_length=20)
    certificate = models.BinaryField()
    fingerprint = models.CharField(max_length=64, unique=True)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    position = models.BigIntegerField()

    def __str__(self) -> str:
        return self.name


class Activation(models.Model):
    """Which issuer signs a profile now; the newest event wins."""

    profile = models.CharField(max_length=32, primary_key=True)
    issuer = models.CharField(max_length=64)
    position = models.BigIntegerField()


class Token(models.Model):
    """An API token: who it speaks for and what it may do. The token itself is not stored, its SHA-256 is."""

    id = models.CharField(max_length=32, primary_key=True)
    hash = models.BinaryField(max_length=32, unique=True)
    label = models.CharField(max_length=100)
    owner = models.CharField(max_length=200)
    actions = models.JSONField()  # of ca.policy.ACTIONS
    names = models.JSONField()  # zones below which it may name hosts; "*": every zone of the CA
    profiles = models.JSONField()  # profile names; "*": every leaf profile
    services = models.JSONField()  # service names; "*": any
    wildcards = models.BooleanField()
    uris = models.JSONField()  # prefixes of spiffe:// URIs
    ips = models.JSONField()  # IP ranges within the CA's; "*": all of them
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    approval = models.CharField(max_length=10, choices=[(each, each) for each in APPROVALS])
    created_by = models.CharField(max_length=200)
    position = models.BigIntegerField()

    def __str__(self) -> str:
        return self.label

    def is_live(self, now: datetime) -> bool:
        """Neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def grant(self) -> Grant:
        """What policy decides by."""
        return Grant(
            token=self.id, owner=self.owner, actions=tuple(self.actions), names=tuple(self.names), profiles=tuple(self.profiles),
            services=tuple(self.services), wildcards=self.wildcards, uris=tuple(self.uris), ips=tuple(self.ips),
            expires_at=self.expires_at, revoked_at=self.revoked_at, approval=self.approval,
        )  # fmt: skip


class Intent(models.Model):
    """A serial that a CA key may have signed, from the moment before it could. Holds (issuer, serial) for ever."""

    serial = models.CharField(max_length=40, primary_key=True)
    issuer = models.CharField(max_length=64)
    request = models.UUIDField()
    tbs_sha256 = models.BinaryField(max_length=32)
    position = models.BigIntegerField()


class Certificate(models.Model):
    """The inventory: one row for each issued certificate."""

    serial = models.CharField(max_length=40, primary_key=True)
    issuer = models.CharField(max_length=64)
    request = models.UUIDField(unique=True)
    token = models.CharField(max_length=32)
    owner = models.CharField(max_length=200)
    profile = models.CharField(max_length=32)
    service = models.CharField(max_length=100)
    node = models.CharField(max_length=100)
    names = models.JSONField()
    not_before = models.DateTimeField()
    not_after = models.DateTimeField(db_index=True)
    key_type = models.CharField(max_length=16)
    spki_sha256 = models.BinaryField(max_length=32)
    fingerprint = models.CharField(max_length=64)
    der = models.BinaryField()
    renewal_challenge = models.BinaryField(max_length=32)
    revocation_secret_hash = models.BinaryField(max_length=32)
    challenge_password_hash = models.BinaryField(max_length=32, null=True)
    replaces = models.CharField(max_length=40, null=True)
    replaced_by = models.CharField(max_length=40, null=True)
    revoked_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=24, null=True)
    # of one that is to be replaced, else None: under which order, until when, and whether its key must not be used again
    replacement = models.CharField(max_length=16, null=True)
    replace_by = models.DateTimeField(null=True)
    replace_key = models.BooleanField(null=True)
    log_position = models.BigIntegerField(unique=True)

    class Meta:
        indexes = [
            models.Index(fields=["replacement"], name="ca_certificate_replacement", condition=models.Q(replacement__isnull=False)),
            models.Index(fields=["owner", "-log_position"], name="ca_certificate_owner"),
            models.Index(fields=["service", "node", "-log_position"], name="ca_certificate_service"),
            models.Index(fields=["service", "-log_position"], name="ca_certificate_svc_newest"),
            models.Index(fields=["spki_sha256"], name="ca_certificate_key"),
            models.Index(fields=["fingerprint"], opclasses=["varchar_pattern_ops"], name="ca_certificate_fingerprint"),  # by prefix
        ]

    def __str__(self) -> str:
        return self.names[0] if self.names else self.serial


class CertificateName(models.Model):
    """One row per name of a certificate, so that a search by name is an index look-up."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=2048)  # a SPIFFE ID has up to 2048 bytes
    serial = models.CharField(max_length=40)
    log_position = models.BigIntegerField()

    class Meta:
        indexes = [  # the operator class serves look-up by prefix, whatever the database's collation, as well as by equality
            models.Index(fields=["name", "-log_position"], opclasses=["varchar_pattern_ops", "int8_ops"], name="ca_name_position")
        ]


class BlockedKey(models.Model):
    """A public key that is never certified again: revoked for compromise."""

    spki_sha256 = models.BinaryField(max_length=32, primary_key=True)
    code = models.CharField(max_length=32)
    position = models.BigIntegerField()


class Replacement(models.Model):
    """An order to replace certificates. `marked_to`: up to which log position those that it selects are marked."""

    order = models.CharField(max_length=16, primary_key=True)
    selection = models.JSONField()  # ca.selections.Selection.as_data
    selected = models.IntegerField()
    deadline = models.DateTimeField()
    new_key = models.BooleanField()
    reason = models.CharField(max_length=24)
    why = models.TextField()
    by = models.CharField(max_length=200)
    ordered_at = models.DateTimeField()
    position = models.BigIntegerField()
    marked_to = models.BigIntegerField()
    completed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.order


class Approval(models.Model):
    """What became of a request that needs an approver's word: `granted` None while there is none. `asked` is what was decided about,
    see ca.approvals.digest."""

    request = models.UUIDField(primary_key=True)
    asked = models.BinaryField(max_length=32)
    cause = models.CharField(max_length=8)
    granted = models.BooleanField(null=True)
    by = models.CharField(max_length=200)
    why = models.TextField()
    decided_at = models.DateTimeField(null=True)
    position = models.BigIntegerField()  # of approval.requested

    def __str__(self) -> str:
        return f"{self.request}"


class CheckIn(models.Model):
    """What the holder of a certificate's key last said is served in its place. Neither in the log nor made from it: only
    `ca.checkins` writes it, and what is lost is said again within the hour."""

    serial = models.CharField(max_length=40, primary_key=True)
    said_at = models.DateTimeField()  # by the node's clock
    seen_at = models.DateTimeField()  # by ours
    served = models.CharField(max_length=40)  # 40 hex digits, "none" for no certificate, "" where nobody looked


class Shape(models.Model):
    """pkilint's remembered verdict on one shape of certificate. A cache: emptied, it is made again."""

    key = models.CharField(max_length=64, primary_key=True)  # SHA-256 of what defines the shape
    description = models.CharField(max_length=300)
    passed = models.BooleanField()
    findings = models.JSONField(default=list)
    at = models.DateTimeField()


def new_request_id(milliseconds: int, random: bytes) -> uuid.UUID:
    """UUID version 7 (RFC 9562 §5.7): 48 bits of Unix milliseconds, then 74 of the ten `random` bytes."""
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(random[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)
