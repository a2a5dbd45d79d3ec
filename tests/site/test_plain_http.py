"""Plain HTTP: an issuer's certificate and /livez, and nothing else of what the API serves."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from django.db import OperationalError
from django.test import Client

from ca.models import Issuer


@pytest.fixture(autouse=True)
def _plain(settings: Any) -> None:
    from quicklime_site import plain_settings

    settings.ROOT_URLCONF, settings.MIDDLEWARE = plain_settings.ROOT_URLCONF, plain_settings.MIDDLEWARE
    settings.ALLOWED_HOSTS = plain_settings.ALLOWED_HOSTS


@pytest.mark.django_db
@pytest.mark.usefixtures("hierarchy")
@pytest.mark.parametrize("name", ["root", "issuing-1"])
def test_an_issuer_as_der(name: str) -> None:
    answer = Client().get(f"/issuers/{name}.der", headers={"Host": "anything.example"})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/pkix-cert"
    assert answer.content == bytes(Issuer.objects.get(name=name).certificate)
    x509.load_der_x509_certificate(answer.content)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path", ["/issuers/nobody.der", "/issuers/%00.der", "/issuers/a/b.der", "/issuers/", "/", "/api/v1/certificates/", "/admin/", "/readyz"]
)
def test_nothing_else_is_here(path: str) -> None:
    assert Client().get(path).status_code == 404


def test_livez() -> None:
    assert Client().get("/livez").content == b"ok\n"


@pytest.mark.parametrize("path", ["/livez", "/issuers/root.der"])
def test_nothing_is_posted_here(path: str) -> None:
    assert Client().post(path).status_code == 405


def test_the_database_away_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: Any) -> None:
        raise OperationalError

    monkeypatch.setattr(Issuer.objects, "filter", away)
    answer = Client().get("/issuers/root.der")
    assert answer.status_code == 503
    assert answer["Retry-After"] == "2"
