"""CRLs: which an issuer has, when the next is due, what it lists.

Owns every write to Crl. An issuer has one full CRL and, where certificates point to parts of it, one for each shard. Must
never lose a revocation: an entry is left out only once a CRL that was issued after the certificate's end has listed it
(RFC 5280 §3.3), whatever was purged and wherever the clock was meanwhile. Signs in the worker only, with the issuer's key.

No lock is held while a list is built and signed. Of two workers that make the same one, the second finds the number taken
that it started from and drops what it signed; the dropped list was shown to nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple

from cryptography import x509
from django.conf import settings
from django.db.models import Max, Q, QuerySet
from django.db.models.functions import Length

from ca import keys
from ca.pki import crl, leaf
from ca.pki.leaf import IssuerFacts
from ca.pki.reasons import KEY_COMPROMISE
from eventlog import projections
from eventlog.models import Cursor

from . import feed
from .models import Crl, Issuer, State, Status

log = logging.getLogger(__name__)
FULL = -1
COALESCE = timedelta(seconds=30)  # between two CRLs of a scope, unless a key was compromised; with the beat's period under 60
_BYTES = 1_000_000  # in a second: with so much of it, even compromised keys take no more than a fifth of a worker's time
_BACKDATE = timedelta(seconds=60)  # so that a host whose clock is a little behind takes it at once
_SLICE = 0.1  # seconds


class _Authority(NamedTuple):
    """An issuer, and the shards that certificates are issued into now: none under a root, or without a URL."""

    facts: IssuerFacts
    shards: frozenset[int]


@dataclass(frozen=True)
class _Due:
    """A CRL to be made now. `before` is the newest one of its scope, if any."""

    issuer: IssuerFacts
    shard: int
    before: Crl | None
    urgent: bool = False


def publish_due(now: datetime) -> bool:
    """Make the CRLs that are due, those about compromised keys first, for about a tenth of a second. True if some are left.
    None is made while the projection cannot read on to the log's end: half of what the log says is worse than nothing."""
    try:
        projections.catch_up("ocsp", wait=False)
    except Exception:  # noted in the projection's row, where readiness looks; or another process reads on
        return False
    until = time.monotonic() + _SLICE
    left = sorted(_due(now), key=lambda due: not due.urgent)
    while left:
        _make(left.pop(0), now)
        if time.monotonic() > until:
            break
    return bool(left)


def overdue(now: datetime) -> list[Crl]:
    """The newest CRLs, without their bytes, of which three quarters of the time have passed although they could be renewed:
    nobody makes the next ones."""
    ends = {facts.name: facts.not_after for facts, _ in _unexpired(now)}
    return [row for row in _newest().filter(issuer__in=ends) if _is_past(row, 0.75, ends[row.issuer], now)]


def soonest(now: datetime) -> datetime | None:
    """The first nextUpdate of the CRLs of issuers that have not expired."""
    names = [facts.name for facts, _ in _unexpired(now)]
    return _newest().filter(issuer__in=names).order_by("next_update").values_list("next_update", flat=True).first()


# --- which are due


def _due(now: datetime) -> list[_Due]:
    return [due for authority in _unexpired(now) if keys.path_of(authority.facts.name).exists() for due in _due_of(authority, now)]


def _due_of(authority: _Authority, now: datetime) -> Iterable[_Due]:
    issuer = authority.facts
    rows = {row.shard: row for row in _newest().filter(issuer=issuer.name)}
    news = _News(issuer.name, rows.values())
    renewed = FULL not in rows or _is_past(rows[FULL], _moment(FULL), issuer.not_after, now)
    pointed_to = _pointed_to(issuer.name, now) if renewed else rows.keys()
    if renewed:
        _drop_drained(issuer.name, rows.keys() - {FULL} - authority.shards - pointed_to)
    for shard in {FULL, *(authority.shards | pointed_to if settings.CRL_URL else ())}:
        before = rows.get(shard)
        if before is None or _is_past(before, _moment(shard), issuer.not_after, now) or news.may_be_told(before, now):
            yield _Due(issuer, shard, before, urgent=before is not None and news.is_urgent(before))


def _pointed_to(issuer: str, now: datetime) -> Set[int]:
    """The shards of certificates that are valid, or were until so lately that a CRL after their end may not be out yet. Asked
    only when the full CRL is made anew for its age, as it reads every certificate; until then those that have a CRL stand for it."""
    pointing = Status.objects.filter(issuer=issuer, crl_shard__isnull=False, not_after__gt=now - 2 * settings.CRL_VALIDITY)
    return {shard for shard in pointing.values_list("crl_shard", flat=True).distinct() if shard is not None}


def _drop_drained(issuer: str, shards: Set[int]) -> None:
    if shards:
        Crl.objects.filter(issuer=issuer, shard__in=shards).delete()


def _moment(shard: int) -> float:
    """Which part of its time a CRL is the newest for: from a quarter to a half, so that the shards' work is spread."""
    return 0.5 - (shard + 1) % 16 / 64


