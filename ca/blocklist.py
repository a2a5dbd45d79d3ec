"""Public keys that no certificate is issued for again. Owns the one way to add one; nothing removes one."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from eventlog.append import append

from .events import KeyBlocked


def block(spki_sha256: bytes, code: str, now: datetime, by: str) -> None:
    """Append key.blocked. `spki_sha256`: 32 bytes, over the DER SubjectPublicKeyInfo; `code`: why, e.g. keyCompromise."""
    with transaction.atomic():
        append([KeyBlocked(spki_sha256=spki_sha256.hex(), code=code, by=by).new()], now)
