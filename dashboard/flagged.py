"""A certificate that is flagged, as ca's own table knows it at that moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from ca.models import Certificate
from eventlog.bulk import among, read_rows


class Flagged(NamedTuple):
    """A certificate and the threshold it is flagged for."""

    serial: str
    threshold: str
    token: str
    owner: str
    profile: str
    service: str
    node: str
    not_after: datetime


def unreplaced(thresholds: Mapping[str, str]) -> list[Flagged]:
    """Of the certificates in `thresholds` (serial → threshold) those that were neither replaced nor revoked, in the order of their
    serials."""
    if not thresholds:
        return []
    columns = ("serial", "token", "owner", "profile", "service", "node", "not_after")
    condition, parameters = among("serial", thresholds)
    rows = read_rows(Certificate, columns, f"WHERE {condition} AND revoked_at IS NULL AND replaced_by IS NULL", parameters)
    return sorted(Flagged(row[0], thresholds[row[0]], *row[1:]) for row in rows)
