"""POST certificates/{serial}/revoke/: by secret, by proof, by token, or by the certificate itself as the TLS client's.

Owns the answers and the limit on guesses. Must say the same, after the same work, of a certificate that does not exist and of
one whose secret was not guessed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request

from ca import revocation
from ca.errors import Problem
from ca.models import Certificate

from . import documents, limits, representations, revocations
from .authentication import PUBLIC, Principal, anybody
from .base import ApiView, answer
from .client_certificates import shown
from .parsers import StrictJSONParser
from .representations import CERTIFICATE_COLUMNS
from .revocations import Revocation


class RevokeView(ApiView):
    """A secret or a proof needs no token; without either, the token's scope decides, and without a token the client certificate."""

    parser_classes = [StrictJSONParser]
    actions = {"POST": (PUBLIC,)}

    @documents.revoke
    def post(self, request: Request, serial: str) -> HttpResponse:
        now, caller, wanted = datetime.now(UTC), anybody(request), revocations.from_json(request.data)
        serial = representations.full(serial)
        if wanted.secret is None and wanted.proof is None:
            _by_right(serial, caller, shown(request.META), wanted, now)
        else:
            _by_evidence(serial, request.META.get("REMOTE_ADDR", ""), wanted, now)
        row = Certificate.objects.values(*CERTIFICATE_COLUMNS).get(serial=serial)
        return answer(representations.certificate(row, caller.grant.token if caller else None, now))


def _by_right(serial: str, caller: Principal | None, client: bytes | None, wanted: Revocation, now: datetime) -> None:
    if caller is not None:
        revocation.by_token(serial, caller.grant, wanted.reason, now)
    elif client is not None:
        if not wanted.reason_given:  # a browser shows its certificate to whatever page makes it post, but posts no JSON for a stranger's
            raise Problem("missingField", "reason: by a client certificate it has to be said, in JSON", "reason")
        revocation.by_client_certificate(serial, client, wanted.reason, now)
    else:
        raise exceptions.NotAuthenticated


def _by_evidence(serial: str, address: str, wanted: Revocation, now: datetime) -> None:
    """Raises Problem; for a wrong secret or proof another one if there were too many."""
    try:
        if wanted.proof is not None:
            revocation.by_proof(serial, wanted.proof, wanted.reason, now)
        elif wanted.secret is not None:
            revocation.by_secret(serial, wanted.secret, wanted.reason, now)
    except Problem as problem:
        if problem.code == "notEntitled":
            limits.check_guess(serial, address)
        raise
