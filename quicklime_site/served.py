"""Certificate status as relying parties get it, for the pages that show it.

Owns the wiring between ocsp, which serves, and dashboard, which may not know it (settings.DASHBOARD). Signs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models.functions import Length

from dashboard.neighbours import Delegate, ServedCrl
from ocsp import crls as ocsp_crls
from ocsp import views
from ocsp.models import Crl, Responder


def ocsp(request: bytes) -> bytes:
    """The OCSPResponse to a DER OCSPRequest, unsigned errors among them."""
    return views.answer(request).body


def crl(issuer: str, shard: int | None) -> bytes | None:
    """The DER of the newest CRL of a scope, or None."""
    row = Crl.objects.filter(issuer=issuer, shard=_scope(shard)).values_list("der", flat=True).first()
    return None if row is None else bytes(row)


def crls() -> Sequence[ServedCrl]:
    """All of them, without their bytes."""
    rows = Crl.objects.order_by("issuer", "shard").annotate(size=Length("der"))
    names = ("issuer", "shard", "number", "this_update", "next_update", "size")
    return [ServedCrl(issuer, None if shard == ocsp_crls.FULL else shard, *rest) for issuer, shard, *rest in rows.values_list(*names)]


def delegates() -> Sequence[Delegate]:
    """The delegated responders' certificates, newest first."""
    rows = Responder.objects.order_by("-position").values_list("issuer", "serial", "not_before", "not_after")
    return [Delegate(*row) for row in rows[:100]]


def _scope(shard: int | None) -> int:
    return ocsp_crls.FULL if shard is None else shard
