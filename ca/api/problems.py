"""The one mapping from what can go wrong to HTTP: code → status and title, exception → code, problem → response.

Owns the form of every error the API gives (RFC 9457). Must never repeat an exception's own text: only what ca.errors.Problem
says was written for a client's eyes.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, UnreadablePostError
from django.views import defaults
from rest_framework import exceptions

from ca.errors import Problem
from ca.keys import KeyFault
from ca.pki.violations import Violation

log = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"
RETRY_AFTER = 2  # seconds, where the problem itself does not know better


class Rule(NamedTuple):
    """What a code means in HTTP."""

    status: int
    title: str


RULES: Mapping[str, Rule] = {
    # the message is not understood
    "badRequest": Rule(400, "The request cannot be read"),
    "malformedJson": Rule(400, "The body is not strict JSON"),
    "missingField": Rule(400, "A field is missing"),
    "unknownField": Rule(400, "A field is not known here"),
    "invalidField": Rule(400, "A field has a value of the wrong form"),
    "unknownParameter": Rule(400, "A query parameter is not known here"),
    "invalidParameter": Rule(400, "A query parameter has a value of the wrong form"),
    "invalidHeader": Rule(400, "A header has a value of the wrong form"),
    "csrText": Rule(400, "The certification request is in no known form"),
    "csrEncoding": Rule(400, "The certification request cannot be read"),
    "csrVersion": Rule(400, "The certification request has an unknown version"),
    "csrTooLarge": Rule(400, "The certification request is too large"),
    "csrAttributeTwice": Rule(400, "The certification request has an attribute twice"),
    "csrExtensionTwice": Rule(400, "The certification request has an extension twice"),
    "keyEncoding": Rule(400, "The public key is not encoded as it should be"),
    "keyInvalid": Rule(400, "The public key is none"),
    # who asks
    "notAuthenticated": Rule(401, "A token is needed"),
    "tokenInvalid": Rule(401, "The token is not valid"),
    "tokenExpired": Rule(401, "The token has expired"),
    "tokenRevoked": Rule(401, "The token was revoked"),
    "forbidden": Rule(403, "The token does not permit this"),
    "notEntitled": Rule(403, "The secret or proof does not entitle to this"),
    # what is asked
    "notFound": Rule(404, "There is no such thing, or it is not yours to see"),
    "methodNotAllowed": Rule(405, "This method is not allowed here"),
    "notAcceptable": Rule(406, "None of the accepted media types is available"),
    "alreadyRenewed": Rule(409, "A certificate is renewed once"),
    "checkInRepeated": Rule(409, "A check-in is taken once, and none after a later one"),
    "lengthRequired": Rule(411, "The body needs a Content-Length"),
    "bodyTooLarge": Rule(413, "The body is too large"),
    "tooManyItems": Rule(413, "Too many items in one request"),
    "unsupportedMediaType": Rule(415, "The body's media type is not supported here"),
    "tooManyRequests": Rule(429, "Too many requests"),
    # ours, or passing
    "internalError": Rule(500, "The server met a fault of its own"),
    "notAsIntended": Rule(500, "What was to be signed is not what the log announced"),
    "unavailable": Rule(503, "Not available just now"),
    "noIssuer": Rule(503, "No issuer is active for this profile"),
    "notYetSigned": Rule(503, "No checkpoint of the log covers this yet"),
    "shapeRefused": Rule(503, "Certificates of this shape do not pass the linter"),
    "lintFailed": Rule(503, "The certificate as made here does not pass the linter"),
    # policy; codes that are not listed are rules of it, too
    "idempotencyMismatch": Rule(422, "This Idempotency-Key was used with another body"),
}
_POLICY = Rule(422, "The request breaks a rule of this certificate authority")


def rule(code: str) -> Rule:
    """The rule of `code`. A code that the table does not know is a rule of policy: 422."""
    return RULES.get(code, _POLICY)


def as_dict(problem: Problem) -> dict[str, Any]:
    """The problem object of RFC 9457 §3.1, with two members more: `code` names the rule, `errors` says where."""
    status, title = rule(problem.code)
    errors = [{"where": problem.where, "detail": problem.detail}] if problem.where else []
    return {
        "type": f"urn:quicklime:problem:{problem.code}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "code": problem.code,
        "errors": errors,
    }


def respond(problem: Problem) -> HttpResponse:
    """The problem as a response, with the headers its status calls for (RFC 9110 §11.6.1, §10.2.3)."""
    body = as_dict(problem)
    response = HttpResponse(json.dumps(body), content_type=CONTENT_TYPE, status=body["status"])
    response["Cache-Control"] = "no-store"
    if body["status"] == 401:
        response["WWW-Authenticate"] = 'Bearer realm="quicklime"' + (
            "" if problem.code == "notAuthenticated" else ', error="invalid_token"'
        )
    if body["status"] in (429, 503):
        response["Retry-After"] = str(problem.retry_after or RETRY_AFTER)
    return response


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str], ...] = (
    (exceptions.NotAuthenticated, "notAuthenticated", "send an API token: Authorization: Bearer ql_…"),
    ((exceptions.PermissionDenied, PermissionDenied), "forbidden", "the token does not permit this"),
    ((exceptions.NotFound, Http404), "notFound", "nothing is here, or it is not yours to see"),
    (exceptions.MethodNotAllowed, "methodNotAllowed", "see the Allow header"),
    (exceptions.NotAcceptable, "notAcceptable", "see the API's description for what this address can answer with"),
    (exceptions.UnsupportedMediaType, "unsupportedMediaType", "see the API's description for what this address takes"),
    (RequestDataTooBig, "bodyTooLarge", "the body is too large"),
    (UnreadablePostError, "badRequest", "the body ended before its Content-Length"),
    (SuspiciousOperation, "badRequest", "the request cannot be read"),
)
_DATABASE = (OperationalError, InterfaceError, InternalError)


def to_problem(error: Exception) -> Problem | None:
    """What `error` is to a client; None for a fault of ours, which stays an exception."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, Violation):
        return Problem.from_violation(error)
    if isinstance(error, exceptions.Throttled):
        return Problem("tooManyRequests", "wait before the next request", retry_after=math.ceil(getattr(error, "wait", None) or 1))
    if isinstance(error, KeyFault):
        log.error("%s", error)
        return Problem("unavailable", "a key of this server cannot be used just now; repeat the request")
    if isinstance(error, _DATABASE):
        log.error("the database did not answer: %s", error)
        return Problem("unavailable", "the database is not available; repeat the request, a submission under the same Idempotency-Key")
    return next((Problem(code, detail) for kind, code, detail in _KINDS if isinstance(error, kind)), None)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """REST framework's hook: the response to `error`, or None, which lets it rise to `server_error`."""
    problem = to_problem(error)
    return respond(problem) if problem else None


# --- The site's handlers, for what fails outside of a view


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(("/api/", "/log/"))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler400."""
    return respond(to_problem(exception) or Problem("badRequest", "the request cannot be read"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """handler404."""
    if not _is_api(request):
        return defaults.page_not_found(request, exception)
    return respond(Problem("notFound", "nothing is here, or it is not yours to see"))


def server_error(request: HttpRequest) -> HttpResponseBase:
    """handler500; Django has logged the exception."""
    if not _is_api(request):
        return defaults.server_error(request)
    return respond(Problem("internalError", "the fault was logged; the request may be repeated"))
