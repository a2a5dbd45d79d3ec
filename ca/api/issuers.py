"""The hierarchy over HTTP, for everybody: certificates of issuers are no secret, and whoever has none yet has no token."""

from __future__ import annotations

from collections import defaultdict

from django.http import Http404, HttpResponse
from rest_framework.request import Request

from ca.models import Activation, Issuer

from . import documents, representations
from .base import PublicView, answer
from .negotiation import DER, PEM
from .representations import Row

_UNCHANGING = "public, max-age=86400, immutable"


def _rows(**wanted: str) -> list[Row]:
    return list(Issuer.objects.filter(**wanted).order_by("position").values())


def _only(rows: list[Row]) -> Row:
    if not rows:
        raise Http404
    return rows[0]


def _profiles() -> dict[str, list[str]]:
    """Issuer name → the profiles it signs now."""
    found: dict[str, list[str]] = defaultdict(list)
    for activation in Activation.objects.all():
        found[activation.issuer].append(activation.profile)
    return found


def _certificate(row: Row, media_type: str) -> HttpResponse:
    der = bytes(row["certificate"])
    response = HttpResponse(der if media_type == DER else representations.pem(der), content_type=media_type)
    response["Cache-Control"] = _UNCHANGING
    return response


class IssuersView(PublicView):
    """GET issuers/"""

    @documents.issuers
    def get(self, request: Request) -> HttpResponse:
        profiles = _profiles()
        return answer({"results": [representations.issuer(row, profiles.get(row["name"], ())) for row in _rows()]})


class IssuerView(PublicView):
    """GET issuers/{name}/"""

    @documents.issuer
    def get(self, request: Request, name: str) -> HttpResponse:
        return answer(representations.issuer(_only(_rows(name=name)), _profiles().get(name, ())))


class IssuerPemView(PublicView):
    """GET issuers/{name}.pem"""

    produces = (PEM,)

    @documents.issuer_pem
    def get(self, request: Request, name: str) -> HttpResponse:
        return _certificate(_only(_rows(name=name)), PEM)


class IssuerDerView(PublicView):
    """GET issuers/{name}.der"""

    produces = (DER,)

    @documents.issuer_der
    def get(self, request: Request, name: str) -> HttpResponse:
        return _certificate(_only(_rows(name=name)), DER)


class RootView(PublicView):
    """GET roots/{sha256}/: a client that knows only a fingerprint fetches the root and checks it by hashing."""

    produces = (PEM, DER)

    @documents.root
    def get(self, request: Request, fingerprint: str) -> HttpResponse:
        response = _certificate(_only(_rows(kind="root", fingerprint=fingerprint)), request.accepted_media_type or PEM)
        response["Vary"] = "Accept"
        return response
