"""Lineage: which generation each certificate is, in which line, and what took its place; a rebuild gives the same rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from django.db import connection

from ca import pipeline, tokens
from ca.models import Certificate, Token
from dashboard import tasks
from dashboard.models import Generation
from eventlog import projections
from eventlog.models import Cursor, Event
from tests.material import csr

from .support import Issue, Renew, revoked

pytestmark = pytest.mark.django_db


def generation(certificate: Certificate) -> Generation:
    projections.catch_up("lineage")
    return Generation.objects.get(serial=certificate.serial)


def standing(certificate: Certificate) -> tuple[str, int, str | None]:
    row = generation(certificate)
    return row.line, row.number, row.superseded_by


def test_the_first_certificate_of_a_place_begins_a_line(issue: Issue) -> None:
    first = issue()
    row = generation(first)
    assert standing(first) == (first.serial, 1, None)
    assert [row.service, row.node, row.owner, row.profile, row.names] == ["payroll", "n1", "alice", "server", ["dns:a.internal"]]
    assert (row.not_before, row.not_after) == (first.not_before, first.not_after)


def test_its_end_and_when_its_successor_is_due_are_the_events(issue: Issue) -> None:
    first = issue()
    body = json.loads(bytes(Event.objects.get(type="certificate.issued", subject=first.serial).body))
    row = generation(first)
    assert row.renew_by == datetime.fromisoformat(body["data"]["renew_by"])
    assert row.not_before < row.renew_by < row.not_after
    assert row.issued_at == datetime.fromisoformat(body["time"])


def test_a_renewal_continues_the_line(issue: Issue, renew: Renew) -> None:
    first = issue()
    second = renew(first)
    third = renew(second)
    assert standing(first) == (first.serial, 1, second.serial)
    assert standing(second) == (first.serial, 2, third.serial)
    assert standing(third) == (first.serial, 3, None)
    assert generation(first).superseded_at == generation(second).issued_at


def test_asking_anew_for_the_same_place_continues_it_too(issue: Issue) -> None:
    first, second = issue("a.internal", "b.internal"), issue("b.internal", "a.internal")
    assert standing(second) == (first.serial, 2, None)
    assert standing(first) == (first.serial, 1, second.serial)


@pytest.mark.parametrize("other", [{"service": "billing"}, {"node": "n2"}, {"profile": "client"}])
def test_another_place_is_another_line(issue: Issue, other: dict[str, Any]) -> None:
    first, second = issue(), issue(**other)
    assert standing(first) == (first.serial, 1, None)
    assert standing(second) == (second.serial, 1, None)


def test_another_owner_takes_no_line_over(issue: Issue, run_pipeline: Callable[[], None], now: datetime) -> None:
    first = issue()
    scope = tokens.Scope(actions=("issue",), profiles=("*",))
    bob = Token.objects.get(id=tokens.create("test", "bob", scope, now, by="test")[0])
    pipeline.submit(bob, [pipeline.Submission(csr=csr("a.internal"), service="payroll", node="n1")], now)
    run_pipeline()
    projections.catch_up("lineage")
    assert standing(first) == (first.serial, 1, None)
    assert Generation.objects.get(owner="bob").number == 1


def test_a_renewal_with_other_names_continues_its_line_and_takes_over_the_place_it_comes_to(issue: Issue, renew: Renew) -> None:
    first, other = issue("a.internal"), issue("b.internal")
    second = renew(first, "b.internal")
    assert standing(second) == (first.serial, 2, None)
    assert standing(first)[2] == standing(other)[2] == second.serial


def test_a_renewal_of_what_was_asked_for_anew_meanwhile_becomes_the_newest(issue: Issue, renew: Renew) -> None:
    first = issue()
    anew = issue()
    renewed = renew(first)
    assert standing(first) == (first.serial, 1, anew.serial)
    assert standing(anew) == (first.serial, 2, renewed.serial)
    assert standing(renewed) == (first.serial, 3, None)


def test_what_belongs_to_no_service_has_no_lineage(issue: Issue) -> None:
    issue(service="")
    projections.catch_up("lineage")
    assert not Generation.objects.exists()


def test_a_revoked_one_stays_the_newest_until_another_comes(issue: Issue, now: datetime) -> None:
    first = issue()
    revoked(first, now)
    assert generation(first).revoked_at == now
    assert standing(first)[2] is None
    second = issue()
    assert standing(second) == (first.serial, 2, None)
    assert (generation(first).revoked_at, standing(first)[2]) == (now, second.serial)


def test_it_has_no_index_that_nothing_asks_for(db: None) -> None:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Generation._meta.db_table)
    named = {each.name for each in (*Generation._meta.indexes, *Generation._meta.constraints)}
    assert {name for name, each in found.items() if each["index"] and not each["primary_key"]} == named


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_runs_of_any_length_make_the_same_rows(
    issue: Issue, renew: Renew, now: datetime, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    first = issue()
    anew = issue()
    renewed = renew(first, "b.internal")
    other = renew(anew, "c.internal")
    revoked(renewed, now)
    issue("c.internal")
    projections.catch_up("lineage")
    before = list(Generation.objects.order_by("serial").values())
    monkeypatch.setattr(projections.events, "CHUNK", chunk)
    projections.rebuild("lineage")
    assert list(Generation.objects.order_by("serial").values()) == before
    assert standing(other)[1] == 3


def test_the_task_reads_a_slice_at_a_time(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    for node in ("n1", "n2", "n3"):
        issue(node=node)
    monkeypatch.setattr(projections.events, "CHUNK", 2)
    monkeypatch.setattr(tasks, "SLICE", 2)
    tasks.follow()
    assert Cursor.objects.get(name="lineage").position == 2
    for _ in range(Event.objects.count()):
        tasks.follow()
    assert Generation.objects.count() == 3


def test_a_fault_is_noted_and_the_worker_goes_on(issue: Issue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    issue()

    def fail(events: object) -> None:
        raise RuntimeError("no")

    projection = projections._registered["lineage"]
    with monkeypatch.context() as patch:
        patch.setitem(projections._registered, "lineage", replace(projection, handlers=dict.fromkeys(projection.handlers, fail)))
        tasks.follow()
    assert "lineage stopped: no" in caplog.text
    assert Cursor.objects.get(name="lineage").error == "RuntimeError: no"


@pytest.mark.django_db(transaction=True)
def test_reading_on_while_others_append_loses_nothing(issue: Issue, token: Token) -> None:
    issue()
    rounds, failures, done = 6, [], threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                projections.catch_up("lineage")
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(rounds):
        issue(node=f"m{number}")
    done.set()
    reader.join()
    assert not failures
    projections.catch_up("lineage")
    assert Generation.objects.count() == rounds + 1
