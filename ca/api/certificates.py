"""Certificates over HTTP: the list, one in three media types, and its receipt. A POST to the list asks for one."""

from __future__ import annotations

from datetime import UTC, datetime

from django.http import Http404, HttpResponse
from rest_framework.request import Request

from ca.errors import Problem
from ca.models import Certificate
from eventlog import receipts

from . import documents, listing, pages, representations, submissions
from .authentication import anybody, principal
from .base import ApiView, answer
from .client_certificates import HOLDER
from .negotiation import DER, JSON, PEM
from .parsers import PemParser, Pkcs10Parser, StrictJSONParser
from .representations import CERTIFICATE_COLUMNS, Row
from .requests import submit_one


class CertificatesView(ApiView):
    """GET and POST certificates/"""

    parser_classes = [StrictJSONParser, Pkcs10Parser, PemParser]
    actions = {"GET": ("read", "audit"), "POST": ("issue",)}
    asks_at_the_door = ("POST",)
    parameters = {"GET": listing.PARAMETERS, "POST": submissions.PARAMETERS}

    @documents.certificates
    def get(self, request: Request) -> HttpResponse:
        now, caller = datetime.now(UTC), principal(request)
        page = listing.page(request.query_params.dict(), None if caller.sees_all else caller.grant.owner, now)
        results = [representations.certificate(row, caller.grant.token, now) for row in page.rows]
        return answer({"results": results, "next": pages.following(request, page.cursor)})

    @documents.submit
    def post(self, request: Request) -> HttpResponse:
        return submit_one(request)


def _visible(request: Request, serial: str) -> Row:
    """The row of `serial` (leading zeros may be missing), if the caller may see it; its holder, who has no token, may. Raises Http404."""
    caller = anybody(request)
    row: Row | None = Certificate.objects.filter(serial=representations.full(serial)).values(*CERTIFICATE_COLUMNS).first()
    if row is None or not (caller is None or caller.sees_all or row["owner"] == caller.grant.owner):
        raise Http404
    return row


class CertificateView(ApiView):
    """GET certificates/{serial}/"""

    actions = {"GET": ("read", "audit", HOLDER)}
    produces = (JSON, PEM, DER)

    @documents.certificate
    def get(self, request: Request, serial: str) -> HttpResponse:
        row = _visible(request, serial)
        response = _in_type(request, row)
        response["Cache-Control"], response["Vary"] = "no-store", "Accept"
        return response


def _in_type(request: Request, row: Row) -> HttpResponse:
    der = bytes(row["der"])
    if request.accepted_media_type == PEM:
        return HttpResponse(representations.pem(der) + representations.chain(row["issuer"]), content_type=PEM)
    if request.accepted_media_type == DER:
        return HttpResponse(der, content_type=DER)
    caller = anybody(request)
    return answer(representations.certificate(row, caller.grant.token if caller else None, datetime.now(UTC)))


class ReceiptView(ApiView):
    """GET certificates/{serial}/receipt/"""

    actions = {"GET": ("read", "audit", HOLDER)}

    @documents.receipt
    def get(self, request: Request, serial: str) -> HttpResponse:
        position = _visible(request, serial)["log_position"]
        try:
            return answer(receipts.receipt(position))
        except receipts.NotYetSigned:
            raise Problem("notYetSigned", "the next checkpoint will cover it, in seconds") from None
