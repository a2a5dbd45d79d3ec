"""GET services/: nodes, generations and laggards, now and at any time, each caller's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from ca import mass_replacement, tokens
from ca.models import Certificate, CheckIn
from ca.selections import Selection
from dashboard import api, services
from eventlog import projections
from quicklime_site import health

from .support import SECOND, Issue, Renew, at, revoked

pytestmark = pytest.mark.django_db
Get = Callable[..., Any]


@pytest.fixture
def get(hierarchy: None, now: datetime) -> Get:
    """get(path, status=200, who="alice", **query): the JSON of an answer below /api/v1/."""
    secrets: dict[str, str] = {}

    def work(path: str, status: int = 200, who: str = "alice", **query: str) -> Any:
        if who not in secrets:
            scope = tokens.Scope(actions=("audit" if who == "auditor" else "read",))
            secrets[who] = tokens.create(who, who, scope, now, by="test")[1]
        projections.catch_up("lineage")
        answer = Client().get(f"/api/v1/{path}", query, headers={"Authorization": f"Bearer {secrets[who]}"})
        assert answer.status_code == status, answer.content
        return json.loads(answer.content)

    return work


def later(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(page: Any) -> dict[str, list[tuple[str, int, str]]]:
    return {each["node"]: [(one["serial"], one["generation"], one["status"]) for one in each["generations"]] for each in page["results"]}


def test_of_three_nodes_the_one_that_does_not_renew_is_left_behind_with_its_old_generation(issue: Issue, renew: Renew, get: Get) -> None:
    old = {node: issue(node=node) for node in ("n1", "n2", "n3")}
    new = {node: renew(old[node]) for node in ("n1", "n2")}
    projections.catch_up("lineage")
    renewed = services.Generation.objects.filter(serial__in=[each.serial for each in new.values()])
    renewed.update(renew_by=F("renew_by") + timedelta(days=60))  # as if they had renewed at two thirds of their lives
    before, after = later(at(old["n3"], 79.9)), later(at(old["n3"], 80.1))
    page = get("services/payroll/", at=before)
    assert (page["nodes"], page["current"], page["left_behind"], page["laggards"]) == (3, 3, 0, [])
    page = get("services/payroll/", at=after)
    assert shown(page)["n3"] == [(old["n3"].serial, 1, "left_behind")]
    (laggard,) = page["laggards"]
    assert (laggard["node"], laggard["serial"], laggard["generation"], laggard["never_renewed"]) == ("n3", old["n3"].serial, 1, True)
    now = shown(get("services/payroll/"))
    assert now["n1"] == [(new["n1"].serial, 2, "current"), (old["n1"].serial, 1, "superseded")]
    assert now["n3"] == [(old["n3"].serial, 1, "current")]
    projections.rebuild("lineage")


def test_a_node_that_renewed_is_not_left_behind_by_what_it_replaced(issue: Issue, renew: Renew, get: Get) -> None:
    old = issue()
    new = renew(old)
    assert new.not_after - old.not_after < timedelta(minutes=1)
    assert get("services/payroll/", at=later(at(old, 79)))["left_behind"] == 0


@pytest.mark.parametrize(("after_end", "left_behind", "status"), [
    (timedelta(0), 1, "left_behind"), (SECOND, 1, "expired"), (services.SILENT, 1, "expired"), (services.SILENT + SECOND, 0, "expired"),
])  # fmt: skip
def test_nobody_waits_for_ever(issue: Issue, get: Get, after_end: timedelta, left_behind: int, status: str) -> None:
    certificate = issue()
    page = get("services/payroll/", at=later(certificate.not_after + after_end))
    assert (page["left_behind"], len(page["laggards"])) == (left_behind, left_behind)
    assert shown(page)["n1"][0][2] == status


def test_a_revoked_node_is_not_left_behind(issue: Issue, get: Get, now: datetime) -> None:
    certificate = issue()
    revoked(certificate, now)
    page = get("services/payroll/", at=later(at(certificate, 90)))
    assert (page["revoked"], page["left_behind"], page["current"]) == (1, 0, 0)
    assert shown(page) == {"n1": [(certificate.serial, 1, "revoked")]}


def test_the_past_is_as_it_was(issue: Issue, renew: Renew, get: Get, now: datetime) -> None:
    first = issue()
    projections.catch_up("lineage")
    services.Generation.objects.update(issued_at=now - timedelta(hours=2))
    second = renew(first)
    then = later(now - timedelta(hours=1))
    assert shown(get("services/payroll/", at=then)) == {"n1": [(first.serial, 1, "current")]}
    assert shown(get("services/payroll/")) == {"n1": [(second.serial, 2, "current"), (first.serial, 1, "superseded")]}
    get("services/payroll/", status=404, at=later(now - timedelta(hours=3)))
    assert get("services/", at=later(now - timedelta(hours=3)))["results"] == []
    projections.rebuild("lineage")


def test_nodes_come_in_pages(issue: Issue, get: Get) -> None:
    for node in ("", "a", "b"):
        issue(node=node)
    first = get("services/payroll/", limit="2")
    assert list(shown(first)) == ["", "a"]
    assert first["nodes"] == 3
    cursor = first["next"].partition("cursor=")[2].replace("%7E", "~")
    second = get("services/payroll/", limit="2", cursor=cursor)
    assert (list(shown(second)), second["next"]) == (["b"], None)


def test_a_node_of_many_lines_goes_on_on_the_next_page(issue: Issue, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "LINES", 2)
    made = {node: sorted(issue(f"{name}.internal", node=node).serial for name in "abcde"[:count]) for node, count in (("n1", 5), ("n2", 2))}
    seen, cursor = [], {}
    while cursor is not None:
        page = get("services/payroll/", **cursor)
        seen.append([(node, sorted(one[0] for one in found)) for node, found in shown(page).items()])
        cursor = page["next"] and {"cursor": page["next"].partition("cursor=")[2].replace("%7E", "~")}
    n1, n2 = made["n1"], made["n2"]
    assert seen == [[("n1", n1[:2])], [("n1", n1[2:4])], [("n1", n1[4:]), ("n2", n2[:1])], [("n2", n2[1:])]]
    second = get("services/payroll/", limit="1", cursor=f"{api._cursor('n1', n1[3])}")
    assert (list(shown(second)), second["next"].partition("cursor=")[2].replace("%7E", "~")) == (["n1"], api._cursor("n1"))


def test_services_come_in_pages(issue: Issue, get: Get) -> None:
    for service in ("billing", "payroll", "wiki"):
        issue(service=service)
    issue(service="wiki", node="n2")
    first = get("services/", limit="2")
    assert [each["service"] for each in first["results"]] == ["billing", "payroll"]
    (wiki,) = get("services/", limit="2", cursor=first["next"].partition("cursor=")[2])["results"]
    assert (wiki["service"], wiki["nodes"], wiki["certificates"], wiki["left_behind"]) == ("wiki", 2, 2, 0)


def test_an_owner_sees_its_own_and_an_auditor_all(issue: Issue, get: Get) -> None:
    issue()
    assert get("services/", who="bob")["results"] == []
    assert get("services/payroll/", status=404, who="bob")["code"] == "notFound"
    assert [each["service"] for each in get("services/", who="auditor")["results"]] == ["payroll"]
    assert get("services/payroll/", who="auditor")["nodes"] == 1


@pytest.mark.parametrize(("query", "where"), [
    ({"at": "yesterday"}, "at"), ({"cursor": "x"}, "cursor"), ({"cursor": "~*"}, "cursor"), ({"cursor": "~YQ=="}, "cursor"),
    ({"cursor": "~AA"}, "cursor"), ({"cursor": "~_w"}, "cursor"), ({"cursor": "~YQ.1"}, "cursor"),
    ({"limit": "0"}, "limit"), ({"limit": "1e2"}, "limit"),
    ({"_connector": "OR"}, "query"),
])  # fmt: skip
def test_a_wrong_parameter_is_named(issue: Issue, get: Get, query: dict[str, str], where: str) -> None:
    issue()
    for path in ("services/", "services/payroll/"):
        problem = get(path, status=400, **query)
        assert [each["where"] for each in problem["errors"]] == [where]


def test_only_the_newest_generations_of_a_line_are_shown(issue: Issue, get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "GENERATIONS", 2)
    numbers = [issue().serial for _ in range(4)]
    assert [(serial, number) for serial, number, _ in shown(get("services/payroll/"))["n1"]] == [(numbers[3], 4), (numbers[2], 3)]


@pytest.mark.parametrize(("served", "deployed"), [("own", True), ("0" * 39 + "1", False), ("none", False), ("", None)])
def test_what_a_node_serves_is_shown(issue: Issue, get: Get, served: str, deployed: bool | None) -> None:
    certificate = issue()
    word = certificate.serial if served == "own" else served
    CheckIn.objects.create(serial=certificate.serial, said_at=timezone.now(), seen_at=datetime(2026, 1, 2, tzinfo=UTC), served=word)
    (one,) = get("services/payroll/")["results"][0]["generations"]
    assert (one["deployed"], one["seen_at"]) == (deployed, "2026-01-02T00:00:00Z")
    assert one["served"] == (None if word in ("none", "") else word)


def test_an_order_to_replace_shows_until_it_is_followed(issue: Issue, renew: Renew, get: Get, now: datetime) -> None:
    old = [issue(node=node) for node in ("n1", "n2", "n3")]
    issue(service="wiki")
    order = mass_replacement.order(Selection(service="payroll"), now + timedelta(days=2), "superseded", "a drill", "tester", now)
    assert get("services/payroll/")["to_be_replaced"] == 0, "nothing is marked yet"
    while mass_replacement.mark(order, now):
        pass
    renew(old[0])
    revoked(old[1], now)
    page = get("services/payroll/")
    wanted = {one["serial"] for node in page["results"] for one in node["generations"] if one["replace_by"] is not None}
    assert (page["to_be_replaced"], wanted) == (1, {old[2].serial})
    (left,) = (node["generations"][0]["replace_by"] for node in page["results"] if node["node"] == "n3")
    assert left == later(now + timedelta(days=2))
    assert get("services/wiki/")["to_be_replaced"] == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="by PostgreSQL's plan")
def test_who_awaits_replacement_is_found_without_a_look_at_all_certificates() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # of an empty table it would be the plan in any case
    assert "ca_certificate_replacement" in Certificate.objects.filter(**services.AWAITED).explain()


def test_who_was_left_behind_is_found_by_index_of_the_past_too(now: datetime) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # of an empty table it would be the plan in any case
    view = services.View(None, now - timedelta(days=100), now)
    assert "dashboard_generation_late" in services.lagging(view).explain()


def test_readiness_counts_who_was_left_behind_and_stays_green(issue: Issue) -> None:
    certificate = issue()
    projections.catch_up("lineage")
    assert health.look(at(certificate, 79))["renewals"] == {"ok": True, "left_behind": 0, "or_more": False, "nodes": []}
    report = health.look(at(certificate, 81))["renewals"]
    assert (report["ok"], report["left_behind"]) == (True, 1)
    assert [(each["service"], each["node"], each["generation"]) for each in report["nodes"]] == [("payroll", "n1", 1)]


@pytest.mark.parametrize(("actions", "named"), [(("audit",), True), (("read", "issue"), False), (None, False)])
def test_readiness_names_nodes_for_auditors_only(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, actions: tuple[str, ...] | None, named: bool
) -> None:
    certificate: Certificate = issue()
    projections.catch_up("lineage")
    report = health.look(at(certificate, 81))
    monkeypatch.setattr(health._probe, "latest", lambda: report)
    header = (
        {} if actions is None else {"Authorization": "Bearer " + tokens.create("t", "t", tokens.Scope(actions=actions), now, by="test")[1]}
    )
    renewals = json.loads(Client().get("/readyz", headers=header).content)["checks"]["renewals"]
    assert renewals["left_behind"] == 1
    assert ("nodes" in renewals) is named
    assert json.loads(Client().get("/readyz", headers={"Authorization": "Bearer wrong"}).content)["checks"]["renewals"].get("nodes") is None


def test_a_cursor_leads_behind_any_name() -> None:
    assert api._cursor("") == "~"
    assert api._cursor("n1") == "~bjE"
