"""Every page is for those whom a role opens it (see test_roles), shows and does nothing, and says so to its browser."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import URLPattern

from dashboard.pages import urls

pytestmark = pytest.mark.django_db


def test_every_view_is_guarded() -> None:
    patterns = [each for each in urls.urlpatterns if isinstance(each, URLPattern)]
    assert len(patterns) == len(urls.urlpatterns)
    unguarded = {each.name for each in patterns if not getattr(each.callback, "rights", ())}
    assert unguarded == set()


def test_signed_out_is_led_to_the_sign_in(every_page: list[str], client: Client) -> None:
    for path in every_page:
        answer = client.get(path)
        if not path.endswith("login/"):
            assert answer.status_code == 302, path
            assert answer["Location"].startswith("/dashboard/login/?next=/dashboard/"), path


def test_a_live_part_of_a_page_leads_the_whole_page_to_the_sign_in(client: Client) -> None:
    """Else the sign-in stands in the middle of the page that asked."""
    answer = client.get("/dashboard/log/?live=1", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer["HX-Redirect"] == "/dashboard/login/?next=/dashboard/log/%3Flive%3D1"


def test_who_has_no_role_is_refused(every_page: list[str], guest: Client) -> None:
    for path in every_page[:-1]:
        answer = guest.get(path)
        assert answer.status_code == 403, path
        assert b"Not for this account" in answer.content


def test_signing_in_leads_to_the_page(staff: Client) -> None:
    client = Client()
    answer = client.post("/dashboard/login/", {"login": "sam", "password": "correct horse battery", "next": "/dashboard/tokens/"})
    assert (answer.status_code, answer["Location"]) == (302, "/dashboard/tokens/")
    assert client.get("/dashboard/tokens/").status_code == 200
    assert client.get("/dashboard/logout/").status_code == 405, "a link must not sign anybody out"
    assert client.post("/dashboard/logout/")["Location"] == "/dashboard/login/"
    assert client.get("/dashboard/tokens/").status_code == 302


def test_signing_in_leads_nowhere_else(staff: Client) -> None:
    answer = Client().post("/dashboard/login/", {"login": "sam", "password": "correct horse battery", "next": "https://elsewhere.example/"})
    assert answer["Location"] == "/dashboard/"


def test_a_wrong_password(staff: Client) -> None:
    answer = Client().post("/dashboard/login/", {"login": "sam", "password": "wrong"})
    assert answer.status_code == 200
    assert b"The username and/or password you specified are not correct." in answer.content


def test_pages_take_no_post(every_page: list[str], staff: Client) -> None:
    staff.handler.enforce_csrf_checks = False
    for path in every_page:
        name = path.split("/")[-2]
        expected = {"login": 302, "consistency": 200}.get(name, 405)
        assert staff.post(path).status_code == expected, path


def test_a_form_needs_its_token(staff: Client) -> None:
    assert staff.post("/dashboard/log/consistency/", {"checkpoint": "x"}).status_code == 403


def test_the_front_door_leads_to_the_overview(client: Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/dashboard/")


def test_nothing_is_kept_by_caches(every_page: list[str], staff: Client) -> None:
    for path in every_page:
        assert "no-store" in staff.get(path)["Cache-Control"], path


@pytest.mark.parametrize(
    "path", ["nowhere/", "certificates/ff/", "certificates/xyz/", "log/999999/", "log/99999999999999999999999/", "issuers/none/",
             "requests/01a21257-6edd-7ff1-a99d-225d381a0a9b/", "certificates/ff.pem"],
)  # fmt: skip
def test_what_is_not_there(path: str, staff: Client) -> None:
    answer = staff.get(f"/dashboard/{path}")
    assert answer.status_code == 404
    assert b"Nothing is here" in answer.content
