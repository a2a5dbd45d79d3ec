"""Whatever a requester, an operator or a visitor wrote: it is text on the page, and its hidden characters are seen (T17, u01)."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from django.db import transaction
from django.test import Client

from ca.models import Certificate, Request, Token
from dashboard.visible import visible
from eventlog.append import NewEvent, append

pytestmark = [pytest.mark.django_db, pytest.mark.unjudged("fills the tables by hand")]
MARKUP = "<script>alert(1)</script>'\"><img src=x onerror=alert(1)>"
HIDDEN = "a\u202egnp.exe\u200b\x07\u2066b\U000e0041"
HOSTILE = f"{MARKUP}{HIDDEN}{{{{ 7|add:7 }}}}"
LONG = "x" * 60_000


def poison(certificate: Certificate) -> None:
    """Put it wherever text from outside comes to a page, past every rule that would refuse it."""
    now = datetime.now(UTC)
    short = HOSTILE[:95]
    Certificate.objects.update(names=[f"dns:{HOSTILE}"], owner=HOSTILE, service=short, node=short)
    Token.objects.update(label=short, owner=HOSTILE, names=[HOSTILE], services=[HOSTILE], uris=[HOSTILE])
    problem = {"code": MARKUP, "detail": HOSTILE, "where": HOSTILE}
    Request.objects.update(owner=HOSTILE, service=short, node=short)
    first = Request.objects.order_by("-id").first()
    assert first is not None
    Request.objects.filter(id=first.id).update(state="rejected", error=problem)
    Request.objects.create(
        id=UUID(int=first.id.int + 1), state="validated", token="t", owner=HOSTILE, profile="server", service=short, node=short,
        csr=bytes(first.csr), body_hash=b"", created_at=now, updated_at=now,
    )  # fmt: skip
    rejected = {"request": HOSTILE, "token": HOSTILE, "owner": HOSTILE, "code": HOSTILE, "detail": HOSTILE, "where": HOSTILE}
    with transaction.atomic():
        append([NewEvent("quicklime/request.rejected/1-0-0", HOSTILE, rejected)], now)
        append([NewEvent("quicklime/request.rejected/1-0-0", "long", rejected | {"detail": LONG})], now)


def assert_harmless(html: str, path: str) -> None:
    assert "<script>alert" not in html, path
    assert "<img src=x" not in html, path
    assert not any(char in html for char in "\u202e\u200b\x07\u2066\U000e0041"), path
    assert "{{" in html or "7|add" not in html, path


def test_every_page(every_page: list[str], fleet: list[Certificate], staff: Client) -> None:
    poison(fleet[0])
    from eventlog import head

    size = head.size()
    for path in [*every_page, f"/dashboard/log/{size}/", f"/dashboard/log/{size - 1}/", "/dashboard/log/?subject=long"]:
        html = staff.get(path).content.decode()
        assert_harmless(html, path)
    for page in ("certificates/", "requests/", "tokens/", f"certificates/{fleet[0].serial}/", f"log/{size - 1}/", "log/"):
        html = staff.get(f"/dashboard/{page}").content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html, page
        assert "[U+202E]" in html, page


@pytest.mark.parametrize("page", ["certificates/", "log/", "tokens/"])
def test_what_a_visitor_asks_comes_back_as_text(page: str, fleet: list[Certificate], staff: Client) -> None:
    for name in ("q", "owner", "subject", "service", "type", "status", "cursor", "before"):
        answer = staff.get(f"/dashboard/{page}", {name: MARKUP})
        assert answer.status_code in (200, 400)
        assert_harmless(answer.content.decode(), page)


def test_a_pasted_checkpoint_comes_back_as_text(fleet: list[Certificate], staff: Client) -> None:
    staff.handler.enforce_csrf_checks = False
    answer = staff.post("/dashboard/log/consistency/", {"checkpoint": f"</textarea>{HOSTILE}\n1\n"})
    assert_harmless(answer.content.decode(), "consistency")
    assert b"&lt;/textarea&gt;" in answer.content


def test_a_name_in_a_link_stays_one(fleet: list[Certificate], staff: Client) -> None:
    Certificate.objects.update(service="a&owner=b#c?/\u202e", owner='x" onclick="alert(1)')
    html = staff.get(f"/dashboard/certificates/{fleet[0].serial}/").content.decode()
    assert "/dashboard/services/a&amp;owner=b%23c%3F/%E2%80%AE/?node=" in html
    assert 'onclick="' not in html


def test_the_file_name_of_a_download(fleet: list[Certificate]) -> None:
    from dashboard.asking import attachment

    assert (
        attachment('a"\r\nX: y/../ü.pem')
        == "attachment; filename=\"a___X__y_..__.pem\"; filename*=UTF-8''a%22%0D%0AX%3A%20y%2F..%2F%C3%BC.pem"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcödé 漢字", "plain ünïcödé 漢字"),
        ("line\n\ttab\r\n", "line\n\ttab\r\n"),
        ("\u202eabc\u202c", "[U+202E]abc[U+202C]"),
        ("a\u00adb\ufeff", "a[U+00AD]b[U+FEFF]"),
        ("\x00\x1b[31m\x7f\x9b", "[U+0000][U+001B][31m[U+007F][U+009B]"),
        ("\u2028\u2029\u061c\U000e0001", "[U+2028][U+2029][U+061C][U+E0001]"),
    ],
)
def test_hidden_characters(text: str, shown: str) -> None:
    assert visible(text) == shown
