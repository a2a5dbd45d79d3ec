"""The tables of ocsp.

Issuer, Responder and Status are a projection of the log, written by `ocsp.projections` only. Response, Crl and Feed are caches
of signed bytes: emptied, they are made again. Nothing here is a truth, and no foreign keys: rows refer by issuer name or serial.
"""

from __future__ import annotations

from django.db import models


class State(models.TextChoices):
    """What the log says of a serial. Only `issued` may ever be good; `revoked` is final."""

    INTENDED = "intended"
    ORPHANED = "orphaned"
    ISSUED = "issued"
    REVOKED = "revoked"


class Issuer(models.Model):
    """A CA certificate, as far as status needs it."""

    name = models.CharField(max_length=64, primary_key=True)
    kind = models.CharField(max_length=12)  # root or intermediate
    key_id = models.BinaryField(max_length=20)
    certificate = models.BinaryField()
    position = models.BigIntegerField()


class Responder(models.Model):
    """A certificate of profile ocsp-signer: `issuer` delegated the signing of its responses to this key."""

    serial = models.CharField(max_length=40, primary_key=True)
    issuer = models.CharField(max_length=64)
    certificate = models.BinaryField()
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    position = models.BigIntegerField()


class Status(models.Model):
    """Where each serial stands, from its intent on."""

    serial = models.CharField(max_length=40, primary_key=True)  # lower-case hex, 40 digits
    issuer = models.CharField(max_length=64)
    state = models.CharField(max_length=8, choices=State.choices)
    profile = models.CharField(max_length=32)
    not_after = models.DateTimeField(null=True)  # of the certificate; None while there is none
    channels = models.CharField(max_length=16)  # where the certificate points to for its status: "", "ocsp", "crl" or "ocsp crl"
    crl_shard = models.IntegerField(null=True)  # None: no sharded CRL lists it
    revoked_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=24, null=True)
    position = models.BigIntegerField()  # of the newest event about it

    class Meta:
        indexes = [
            models.Index(fields=["issuer", "position"], name="ocsp_status_revoked", condition=models.Q(state=State.REVOKED)),
        ]


class Response(models.Model):
    """The ready answers about one serial, DER OCSPResponse, for a CertID made with SHA-1 and one made with SHA-256.

    Two empty answers mean: withdrawn, say tryLater. Every write takes the Feed row's lock and its next revision, so that
    a reader who has seen revision n has seen every commit up to n. A revoked answer is never replaced by one that is not.
    """

    serial = models.CharField(max_length=40, primary_key=True)
    issuer = models.CharField(max_length=64)
    revoked = models.BooleanField()
    this_update = models.DateTimeField()
    next_update = models.DateTimeField()
    refresh_at = models.DateTimeField()  # when pre-signing makes the next ones: before half of the time has passed
    sha1 = models.BinaryField()
    sha256 = models.BinaryField()
    revision = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["revision"], name="ocsp_response_revision"),
            models.Index(fields=["refresh_at"], name="ocsp_response_refresh"),
            models.Index(fields=["this_update"], name="ocsp_response_this_update"),
        ]


class Feed(models.Model):
    """One row (id 1): the newest revision of Response. Locked by whoever writes responses, until the commit."""

    id = models.SmallIntegerField(primary_key=True)
    revision = models.BigIntegerField()


class Crl(models.Model):
    """The newest CRL of one scope: `shard` -1 is the full CRL of the issuer."""

    issuer = models.CharField(max_length=64)
    shard = models.IntegerField()
    number = models.BigIntegerField()
    this_update = models.DateTimeField()
    next_update = models.DateTimeField()
    position = models.BigIntegerField()  # the log's size that it reflects
    der = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "shard"], name="ocsp_crl_scope")]


class Lease(models.Model):
    """Who does a periodic work now: `until` has not passed while somebody does, so that a second beat starts nothing."""

    name = models.CharField(max_length=32, primary_key=True)
    until = models.DateTimeField()