def _is_past(row: Crl, part: float, issuer_ends: datetime, now: datetime) -> bool:
    """Whether that part of its time has passed, or its time has not begun, as the clock went back. One that lasts to the
    issuer's end is the last."""
    life = row.next_update - row.this_update
    return row.this_update > now or (now >= row.this_update + part * life and row.next_update < issuer_ends)


class _News:
    """What the log said of an issuer's revocations since its CRLs were made."""

    def __init__(self, issuer: str, rows: Iterable[Crl]) -> None:
        since = min((row.position for row in rows), default=0)
        newer = Status.objects.filter(issuer=issuer, state=State.REVOKED, position__gt=since)
        self._newest = list(newer.values_list("crl_shard", "reason").annotate(Max("position")))
        sizes = Crl.objects.filter(issuer=issuer).annotate(size=Length("der")).values_list("shard", "size") if self._newest else ()
        self._sizes = dict(sizes)

    def is_urgent(self, row: Crl) -> bool:
        """Whether it is of a compromised key."""
        return any(reason == KEY_COMPROMISE for reason in self._reasons(row))

    def may_be_told(self, row: Crl, now: datetime) -> bool:
        """Whether there is any that need not wait for more of its kind. One of a compromised key waits for no more than what
        the list's size costs, which after a quiet while is nothing."""
        if not self._reasons(row):
            return False
        pause = timedelta(seconds=self._sizes.get(row.shard, 0) // _BYTES) if self.is_urgent(row) else COALESCE
        return now - (row.this_update + _BACKDATE) >= pause

    def _reasons(self, row: Crl) -> list[str]:
        return [reason for shard, reason, position in self._newest if row.shard in (FULL, shard) and position > row.position]


def _newest() -> QuerySet[Crl]:
    return Crl.objects.defer("der")


def _unexpired(now: datetime) -> list[_Authority]:
    issued_into = frozenset(range(settings.CRL_SHARDS if settings.CRL_URL else 0))
    rows = Issuer.objects.order_by("name").values_list("name", "kind", "certificate")
    found = [_Authority(_facts(name, bytes(der)), frozenset() if kind == "root" else issued_into) for name, kind, der in rows]
    return [authority for authority in found if now < authority.facts.not_after]


@cache
def _facts(name: str, certificate: bytes) -> IssuerFacts:
    return leaf.issuer_facts(name, x509.load_der_x509_certificate(certificate))


# --- making one


def _make(due: _Due, now: datetime) -> None:
    """Where the key cannot be opened the old CRL stays, and readiness tells."""
    try:
        row = _signed(due, now.replace(microsecond=0))
    except keys.KeyFault as fault:
        log.error("no CRL of %s: %s", due.issuer.name, fault)
        return
    _store(row, due.before)
    feed.publish()


def _signed(due: _Due, now: datetime) -> Crl:
    position = Cursor.objects.filter(name="ocsp").values_list("position", flat=True).first() or 0  # before the rows: they say no less
    this_update = now - _BACKDATE
    row = Crl(
        issuer=due.issuer.name, shard=due.shard, this_update=this_update, position=position,
        number=max(due.before.number + 1 if due.before else 0, int(this_update.timestamp()) * 1000),
        next_update=min(now + settings.CRL_VALIDITY, due.issuer.not_after),
    )  # fmt: skip
    url = None if due.shard == FULL else crl.url(settings.CRL_URL, due.issuer.name, due.shard)
    tbs = crl.build(crl.Crl(due.issuer, row.number, this_update, row.next_update, _entries(row, due.before), url))
    row.der = leaf.assemble(tbs, due.issuer, keys.issuer_signer(due.issuer.name).sign(tbs))
    return row


def _entries(row: Crl, before: Crl | None) -> Iterable[tuple[str, datetime, str]]:
    """What the CRL `row` lists. Left out is what `before` or an earlier one has listed after the certificate's end; `before`
    may be of a time that has not come yet, made when the clock was wrong. A serial that never became a certificate has no end."""
    revoked = Status.objects.filter(issuer=row.issuer, state=State.REVOKED)
    if row.shard != FULL:
        revoked = revoked.filter(crl_shard=row.shard)
    if before:
        still_due = Q(not_after=None) | Q(not_after__gte=min(before.this_update, row.this_update)) | Q(position__gt=before.position)
        revoked = revoked.filter(still_due)
    rows = revoked.values_list("serial", "revoked_at", "reason")
    return ((serial, at, reason) for serial, at, reason in rows if at and reason)  # as every revoked row has them


def _store(row: Crl, before: Crl | None) -> None:
    if before is None:
        Crl.objects.bulk_create([row], ignore_conflicts=True)
        return
    names = ("number", "this_update", "next_update", "position", "der")
    Crl.objects.filter(id=before.id, number=before.number).update(**{name: getattr(row, name) for name in names})
