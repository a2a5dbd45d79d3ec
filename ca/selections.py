"""Which certificates an operator means, when he means many.

Owns the criteria and their form in an event. Must never decide what becomes of the certificates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from .models import Certificate
from .profiles import PROFILES

MAX_SERIALS = 1_000  # that one order may name: an event has at most 65,535 bytes
_BACKDATE = max(profile.backdate for profile in PROFILES.values())
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Selection:
    """The certificates of which all holds that is said here; "" and None say nothing. `key` is the hex SHA-256 of the
    SubjectPublicKeyInfo, `serials` are 40 hex digits each and may be orphaned ones. The times are of notBefore, which may lie
    a minute before the certificate was made: `issued_after` allows for that and rather takes one too many. Serials stand
    alone. Raises ValueError for a selection of everything, or of more than MAX_SERIALS."""

    issuer: str = ""
    key: str = ""
    token: str = ""
    owner: str = ""
    service: str = ""
    node: str = ""
    profile: str = ""
    issued_after: datetime | None = None
    issued_before: datetime | None = None
    serials: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.as_data():
            raise ValueError("say which certificates; for all of them, name each issuer")
        if self.serials and len(self.as_data()) > 1:
            raise ValueError("serial numbers say enough: leave out the rest")
        if len(self.serials) > MAX_SERIALS:
            raise ValueError(f"at most {MAX_SERIALS} serial numbers at once")

    def certificates(self) -> QuerySet[Certificate]:
        """Those that are selected, whatever their status."""
        wanted: dict[str, Any] = {name: value for name in _COLUMNS if (value := getattr(self, name))}
        if self.key:
            wanted["spki_sha256"] = bytes.fromhex(self.key)
        if self.issued_after:
            wanted["not_before__gte"] = self.issued_after - _BACKDATE
        if self.issued_before:
            wanted["not_before__lt"] = self.issued_before
        if self.serials:
            wanted["serial__in"] = self.serials
        return Certificate.objects.filter(**wanted)

    def without_certificate(self) -> list[str]:
        """Those of `serials` that no certificate has."""
        known = set(Certificate.objects.filter(serial__in=self.serials).values_list("serial", flat=True))
        return [serial for serial in self.serials if serial not in known]

    def as_data(self) -> dict[str, str | list[str]]:
        """As an event holds it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Selection:
        """The selection that an event holds."""
        times: dict[str, Any] = {name: datetime.fromisoformat(data[name]) for name in ("issued_after", "issued_before") if name in data}
        return cls(**{**data, **times, "serials": tuple(data.get("serials", ()))})


_COLUMNS = ("issuer", "token", "owner", "service", "node", "profile")


def _plain(value: str | datetime | tuple[str, ...]) -> str | list[str]:
    if isinstance(value, datetime):
        return value.strftime(_TIME)
    return list(value) if isinstance(value, tuple) else value
