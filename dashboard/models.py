"""The tables of dashboard.

Watched and Flag are a projection of the log and hold nothing that replay cannot rebuild; only `dashboard.watching` writes
them. No foreign keys: rows refer by serial.
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
