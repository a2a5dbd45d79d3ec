"""One certificate: decoded, with its chain, lineage, status as served, the proof that the log holds it, and its events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from ca.api import representations
from ca.api.representations import CERTIFICATE_COLUMNS, Row
from ca.models import Certificate, Issuer
from dashboard import access, ancestry, asking, charts, decoding, evidence, services, status
from dashboard.models import Generation
from dashboard.roles import Right
from eventlog import receipts

from . import log
from .base import is_partial, show


@access.page(Right.SEE)
def certificate(request: HttpRequest, serial: str) -> HttpResponseBase:
    """GET certificates/{serial}/"""
    now, row = datetime.now(UTC), _row(request, serial)
    der = bytes(row["der"])
    chain = ancestry.of(row["serial"])
    context = {
        "certificate": row,
        "status": representations.certificate_status(row, now),
        "share": charts.share(row["not_before"], row["not_after"], now),
        "sections": decoding.certificate(der),
        "pem": representations.pem(der),
        "steps": evidence.of_event(row["log_position"], der),
        "lineage": chain,
        "timeline": _timeline(chain, row["serial"], now),
        "events": log.about(row["serial"], str(row["request"])),
        "generation": Generation.objects.filter(serial=row["serial"]).values("number", "renew_by", "superseded_by").first(),
        "seen": services.seen([row["serial"]]).get(row["serial"]),
    }
    return show(request, "certificate.html", context, now)


@access.page(Right.SEE)
def served_status(request: HttpRequest, serial: str) -> HttpResponseBase:
    """GET certificates/{serial}/status/: a page of its own, and what the certificate's page loads into itself. `?crl=whole` searches
    the CRL however large it is."""
    now, row = datetime.now(UTC), _row(request, serial)
    context = {"certificate": row, "words": _words(row, bytes(row["der"]), now, request.GET.get("crl") == "whole")}
    return show(request, "status_card.html" if is_partial(request) else "status.html", context, now)


def _row(request: HttpRequest, serial: str) -> Row:
    row: Row | None = Certificate.objects.filter(serial=representations.full(serial)).values(*CERTIFICATE_COLUMNS).first()
    if row is None:
        raise Http404
    access.check_own(request, row["owner"])
    return row


def _words(row: Row, der: bytes, now: datetime, whole: bool) -> list[status.Word]:
    issuer = Issuer.objects.filter(name=row["issuer"]).values_list("certificate", flat=True).first()
    return [] if issuer is None else status.served(der, row["issuer"], bytes(issuer), now, whole)


def _timeline(chain: list[ancestry.Generation], serial: str, now: datetime) -> charts.Chart | None:
    if len(chain) < 2:
        return None
    bars = [
        (f"{each.serial}: {each.not_before:%Y-%m-%d} to {each.ends:%Y-%m-%d}", _kind(each, serial), each.not_before, each.ends)
        for each in chain
    ]
    return charts.spans("Lifetimes of this certificate and those before and after it", bars, now)


def _kind(each: ancestry.Generation, serial: str) -> str:
    return "this" if each.serial == serial else "revoked" if each.revoked_at else "other"


# --- Files


def _file(content: bytes | str, kind: str, name: str) -> HttpResponse:
    return HttpResponse(content, content_type=kind, headers={"Content-Disposition": asking.attachment(name)})


@access.page(Right.SEE)
def download(request: HttpRequest, serial: str, form: str) -> HttpResponseBase:
    """GET certificates/{serial}.pem, .der, .chain.pem and .receipt.json"""
    row = _row(request, serial)
    der, name = bytes(row["der"]), row["serial"]
    if form == "der":
        return _file(der, "application/pkix-cert", f"{name}.der")
    if form == "receipt.json":
        return _receipt(row["log_position"], name)
    chain = representations.chain(row["issuer"]) if form == "chain.pem" else ""
    return _file(representations.pem(der) + chain, "application/pem-certificate-chain", f"{name}.{form}")


def _receipt(position: int, name: str) -> HttpResponse:
    try:
        found: dict[str, Any] = receipts.receipt(position)
    except receipts.NotYetSigned:
        return HttpResponse("no checkpoint covers this event yet: ask again in some seconds\n", status=503, content_type="text/plain")
    return _file(json.dumps(found), "application/json", f"{name}.receipt.json")
