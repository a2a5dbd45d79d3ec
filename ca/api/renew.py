"""POST certificates/{serial}/renew/: by proof of the old key, or by showing it in TLS, with or without a token.

Owns the fields of a renewal and the limit on wrong proofs. Must say the same of a certificate that does not exist, of one whose
key did not make the proof, and of another owner's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from ca import pipeline
from ca.errors import Problem
from ca.pipeline import Renewal
from ca.pki import csr as csr_rules

from . import documents, headers, limits, representations, revocations
from .authentication import PUBLIC, anybody
from .base import ApiView
from .client_certificates import shown
from .parsers import StrictJSONParser, members
from .requests import answer_one

FIELDS = ("csr", "proof")


class RenewView(ApiView):
    """The proof needs no token. One that is sent says what the successor may be, and whose it is."""

    parser_classes = [StrictJSONParser]
    actions = {"POST": (PUBLIC,)}

    @documents.renew
    def post(self, request: Request, serial: str) -> HttpResponse:
        now, caller, seconds = datetime.now(UTC), anybody(request), headers.wait(request)
        token = caller.token if caller else None
        asked = _renewal(request.data, representations.full(serial), headers.idempotency_key(request), shown(request.META))
        try:
            return answer_one(lambda: [pipeline.renew(token, asked, now)], token.id if token else None, seconds, now)
        except Problem as problem:
            if problem.code == "notEntitled":
                limits.check_guess(asked.serial, request.META.get("REMOTE_ADDR", ""))
            raise


def _renewal(body: Any, serial: str, key: str | None, client: bytes | None) -> Renewal:
    """Raises Problem or Violation."""
    body = members(body, FIELDS)
    for name in FIELDS if client is None else FIELDS[:1]:
        if name not in body:
            raise Problem("missingField", f"{name}: a renewal needs {' and '.join(FIELDS)}, or a client certificate for the proof", name)
    for name in body:
        if not isinstance(body[name], str):
            raise Problem("invalidField", f"{name} is a string", name)
    proof = revocations.signature(body["proof"]) if "proof" in body else None
    return Renewal(serial, csr_rules.to_der(body["csr"]), proof, key, client)
