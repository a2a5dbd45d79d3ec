"""Certificate status as relying parties get it, for the pages that show it.

Owns the wiring between ocsp, which serves, and dashboard, which may not know it (settings.DASHBOARD). Signs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from django.db.models import QuerySet
from django.db.models.functions import Length

from dashboard.neighbours import Delegate, ServedCrl
from ocsp import crls as ocsp_crls
from ocsp import views
from ocsp.models import Crl, Responder, Response


def ocsp(request: bytes) -> bytes:
    """The OCSPResponse to a DER OCSPRequest, unsigned errors among them."""
    return views.answer(request).body


def crl(issuer: str, shard: int | None) -> bytes | None:
    """The DER of the newest CRL of a scope, or None."""
    row = Crl.objects.filter(issuer=issuer, shard=_scope(shard)).values_list("der", flat=True).first()
    return None if row is None else bytes(row)


def crl_facts(issuer: str, shard: int | None) -> ServedCrl | None:
    """The same CRL, without its bytes."""
    return next(iter(_facts(Crl.objects.filter(issuer=issuer, shard=_scope(shard)))), None)


def crls() -> Sequence[ServedCrl]:
    """All of them, without their bytes."""
    return _facts(Crl.objects.order_by("issuer", "shard"))


def _facts(rows: QuerySet[Crl]) -> list[ServedCrl]:
    names = ("issuer", "shard", "number", "this_update", "next_update", "size")
    found = rows.annotate(size=Length("der")).values_list(*names)
    return [ServedCrl(issuer, None if shard == ocsp_crls.FULL else shard, *rest) for issuer, shard, *rest in found]


def delegates() -> Sequence[Delegate]:
    """The delegated responders' certificates, newest first."""
    rows = Responder.objects.order_by("-position").values_list("issuer", "serial", "not_before", "not_after")
    return [Delegate(*row) for row in rows[:100]]


def sign_again(serials: Collection[str], now: datetime) -> int:
    """Have the OCSP responses of these serials made anew with the next pre-signing; how many that are."""
    return Response.objects.filter(serial__in=serials, refresh_at__gt=now).update(refresh_at=now)


def _scope(shard: int | None) -> int:
    return ocsp_crls.FULL if shard is None else shard
