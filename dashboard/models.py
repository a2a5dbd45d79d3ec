"""The tables of dashboard.

Watched, Flag and Ending, Generation, and Activity, are projections of the log and hold nothing that replay cannot rebuild; only
`dashboard.watching`, `dashboard.lineage` and `dashboard.activity` write them. The others are what operators and recipients want,
what was said to whom, and who speaks for which owner: personal data, which is in no event but by an account's name. No foreign keys
but to accounts: rows refer by serial.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import models


class Watched(models.Model):
    """The certificate that a line depends on: the newest one of its owner, profile, service, node and names."""

    line = models.BinaryField(max_length=32, primary_key=True)  # SHA-256 of what a line has in common
    serial = models.CharField(max_length=40)
    profile = models.CharField(max_length=32)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField(db_index=True)
    reached = models.CharField(max_length=16, blank=True)  # the threshold that it was flagged for last; "": none
    next_at = models.DateTimeField(null=True, db_index=True)  # when it reaches the next; None: there is none

    class Meta:
        constraints = [  # on PostgreSQL a field that says unique has a second index, for LIKE
            models.UniqueConstraint(fields=["serial"], name="dashboard_watched_serial")
        ]


class Flag(models.Model):
    """A certificate was flagged for a threshold. Never twice."""

    pk = models.CompositePrimaryKey("serial", "threshold")
    serial = models.CharField(max_length=40)
    threshold = models.CharField(max_length=16)
    at = models.DateTimeField()


# A certificate that is late, or was until it was replaced or revoked: what a question about any time, the past too, looks among.
LATE_ONCE = (models.Q(superseded_at=None) | models.Q(superseded_at__gt=models.F("renew_by"))) & (
    models.Q(revoked_at=None) | models.Q(revoked_at__gt=models.F("renew_by"))
)


class Generation(models.Model):
    """One certificate of a service in the line that it belongs to."""

    serial = models.CharField(max_length=40, primary_key=True)  # migration 0010 drops its second index, for LIKE
    line = models.CharField(max_length=40)  # the serial of the line's first certificate
    number = models.IntegerField()  # 1 for the first of its line
    place = models.BinaryField(max_length=32)  # what it is for: see dashboard.watching.line_of
    service = models.CharField(max_length=100)
    node = models.CharField(max_length=100)
    owner = models.CharField(max_length=200)
    profile = models.CharField(max_length=32)
    names = models.JSONField()
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    renew_by = models.DateTimeField()
    issued_at = models.DateTimeField()
    superseded_by = models.CharField(max_length=40, null=True)
    superseded_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [  # a place has one current certificate
            models.UniqueConstraint(fields=["place"], condition=models.Q(superseded_at=None), name="dashboard_generation_current")
        ]
        indexes = [
            models.Index(fields=["line", "number"], name="dashboard_generation_line"),
            models.Index(fields=["service", "node"], name="dashboard_generation_node"),  # of any time
            models.Index(fields=["service", "node", "serial"], name="dashboard_generation_now", condition=models.Q(superseded_at=None)),
            models.Index(fields=["owner", "service"], name="dashboard_generation_owner", condition=models.Q(superseded_at=None)),
            models.Index(fields=["renew_by"], name="dashboard_generation_late", condition=LATE_ONCE),
        ]


class Ending(models.Model):
    """How many of Watched end on a day, so that a chart of the days to come counts nothing."""

    day = models.DateField(primary_key=True)  # UTC
    count = models.BigIntegerField()


class Activity(models.Model):
    """How many events of a type were logged in an hour."""

    pk = models.CompositePrimaryKey("hour", "type")
    hour = models.DateTimeField()  # its first moment, UTC
    type = models.CharField(max_length=64)
    count = models.BigIntegerField()


class Scope(models.TextChoices):
    """What contacts are set for, the most telling first."""

    SERVICE = "service"
    TOKEN = "token"  # noqa: S105 (the kind of a contact)
    OWNER = "owner"
    DEFAULT = "default"


class Contact(models.Model):
    """An address that is told about the certificates of a service, a token (by id) or an owner, or of whoever has no other."""

    scope = models.CharField(max_length=7, choices=Scope.choices)
    name = models.CharField(max_length=200, blank=True)  # "" for the default
    address = models.CharField(max_length=254)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "name", "address"], name="dashboard_contact_once")]

    def __str__(self) -> str:
        return f"{self.scope} {self.name}".strip()


class State(models.TextChoices):
    """How far a reminder is. `handed` may have been delivered, and is never tried again by mail; `sent` surely was."""

    DUE = "due"
    CLAIMED = "claimed"
    HANDED = "handed"
    SENT = "sent"


class Reminder(models.Model):
    """Somebody is to be told about a certificate at a threshold. Never twice."""

    serial = models.CharField(max_length=40)
    threshold = models.CharField(max_length=16)
    recipient = models.CharField(max_length=254)  # an address, or dashboard.webhook.RECIPIENT
    recipient_hash = models.CharField(max_length=64)  # see dashboard.contacts.hash_of
    state = models.CharField(max_length=7, choices=State.choices, default=State.DUE)
    due_at = models.DateTimeField()
    tries = models.SmallIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=60, blank=True)  # why the last try failed
    message = models.CharField(max_length=32, blank=True)  # id of the message that it was last put into

    class Meta:
        constraints = [models.UniqueConstraint(fields=["serial", "threshold", "recipient_hash"], name="dashboard_reminder_once")]
        indexes = [
            models.Index(fields=["recipient_hash", "due_at"], name="dashboard_reminder_unsent", condition=~models.Q(state=State.SENT)),
            models.Index(fields=["message"], name="dashboard_reminder_message"),
        ]

    def __str__(self) -> str:
        return f"{self.serial}, {self.threshold}"


class Snooze(models.Model):
    """A recipient does not want to hear of a certificate before `until`; None: never again."""

    pk = models.CompositePrimaryKey("serial", "recipient_hash")
    serial = models.CharField(max_length=40)
    recipient_hash = models.CharField(max_length=64)
    until = models.DateTimeField(null=True)


class Unsubscribed(models.Model):
    """A recipient does not want to hear of any certificate."""

    recipient_hash = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()


class Notice(models.Model):
    """An approver is to be told of a request, for as long as that waits. `due_at` None: it was."""

    request = models.UUIDField()
    recipient = models.CharField(max_length=254)  # an address, or dashboard.webhook.RECIPIENT
    recipient_hash = models.CharField(max_length=64)
    due_at = models.DateTimeField(null=True)
    tries = models.SmallIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["request", "recipient_hash"], name="dashboard_notice_once")]


class Identity(models.Model):
    """An account is this subject of an identity provider (OpenID Connect Core §5.7) or directory. Only `dashboard.vouched` writes it."""

    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=255)
    user = models.OneToOneField(User, on_delete=models.CASCADE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="dashboard_identity_once")]


class Ownership(models.Model):
    """An account speaks for an owner: what is that owner's, it may see and may not approve. Only `dashboard.accounts` writes it."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    owner = models.CharField(max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "owner"], name="dashboard_ownership_once")]
