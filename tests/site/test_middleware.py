"""Security headers are on every answer; sessions and CSRF are where browsers are, and only there."""

from __future__ import annotations

import pytest
from django.test import Client

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
    assert "csrftoken" in client.get("/admin/login/", secure=True).cookies
    assert client.post("/admin/login/", {"username": "x", "password": "y"}, secure=True).status_code == 403


@pytest.mark.django_db
def test_programs_have_no_session() -> None:
    request = Client().get("/api/v1/docs/", secure=True).wsgi_request
    assert not hasattr(request, "session")
    assert hasattr(Client().get("/admin/login/", secure=True).wsgi_request, "session")


def test_a_path_that_only_looks_like_a_programs_is_not() -> None:
    assert not "/admin/api/".startswith(middleware.MACHINES)
