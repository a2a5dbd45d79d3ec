"""POST certificates/{serial}/checkin/: by proof of the key, without a token.

Owns the fields of a check-in, its answer and the limit on wrong proofs. Must say the same, after the same work, of a certificate that does
not exist and of one whose key did not make the proof.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from ca import checkins
from ca.checkins import NONE, SERVED, TIME, Word
from ca.errors import Problem

from . import documents, limits, representations, revocations
from .authentication import PUBLIC
from .base import ApiView, answer
from .parsers import StrictJSONParser, members

FIELDS = ("served", "time", "proof")


class CheckInView(ApiView):
    """The proof is the right to speak of this one certificate; a token says nothing here, so none is read."""

    authentication_classes = []
    parser_classes = [StrictJSONParser]
    actions = {"POST": (PUBLIC,)}

    @documents.checkin
    def post(self, request: Request, serial: str) -> HttpResponse:
        now, word = datetime.now(UTC), _word(request.data, representations.full(serial))
        try:
            old = checkins.check_in(word, now)
        except Problem as problem:
            if problem.code == "notEntitled":
                limits.check_guess(word.serial, request.META.get("REMOTE_ADDR", ""))
            raise
        return answer(representations.checked_in(old._asdict(), now))


def _word(body: Any, serial: str) -> Word:
    """Raises Problem."""
    body = members(body, FIELDS)
    for name in FIELDS:
        if name not in body:
            raise Problem("missingField", f"{name}: a check-in needs {', '.join(FIELDS)}", name)
        if not isinstance(body[name], str) and (name, body[name]) != ("served", None):
            raise Problem("invalidField", f"{name} is a string", name)
    return Word(serial, _served(body["served"]), _time(body["time"]), revocations.signature(body["proof"]))


def _served(value: str | None) -> str:
    if value is None:
        return ""
    if not re.fullmatch(SERVED, value):
        raise Problem("invalidField", f"served is a serial of 40 hex digits, {NONE}, or null", "served")
    return value


def _time(text: str) -> str:
    try:
        if not re.fullmatch(TIME, text):
            raise ValueError
        datetime.fromisoformat(text)
    except ValueError:
        raise Problem("invalidField", "time is UTC to the second, as in 2030-01-31T12:00:00Z", "time") from None
    return text
