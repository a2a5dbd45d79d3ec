"""The tables of dashboard.

Watched and Flag, and Generation, are projections of the log and hold nothing that replay cannot rebuild; only `dashboard.watching`
and `dashboard.lineage` write them. No foreign keys: rows refer by serial.
"""

from __future__ import annotations

from django.db import models


class Watched(models.Model):
    """The certificate that a line depends on: the newest one of its owner, profile, service, node and names."""

    line = models.BinaryField(max_length=32, primary_key=True)  # SHA-256 of what a line has in common
    serial = models.CharField(max_length=40, unique=True)
    profile = models.CharField(max_length=32)
    not_before = models.DateTimeField()
    not_after = models.DateTimeField()
    reached = models.CharField(max_length=16, blank=True)  # the threshold that it was flagged for last; "": none
    next_at = models.DateTimeField(null=True, db_index=True)  # when it reaches the next; None: there is none


class Flag(models.Model):
    """A certificate was flagged for a threshold. Never twice."""

    pk = models.CompositePrimaryKey("serial", "threshold")
    serial = models.CharField(max_length=40)
    threshold = models.CharField(max_length=16)
    at = models.DateTimeField()


class Generation(models.Model):
    """One certificate of a service in the line that it belongs to."""

    serial = models.CharField(max_length=40, primary_key=True)
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
            models.Index(fields=["service", "node"], name="dashboard_generation_now", condition=models.Q(superseded_at=None)),
            models.Index(fields=["owner", "service"], name="dashboard_generation_owner", condition=models.Q(superseded_at=None)),
            models.Index(fields=["renew_by"], name="dashboard_generation_due", condition=models.Q(superseded_at=None, revoked_at=None)),
        ]
