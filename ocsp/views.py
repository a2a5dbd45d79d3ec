"""Status from Django's own URLs, for small installations and tests: the same answers as the responder's, read from the database.

Owns the way from a row to a record. What is answered and under which headers, `responder.answers` decides. Nonces are ignored
here. A good is given only if the log does not call the certificate revoked at this moment.
"""

from __future__ import annotations

from datetime import datetime
from time import time

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from ca.pki.ocsp_request import SHA1, SHA256
from ca.pki.ocsp_response import TRY_LATER, issuer_hashes
from eventlog.models import Event

from .models import Crl, Issuer, Response
from .responder import answers, record
from .responder.answers import Answer
from .responder.record import DOCUMENT, Record


@csrf_exempt
@require_POST
def post(request: HttpRequest) -> HttpResponse:
    """POST /ocsp of a DER OCSPRequest (RFC 6960 A.1)."""
    if request.content_type != "application/ocsp-request" or "Content-Encoding" in request.headers:
        return HttpResponse(status=415)
    if int(request.META.get("CONTENT_LENGTH") or 0) > answers.LONGEST_REQUEST:
        return HttpResponse(status=413)
    return _http(answer(request.body))


@csrf_exempt  # or a POST would not be told that it is the wrong method
@require_safe
def get(request: HttpRequest, path: str) -> HttpResponse:
    """GET /ocsp/{base64 of the DER}."""
    return _conditional(request, answer(answers.decoded(path.encode())))


@csrf_exempt  # or a POST would not be told that it is the wrong method
@require_safe
def crl(request: HttpRequest, issuer: str, shard: int = -1) -> HttpResponse:
    """GET /crl/{issuer}.crl and /crl/{issuer}/{shard}.crl. 404 for one that there is not, 503 for one past its nextUpdate."""
    try:
        row = Crl.objects.filter(issuer=issuer, shard=shard).first()
    except (DatabaseError, InterfaceError):
        return _later()
    if row is None:
        return HttpResponse(status=404)
    packed = record.pack(Record(bytes(record.KEY), DOCUMENT, False, *_seconds(row.this_update, row.next_update), bytes(row.der), b""))
    ready = answers.crl(packed, time())
    return _conditional(request, ready) if ready else _later()


def answer(request: bytes) -> Answer:
    """The answer to a DER OCSPRequest, whatever the bytes are, from the database as it is now."""
    try:
        return _Rows().desk.answer(request, time())
    except (DatabaseError, InterfaceError):
        return answers.refusal(TRY_LATER)


class _Rows:
    """The database as the desk sees it."""

    def __init__(self) -> None:
        rows = Issuer.objects.order_by("name").values_list("name", "certificate")
        certificates = {name: bytes(certificate) for name, certificate in rows}
        self._numbers = {name: number for number, name in enumerate(certificates)}
        issuers = [
            answers.Issuer(self._numbers[name], issuer_hashes(each, SHA1), issuer_hashes(each, SHA256))
            for name, each in certificates.items()
        ]
        self.desk = answers.Desk(issuers, self._get, answers.no_counts())

    def _get(self, key: bytes, owner: bytes) -> bytes | None:
        row = Response.objects.filter(serial=key.hex()).first()
        if row is None or record.owner(self._numbers.get(row.issuer, record.NOBODY)) != owner:
            return None
        withdrawn = not row.revoked and Event.objects.filter(subject=row.serial, type="certificate.revoked").exists()
        first, second = (b"", b"") if withdrawn else (bytes(row.sha1), bytes(row.sha256))
        times = _seconds(row.this_update, row.next_update)
        return record.pack(Record(key, int.from_bytes(owner, "little"), row.revoked, *times, first, second))


def _seconds(this_update: datetime, next_update: datetime) -> tuple[int, int]:
    return int(this_update.timestamp()), int(next_update.timestamp())


def _conditional(request: HttpRequest, answer: Answer) -> HttpResponse:
    return _http(answers.conditional(answer, request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since")))


def _http(answer: Answer) -> HttpResponse:
    fields = answers.header_fields(answer)
    response = HttpResponse(answer.body, status=answer.status, headers=fields)
    if "Content-Type" not in fields:
        del response["Content-Type"]
    return response


def _later() -> HttpResponse:
    return HttpResponse(status=503, headers={"Retry-After": "2", "Cache-Control": "no-store"})
