"""The chain of renewals that a certificate belongs to, oldest first.

Reads ca's rows by key, one statement however long the chain, and of it no more than MOST links each way.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ca.models import Certificate
from eventlog.bulk import read_rows

MOST = 50


class Generation(NamedTuple):
    """A certificate as a link of its chain."""

    serial: str
    not_before: datetime
    not_after: datetime
    replaces: str | None
    replaced_by: str | None
    revoked_at: datetime | None
    reason: str | None
    log_position: int

    @property
    def ends(self) -> datetime:
        """When it ended or will: at its revocation, if that came first."""
        return min(self.not_after, self.revoked_at) if self.revoked_at else self.not_after


_CHAIN = """WHERE serial IN (
  WITH RECURSIVE before(serial, previous, depth) AS (
    SELECT serial, replaces, 0 FROM ca_certificate WHERE serial = %s
    UNION ALL SELECT c.serial, c.replaces, depth + 1 FROM ca_certificate c JOIN before ON c.serial = before.previous WHERE depth < %s
  ), after(serial, next, depth) AS (
    SELECT serial, replaced_by, 0 FROM ca_certificate WHERE serial = %s
    UNION ALL SELECT c.serial, c.replaced_by, depth + 1 FROM ca_certificate c JOIN after ON c.serial = after.next WHERE depth < %s
  ) SELECT serial FROM before UNION SELECT serial FROM after
) ORDER BY log_position"""


def of(serial: str) -> list[Generation]:
    """The certificate, those it replaces and those that replaced it."""
    return [Generation._make(row) for row in read_rows(Certificate, Generation._fields, _CHAIN, [serial, MOST, serial, MOST])]
