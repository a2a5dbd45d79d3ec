"""Overview, requests, issuers and tokens, empty and full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from ca import pipeline, tokens
from ca.models import Certificate, Request, Token
from dashboard import charts, expiry, vitals
from dashboard.pages import tokens as tokens_page
from ocsp import crls
from tests.material import csr

from ..support import Issue, at
from .conftest import settle

pytestmark = pytest.mark.django_db


def html(staff: Client, path: str) -> str:
    answer = staff.get(f"/dashboard/{path}")
    assert answer.status_code == 200
    return answer.content.decode()


# --- Overview


def numbers(staff: Client) -> dict[str, int]:
    return {label: count for label, count, _ in staff.get("/dashboard/").context["numbers"]}


def test_an_installation_without_certificates_teaches_the_first_request(hierarchy: None, staff: Client) -> None:
    page = html(staff, "")
    assert "No certificate yet" in page
    assert "All is well" in page


def test_the_first_request_is_one_that_this_installation_would_serve(hierarchy: None, staff: Client, settings: Any) -> None:
    settings.ZONES, settings.STATE = ("localhost", "fleet.example"), Path("/srv/quick lime")
    page = unescape(html(staff, ""))
    assert "-subj /CN=payroll.fleet.example -addext subjectAltName=DNS:payroll.fleet.example\n" in page
    assert "--cacert '/srv/quick lime/root.pem' -H \"Authorization: Bearer $(cat '/srv/quick lime/token')\"" in page


def test_what_was_done_lately(fleet: list[Certificate], staff: Client) -> None:
    found = numbers(staff)
    assert (found["issued in 24 h"], found["revoked in 24 h"], found["rejected in 24 h"]) == (4, 1, 0)


def test_what_ends_when(fleet: list[Certificate], issue: Issue, staff: Client, now: datetime) -> None:
    assert numbers(staff)["end within 30 days"] == 0
    issue("soon.internal", not_after=now + timedelta(days=3))
    issue("later.internal", not_after=now + timedelta(days=20))
    settle()
    assert (numbers(staff)["end within 7 days"], numbers(staff)["end within 30 days"]) == (1, 2)
    issue("soon.internal", not_after=now + timedelta(days=50))
    settle()
    assert (numbers(staff)["end within 7 days"], numbers(staff)["end within 30 days"]) == (0, 1), "a newer one took its place"
    marks = staff.get("/dashboard/").context["horizon"].marks
    assert sorted(mark.label.split(": ")[1] for mark in marks) == ["1 ending", "1 ending"]


@pytest.mark.usefixtures("other_time")
def test_what_missed_its_renewal_wants_attention(issue: Issue, staff: Client, now: datetime) -> None:
    one = issue("late.internal", not_after=now + timedelta(days=2))
    expiry.flag_due(at(one, 85))
    page = html(staff, "")
    assert "Runs well" in page
    assert "late.internal" in page
    assert "renewal missed" in page


def test_what_is_not_well_comes_first(fleet: list[Certificate], staff: Client, health: dict[str, Any]) -> None:
    health["beat"] = {"ok": False, "seconds_ago": 712.0}
    health["requests"] = {"ok": False, "unfinished": 1234, "oldest_seconds": 300.5}
    health["backups"] = {"ok": True, "late": True, "by": "", "seconds_ago": None, "events_since": 3}
    page = html(staff, "")
    assert "Not well" in page
    assert [part.name for part in staff.get("/dashboard/").context["sick"]] == ["Pipeline", "Backups", "Beat"]
    assert "1,234 in flight, the oldest for 300.5 s" in page


def test_it_follows_by_itself(fleet: list[Certificate], staff: Client) -> None:
    part = staff.get("/dashboard/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="overview" hx-get="/dashboard/"')
    assert "<html" not in part


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"requests": {"ok": True, "unfinished": 0, "oldest_seconds": 0.0}}, "nothing waits"),
        ({"ocsp": {"ok": False, "overdue_seconds": 90.0, "missing_seconds": 0.0, "next_update": None}}, "90 s late"),
        ({"ocsp": {"ok": True, "overdue_seconds": 0.0, "next_update": "2030-01-31T10:54:00Z"}}, "good until 31 Jan 10:54"),
        ({"crl": {"ok": False, "overdue": 2, "next_update": None}}, "2 overdue"),
        ({"backups": {"ok": True, "late": True, "by": "", "seconds_ago": None, "events_since": 7}}, "none is known"),
        ({"backups": {"ok": True, "late": True, "by": "x", "seconds_ago": 93_700.0, "events_since": 1}}, "1 d ago, 1 event since"),
        ({"renewals": {"ok": True, "left_behind": 1000, "or_more": True, "nodes": []}}, "1,000 or more nodes left behind"),
        ({"beat": {"ok": False, "seconds_ago": None}}, "never seen"),
        ({"projections": {"ok": False, "behind": {"a": 5}, "stopped": ["a"]}}, "stopped: a"),
        ({"projections": {"ok": True, "behind": {"a": 5, "b": 1200}, "stopped": []}}, "1,205 events behind"),
        ({"shapes": {"ok": False, "failed": ["server P-256"]}}, "refused: server P-256"),
        ({"log": {"ok": False, "error": "behind"}}, "behind"),
        ({"database": {"ok": False, "error": "OperationalError"}}, "OperationalError"),
        ({"answer": {"ok": False, "detail": "late"}}, "late"),
        ({"anything new": {"ok": True, "some_number": 3}}, "some number 3"),
    ],
)
def test_health_in_words(check: dict[str, Any], said: str) -> None:
    (part,) = vitals.parts(check)
    (found,) = check.values()
    assert (part.says, part.ok) == (said, found["ok"] and not found.get("late"))


def test_the_real_report_has_words_for_every_check(hierarchy: None) -> None:
    from quicklime_site import health

    report = health.look(datetime.now(UTC))
    assert [part.name for part in vitals.parts(report) if part.name in report] == [], "a check without a line in the table"


# --- Requests


def test_no_request_yet(hierarchy: None, staff: Client) -> None:
    page = html(staff, "requests/")
    assert "Nothing waits" in page
    assert "No request yet" in page


def test_in_flight_with_its_step(token: Token, staff: Client, now: datetime) -> None:
    asked = pipeline.Submission(csr=csr("wait.internal"), service="payroll", node="n1")
    (request,) = pipeline.submit(token, [asked], now)
    assert isinstance(request, Request)
    for state, done in (("received", 0), ("validated", 1), ("signed", 2), ("challenged", 3)):
        Request.objects.filter(id=request.id).update(state=state)
        (row,) = staff.get("/dashboard/requests/").context["waiting"]
        assert [kind for _, kind in row["steps"]] == ["done"] * done + ["next"] + ["later"] * (3 - done)
    page = html(staff, f"requests/{request.id}/")
    assert "dns:wait.internal" in page
    assert 'aria-current="step"' in page


def test_live_without_the_frame(fleet: list[Certificate], staff: Client) -> None:
    part = staff.get("/dashboard/requests/", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="requests" hx-get="/dashboard/requests/" hx-trigger="every 2s"')
    assert fleet[0].serial in part


def test_why_one_was_rejected(token: Token, staff: Client, now: datetime, run_pipeline: Any) -> None:
    (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal"), service="p", node="n")], now)
    assert isinstance(request, Request)
    tokens.revoke(token.id, now, by="test", why="test")
    run_pipeline()
    for path in ("requests/", f"requests/{request.id}/"):
        assert "tokenRevoked" in html(staff, path)


def test_a_request_of_which_only_the_log_knows(fleet: list[Certificate], staff: Client) -> None:
    Request.objects.all().delete()
    page = html(staff, f"requests/{fleet[0].request}/")
    assert "Only the log knows this request" in page
    assert fleet[0].serial in page


# --- Issuers


def test_no_issuer_yet(staff: Client) -> None:
    assert "manage.py init_root" in html(staff, "issuers/")


def test_the_tree(hierarchy: None, staff: Client) -> None:
    (root,) = staff.get("/dashboard/issuers/").context["roots"]
    (child,) = root.children
    assert (root.row["name"], child.row["name"], child.children) == ("root", "issuing-1", [])
    assert dict(child.constraints)["DNS zones"] == ["internal", "localhost", "fleet.example"]
    assert "server" in child.profiles
    assert "none published yet" in html(staff, "issuers/")


def test_its_crl(fleet: list[Certificate], staff: Client) -> None:
    while crls.publish_due(datetime.now(UTC) + timedelta(seconds=1)):
        pass
    (root,) = staff.get("/dashboard/issuers/").context["roots"]
    assert root.children[0].crls[0].shard is None
    assert "No. " in html(staff, "issuers/")
    page = html(staff, "issuers/issuing-1/")
    assert '<th scope="row">full</th>' in page
    assert "permitted: DNS internal" in page
    assert "every e-mail" in page


def test_one_that_ends_soon_says_so(hierarchy: None, staff: Client, now: datetime) -> None:
    from ca.models import Issuer

    Issuer.objects.filter(name="issuing-1").update(not_before=now - timedelta(days=90), not_after=now + timedelta(days=10))
    assert staff.get("/dashboard/issuers/").context["roots"][0].children[0].standing == "ending"
    Issuer.objects.filter(name="issuing-1").update(not_after=now - timedelta(days=1))
    assert staff.get("/dashboard/issuers/issuing-1/").context["standing"] == "expired"


# --- Tokens


def test_no_token_yet(staff: Client) -> None:
    assert "manage.py create_token --owner" in html(staff, "tokens/")


def test_the_command_it_teaches_works(hierarchy: None, capsys: pytest.CaptureFixture[str]) -> None:
    import re
    import shlex
    from pathlib import Path

    from django.core.management import call_command

    import dashboard

    text = (Path(dashboard.__file__).parent / "templates/dashboard/tokens.html").read_text()
    (command,) = re.findall(r"manage\.py (create_token .*?)</code>", text)
    call_command(*shlex.split(command))
    assert Token.objects.get().owner == "team-payroll"


def test_tokens_and_their_standing(hierarchy: None, staff: Client, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (("one", "alice", None), ("two", "bob", now - timedelta(days=1)), ("three", "bob", None))
    made = [tokens.create(label, owner, tokens.Scope(expires_at=ends), now, by="test") for label, owner, ends in wanted]
    tokens.revoke(made[2][0], now, by="test", why="lost")
    shown = [(token.label, standing) for token, standing in staff.get("/dashboard/tokens/").context["tokens"]]
    assert shown == [("three", "revoked"), ("two", "expired"), ("one", "live")]
    assert [token.label for token, _ in staff.get("/dashboard/tokens/?owner=alice").context["tokens"]] == ["one"]
    page = html(staff, "tokens/")
    assert not any(secret in page for _, secret in made)
    monkeypatch.setattr(tokens_page, "SIZE", 2)
    older = staff.get("/dashboard/tokens/").context["older"]
    assert [token.label for token, _ in staff.get(f"/dashboard/tokens/?before={older}").context["tokens"]] == ["one"]


# --- Charts


def test_columns_fit_their_field() -> None:
    chart = charts.columns("t", [("a", [("issued", 10), ("revoked", 10)]), ("b", [("issued", 0)]), ("c", [("issued", 1)])])
    assert [mark.label for mark in chart.marks] == ["a: 10 issued", "a: 10 revoked", "c: 1 issued"]
    assert all(mark.y >= 0 and mark.y + mark.height <= chart.height and mark.x + mark.width <= chart.width for mark in chart.marks)
    assert chart.marks[1].y + chart.marks[1].height == pytest.approx(chart.marks[0].y, abs=0.11)
    assert charts.columns("empty", []).marks == []


def test_spans_fit_their_field(now: datetime) -> None:
    day = timedelta(days=1)
    chart = charts.spans("t", [("a", "this", now - 10 * day, now - day), ("b", "other", now - 2 * day, now + 30 * day)], now)
    assert all(mark.x >= 0 and mark.x + mark.width <= chart.width + 2 for mark in chart.marks)
    assert chart.marks[-1].kind == "now"
    assert charts.share(now - day, now + day, now) == 50
    assert charts.share(now + day, now + 2 * day, now) == 0
    assert charts.share(now, now, now) == 100
