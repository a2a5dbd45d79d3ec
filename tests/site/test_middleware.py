"""Security headers are on every answer; sessions and CSRF are where browsers are, and only there; and whose word on a
client's address is believed."""

from __future__ import annotations

from io import BytesIO
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from quicklime_site import middleware


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/api/v1/certificates/", "/admin/login/", "/nowhere"])
def test_every_answer_has_the_headers(path: str) -> None:
    answer = Client().get(path, secure=True)
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "max-age=" in answer["Strict-Transport-Security"]


@pytest.mark.django_db
def test_people_have_csrf_protection() -> None:
    client = Client(enforce_csrf_checks=True)
    assert "csrftoken" in client.get("/dashboard/login/", secure=True).cookies
    assert client.post("/dashboard/login/", {"login": "x", "password": "y"}, secure=True).status_code == 403


@pytest.mark.django_db
def test_programs_have_no_session() -> None:
    request = Client().get("/api/v1/docs/", secure=True).wsgi_request
    assert not hasattr(request, "session")
    assert hasattr(Client().get("/admin/login/", secure=True).wsgi_request, "session")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/dashboard/login/", "/dashboard/log/consistency/", "/admin/ca/token/create/"])
def test_a_form_has_a_size(path: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whomever: that the form is not a forged one is found out by reading all of it, its files onto the disk."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    monkeypatch.setattr("django.http.request.HttpRequest.parse_file_upload", lambda *args: pytest.fail("it was read"))
    answer = Client(enforce_csrf_checks=True).post(path, {"file": BytesIO(b"x" * 20_000)}, secure=True)
    assert answer.status_code == 413
    assert "That is too large" in answer.content.decode()


def test_a_wrong_file_is_thrown_away_before_the_answer(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_000
    monkeypatch.setattr(middleware, "_DRAINED", 100_000)
    for size, is_left in ((50_000, False), (200_000, True)):
        request = RequestFactory().post("/dashboard/log/consistency/", b"x" * size, content_type="text/plain")
        assert middleware.bounded(lambda _: HttpResponse())(request).status_code == 413
        assert bool(request.read(1)) is is_left


def test_a_path_that_only_looks_like_a_programs_is_not() -> None:
    assert not "/admin/api/".startswith(middleware.MACHINES)


CLIENT, LIAR, PROXY, OUTER = "198.51.100.7", "203.0.113.9", "10.0.0.5", "10.1.0.9"


def seen(peer: str, *forwarded: str) -> str:
    """The address that a view sees."""
    addresses = []

    def view(request: HttpRequest) -> HttpResponse:
        addresses.append(request.META["REMOTE_ADDR"])
        return HttpResponse()

    header = {"HTTP_X_FORWARDED_FOR": ", ".join(forwarded)} if forwarded else {}
    middleware.client_address(view)(RequestFactory().get("/", REMOTE_ADDR=peer, **header))
    return addresses[0]


@pytest.fixture
def proxies(settings: object) -> None:
    settings.TRUSTED_PROXIES = (ip_network(PROXY), ip_network("10.1.0.0/24"), ip_network("2001:db8::5"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (PROXY, [CLIENT], CLIENT),
        ("2001:db8:0::5", ["2001:DB8::1"], "2001:db8::1"),
        (f"::ffff:{PROXY}", [f"::ffff:{CLIENT}"], CLIENT),
        (PROXY, [], PROXY),
        (PROXY, [LIAR, CLIENT], CLIENT),  # the client wrote the first itself
        (PROXY, [LIAR, CLIENT, OUTER], CLIENT),
        (PROXY, [OUTER, CLIENT], CLIENT),  # who is not trusted cannot name a proxy either
        (CLIENT, [LIAR], CLIENT),
        (CLIENT, [PROXY], CLIENT),
        ("10.1.1.9", [LIAR], "10.1.1.9"),
        ("", [LIAR], ""),
        (PROXY, [CLIENT, "unknown"], PROXY),
        (PROXY, [CLIENT, ""], PROXY),
        (PROXY, [OUTER], OUTER),
        (PROXY, ["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_only_proxies_are_believed_whom_they_forward(proxies: None, peer: str, forwarded: list[str], expected: str) -> None:
    assert seen(peer, *forwarded) == expected


def test_without_proxies_nobody_is_asked() -> None:
    with pytest.raises(MiddlewareNotUsed):
        middleware.client_address(HttpResponse)
