"""Many replaced before a deadline: what an order marks, who may renew how, what is revoked when, and that nothing is done twice."""

from __future__ import annotations

import contextlib
import io
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client

from ca import hierarchy, issuance, mass_replacement, pipeline, revocation, tasks, tokens
from ca.checkins import Word, check_in
from ca.errors import Problem
from ca.mass_replacement import LONGEST, SETTLE, SHORTEST
from ca.models import Certificate, CheckIn, Replacement, Request
from ca.pki import proofs
from ca.selections import Selection
from eventlog import projections
from eventlog.append import append
from eventlog.models import Event
from quicklime_site import schedule
from tests.ca.pki.forge import sign
from tests.material import csr, new_key

from .test_mass_revocation import Issue, said, spki
from .test_mass_revocation import issue as issue
from .test_mass_revocation import token as token

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAYROLL = Selection(service="payroll")
Pipeline = Callable[[], None]
Renew = Callable[..., Certificate]


@pytest.fixture
def renew(run_pipeline: Pipeline) -> Renew:
    """Renew a certificate of `key` as its node would; the successor."""

    def make(old: Certificate, key: ec.EllipticCurvePrivateKey, new: ec.EllipticCurvePrivateKey | None = None) -> Certificate:
        answer = ask(old, key, new)
        assert isinstance(answer, Request), answer
        run_pipeline()
        return Certificate.objects.get(request=answer.id)

    return make


def ask(old: Certificate, key: ec.EllipticCurvePrivateKey, new: ec.EllipticCurvePrivateKey | None = None) -> Request | Problem:
    from hashlib import sha256

    der = csr(*(name.partition(":")[2] for name in old.names), key=new)
    key_id = issuance.issuer_facts(old.issuer).key_id
    statement = proofs.renewal_statement(key_id, old.serial, bytes(old.renewal_challenge), sha256(der).digest())
    return pipeline.renew(None, pipeline.Renewal(old.serial, der, sign(key, statement)), datetime.now(UTC))


def tell(certificate: Certificate, key: ec.EllipticCurvePrivateKey, served: str, now: datetime) -> Certificate:
    """Check in as the certificate's node; the certificate as it is then."""
    time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    statement = proofs.check_in_statement(issuance.issuer_facts(certificate.issuer).key_id, certificate.serial, time, served)
    check_in(Word(certificate.serial, served, time, sign(key, statement)), now)
    return Certificate.objects.get(serial=certificate.serial)


def give(selection: Selection, now: datetime, reason: str = "superseded", after: timedelta = 2 * DAY) -> str:
    return mass_replacement.order(selection, now + after, reason, "a drill", "tester", now)


def mark_all(order: str, now: datetime) -> None:
    while mass_replacement.mark(order, now):
        pass


def marked(order: str) -> set[str]:
    return set(Certificate.objects.filter(replacement=order).values_list("serial", flat=True))


def revoked() -> dict[str, str]:
    return dict(Certificate.objects.exclude(revoked_at=None).values_list("serial", "reason"))


def serials(certificates: list[Certificate]) -> set[str]:
    return {each.serial for each in certificates}


# --- orders and marks


def test_an_order_marks_what_it_selects_in_chunks_and_the_log_says_so(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_replacement, "CHUNK", 2)
    wanted, _ = issue(5, service="payroll"), issue(2)
    order = give(PAYROLL, now)
    assert marked(order) == set()
    later = issue(1, service="payroll")
    mark_all(order, now)
    assert marked(order) == serials(wanted)
    assert not marked(order) & serials(later), "issued after the order"
    assert set(Certificate.objects.filter(replacement=order).values_list("replace_by", "replace_key")) == {(now + 2 * DAY, False)}
    (ordered,) = said("replacement.ordered")
    assert (ordered["selected"], ordered["selection"], ordered["new_key"]) == (5, {"service": "payroll"}, False)
    assert [len(event["serials"]) for event in said("replacement.marked")] == [2, 2, 1]
    assert not mass_replacement.mark(order, now)
    assert revoked() == {}


def test_an_interrupted_order_is_taken_up_by_the_beat(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_replacement, "CHUNK", 2)
    wanted = issue(5, service="payroll")
    order = give(PAYROLL, now)
    mass_replacement.mark(order, now)
    assert len(marked(order)) == 2
    mass_replacement.tend(now)
    assert marked(order) == serials(wanted)


def test_one_beat_does_no_more_than_its_turn(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_replacement, "CHUNK", 1)
    monkeypatch.setattr(mass_replacement, "TURN", 2)
    wanted = issue(5, service="payroll")
    order = give(PAYROLL, now)
    mass_replacement.tend(now)
    assert len(marked(order)) == 2
    for _ in range(3):
        mass_replacement.tend(now)
    assert marked(order) == serials(wanted)
    for beats in (1, 2):
        mass_replacement.tend(now + 3 * DAY)
        assert len(revoked()) == 2 * beats
    mass_replacement.tend(now + 3 * DAY)
    assert len(said("replacement.completed")) == 1


def test_what_is_revoked_expired_or_the_cas_own_is_not_meant(issue: Issue, now: datetime) -> None:
    (alive,), (gone,), (own,) = issue(), issue(), issue(owner=hierarchy.SELF)
    revocation.revoke([gone.serial], revocation.Cause("superseded", "operator"), now)
    order = give(Selection(issuer="issuing-1"), now)
    mark_all(order, now)
    assert marked(order) == {alive.serial}
    assert own.serial not in marked(order)
    assert mass_replacement.preview(Selection(issuer="issuing-1"), now + 400 * DAY).total == 0


def test_of_two_orders_the_earlier_deadline_stands(issue: Issue, now: datetime) -> None:
    (certificate,) = issue(service="payroll")
    first, second, third = (give(PAYROLL, now, after=after) for after in (2 * DAY, 3 * DAY, DAY))
    for order, expected in ((first, first), (second, first), (third, third)):
        mark_all(order, now)
        assert marked(expected) == {certificate.serial}


@pytest.mark.parametrize("after", [SHORTEST - MINUTE, LONGEST + MINUTE, -DAY])
def test_a_deadline_has_bounds(issue: Issue, now: datetime, after: timedelta) -> None:
    with pytest.raises(Problem, match="nodes look in"):
        give(PAYROLL, now, after=after)


@pytest.mark.parametrize("reason", ["keyCompromise", "certificateHold", "aACompromise", ""])
def test_reasons_that_bear_no_delay_or_are_none(hierarchy: None, now: datetime, reason: str) -> None:
    with pytest.raises(Problem) as refusal:
        give(PAYROLL, now, reason)
    assert refusal.value.code == "reasonForbidden"
    assert not Event.objects.filter(type="replacement.ordered").exists()


# --- renewing early


def test_the_node_learns_of_it_until_it_has_renewed(issue: Issue, renew: Renew, now: datetime) -> None:
    key = new_key()
    (old,) = issue(service="payroll", key=key)
    mark_all(give(PAYROLL, now), now)
    told = tell(old, key, old.serial, now)
    assert (told.replace_by, told.replaced_by) == (now + 2 * DAY, None)
    new = renew(old, key)
    assert (new.replaces, new.replacement, new.replace_by) == (old.serial, None, None)


def test_an_order_for_a_key_wants_another(issue: Issue, renew: Renew, now: datetime) -> None:
    key, other = new_key(), new_key()
    (of_key,), (of_other,) = issue(service="payroll", key=key), issue(service="payroll", key=other)
    mark_all(give(Selection(key=spki(of_key)), now), now)
    mark_all(give(PAYROLL, now), now)
    answer = ask(of_key, key, key)
    assert isinstance(answer, Problem)
    assert answer.code == "keyReused"
    assert renew(of_key, key).replaces == of_key.serial
    assert renew(of_other, other, other).replaces == of_other.serial, "its key is no reason"


# --- what is revoked when


def test_what_is_served_anew_is_revoked_at_once(issue: Issue, renew: Renew, now: datetime) -> None:
    key, new_one = new_key(), new_key()
    (old, _) = issue(service="payroll", key=key), issue(service="payroll")
    old = old[0]
    order = give(PAYROLL, now, "cessationOfOperation")
    new = renew(old, key, new_one)
    mass_replacement.tend(now)
    assert revoked() == {}, "issued, but nobody has seen it in its place"
    tell(new, new_one, old.serial, now)
    mass_replacement.tend(now + SETTLE + HOUR)
    assert revoked() == {}, "issued, but not deployed"
    CheckIn.objects.update(said_at=now - HOUR)
    tell(new, new_one, new.serial, now)
    mass_replacement.tend(now)
    assert revoked() == {old.serial: "cessationOfOperation"}
    (event,) = said("certificate.revoked")
    assert (event["order"], event["by"], event["way"]) == (order, "tester", "operator")
    assert said("replacement.completed") == []


def test_where_nobody_looks_it_is_given_an_hour(issue: Issue, renew: Renew, now: datetime) -> None:
    key, new_one = new_key(), new_key()
    (old,) = issue(service="payroll", key=key)
    give(PAYROLL, now)
    new = renew(old, key, new_one)
    tell(new, new_one, "", now)
    mass_replacement.tend(now + SETTLE - 5 * MINUTE)
    assert revoked() == {}
    mass_replacement.tend(now + SETTLE + MINUTE)
    assert revoked() == {old.serial: "superseded"}


def test_the_deadline_ends_it_once_after_an_outage_too(issue: Issue, renew: Renew, now: datetime) -> None:
    key, new_one = new_key(), new_key()
    (lazy, stuck) = issue(service="payroll")[0], issue(service="payroll", key=key)[0]
    order = give(PAYROLL, now)
    new = renew(stuck, key, new_one)
    tell(new, new_one, stuck.serial, now)
    for at in (now + 2 * DAY - MINUTE, now + 2 * DAY - 2 * MINUTE):
        mass_replacement.tend(at)
        assert revoked() == {}
    for at in (now + 5 * DAY, now + 5 * DAY, now + 6 * DAY):  # the beat was away for three days
        mass_replacement.tend(at)
        assert revoked() == {lazy.serial: "superseded", stuck.serial: "superseded"}
    assert said("replacement.completed") == [{"order": order, "marked": 2, "replaced": 1, "left": 1}]
    assert len(said("certificate.revoked")) == 2


def test_what_was_replaced_before_the_order_goes_too(issue: Issue, renew: Renew, now: datetime) -> None:
    key, new_one = new_key(), new_key()
    (old,) = issue(service="payroll", key=key)
    new = renew(old, key, new_one)
    order = give(PAYROLL, now)
    mark_all(order, now)
    assert marked(order) == {old.serial, new.serial}
    tell(new, new_one, new.serial, now)
    mass_replacement.tend(now)
    assert revoked() == {old.serial: "superseded"}


def test_an_order_of_which_nothing_is_left_is_completed(issue: Issue, now: datetime) -> None:
    (gone, _) = issue(service="payroll")[0], issue(service="payroll")[0]
    order = give(PAYROLL, now)
    mark_all(order, now)
    revocation.revoke([gone.serial], revocation.Cause("keyCompromise", "operator"), now)
    mass_replacement.tend(now + 3 * DAY)
    assert revoked()[gone.serial] == "keyCompromise", "the graver reason stays"
    assert said("replacement.completed") == [{"order": order, "marked": 2, "replaced": 0, "left": 2}]
    empty = give(Selection(service="nobody"), now)
    mass_replacement.tend(now)
    assert {"order": empty, "marked": 0, "replaced": 0, "left": 0} in said("replacement.completed")


class Dead(Exception):
    pass


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("death", range(1, 9))
def test_a_death_at_any_write_is_made_good_by_the_next_beat(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, death: int, moment: str
) -> None:
    """Eight writes: three marks, an empty fourth look, three revocations, the end. One that dies in a transaction leaves nothing of it."""
    monkeypatch.setattr(mass_replacement, "CHUNK", 2)
    wanted = issue(5, service="payroll")
    order = give(PAYROLL, now)
    writes = 0

    def dying(*arguments: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == death and moment == "before":
            raise Dead
        done = append(*arguments, **more)
        if writes == death:
            transaction.on_commit(die)
        return done

    def die() -> None:
        raise Dead

    with monkeypatch.context() as patch, contextlib.suppress(Dead):
        patch.setattr(mass_replacement, "append", dying)
        patch.setattr(revocation, "append", dying)
        mass_replacement.tend(now + 3 * DAY)
    mass_replacement.tend(now + 3 * DAY)
    assert marked(order) == serials(wanted) == revoked().keys()
    assert len(said("certificate.revoked")) == 5
    assert said("replacement.completed") == [{"order": order, "marked": 5, "replaced": 0, "left": 5}]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("at", [timedelta(0), 3 * DAY])
def test_two_beats_at_once_do_it_once(issue: Issue, now: datetime, at: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time")
    monkeypatch.setattr(mass_replacement, "CHUNK", 2)
    wanted = issue(7, service="payroll")
    order = give(PAYROLL, now)
    start = Barrier(4)

    def beat() -> None:
        try:
            start.wait()
            mass_replacement.tend(now + at)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(beat) for _ in range(4)]:
            done.result()
    mass_replacement.tend(now + at)
    assert marked(order) == serials(wanted)
    listed = [serial for event in said("replacement.marked") for serial in event["serials"]]
    assert len(listed) == len(set(listed)) == 7
    assert len(said("certificate.revoked")) == (7 if at else 0)
    assert len(said("replacement.completed")) == (1 if at else 0)


def test_the_tables_are_made_from_the_log(issue: Issue, now: datetime) -> None:
    issue(3, service="payroll")
    order = give(PAYROLL, now)
    mass_replacement.tend(now)
    mass_replacement.tend(now + 3 * DAY)
    before = Replacement.objects.values().get()
    projections.rebuild("ca")
    assert Replacement.objects.values().get() == before
    assert (before["order"], before["marked_to"], before["completed_at"] is None) == (order, before["position"], False)


def test_the_beat_calls_it(issue: Issue, now: datetime) -> None:
    assert schedule.BEAT["replacements"]["task"] == tasks.tend_replacements.name
    assert schedule.ROUTES[tasks.tend_replacements.name] == {"queue": "upkeep"}
    wanted = issue(2, service="payroll")
    order = give(PAYROLL, now)
    tasks.tend_replacements()
    assert marked(order) == serials(wanted)


# --- the command


def run(*arguments: str) -> str:
    said = io.StringIO()
    call_command("replace_certificates", *arguments, stdout=said)
    return said.getvalue()


def test_the_command_shows_first_and_orders_with_yes(issue: Issue, renew: Renew, now: datetime) -> None:
    key = new_key()
    (old,), _ = issue(service="payroll", node="n1", key=key), issue(2, service="payroll")
    renew(old, key)
    shown = run("--service", "payroll", "--why", "a drill")
    assert "4 to replace before" in shown
    assert "1 of them have a successor already" in shown
    assert "dry run" in shown
    assert not Replacement.objects.exists()
    assert "order " in run("--service", "payroll", "--why", "a drill", "--deadline", "3d", "--yes")
    row = Replacement.objects.get()
    assert timedelta(days=3) - MINUTE < row.deadline - now < timedelta(days=3) + MINUTE
    assert (row.marked_to, len(marked(row.order)), row.by, row.reason) == (row.position, 4, "manage.py", "superseded")
    status = run("--status", row.order)
    assert "under way" in status
    assert "waiting: payroll - " in status
    assert row.order in run("--status")
    mass_replacement.tend(now + 4 * DAY)
    assert "completed" in run("--status", row.order)


def test_the_command_warns_where_it_would_not_help(issue: Issue, now: datetime) -> None:
    (certificate,) = issue(service="payroll")
    assert "issuing-1 still signs" in run("--issuer", "issuing-1", "--why", "x")
    assert "the token lives" in run("--token", certificate.token, "--why", "x")
    tokens.revoke(certificate.token, now, "test", "leaked")
    assert "the token has ended" in run("--token", certificate.token, "--why", "x")
    assert "note:" not in run("--service", "payroll", "--why", "x")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "say which"),
        (("--service", "x"), "--why"),
        (("--service", "x", "--why", " "), "--why"),
        (("--service", "x", "--why", "y", "--deadline", "1h", "--yes"), "a deadline is"),
        (("--service", "x", "--why", "y", "--deadline", "1h"), "a deadline is"),
        (("--service", "x", "--why", "y", "--deadline", "soon"), "so many hours"),
        (("--service", "x", "--why", "y", "--deadline", "0h"), "so many hours"),
        (("--service", "x", "--why", "y", "--reason", "keyCompromise"), "invalid choice"),
        (("--serial", "ab", "--why", "y"), "not issued"),
        (("--status", "ab"), "no order"),
    ],
)
def test_wrong_command_lines(hierarchy: None, arguments: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(*arguments)
    assert not Replacement.objects.exists()


# --- the API


def test_the_api_shows_the_deadline(issue: Issue, now: datetime) -> None:
    key = new_key()
    (certificate,) = issue(service="payroll", key=key)
    mark_all(give(PAYROLL, now), now)
    expected = f"{now + 2 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    _, secret = tokens.create("reader", "alice", tokens.Scope(actions=("read",)), now, by="test")
    shown = Client().get(f"/api/v1/certificates/{certificate.serial}/", headers={"Authorization": f"Bearer {secret}"}).json()
    assert shown["replace_by"] == expected
    time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    statement = proofs.check_in_statement(issuance.issuer_facts(certificate.issuer).key_id, certificate.serial, time, "")
    body = json.dumps({"served": None, "time": time, "proof": b64encode(sign(key, statement)).decode()})
    told: dict[str, Any] = Client().post(f"/api/v1/certificates/{certificate.serial}/checkin/", body, "application/json").json()
    assert (told["status"], told["replace_by"]) == ("active", expected)
    revocation.revoke([certificate.serial], revocation.Cause("superseded", "operator"), now)
    CheckIn.objects.all().delete()
    told = Client().post(f"/api/v1/certificates/{certificate.serial}/checkin/", body, "application/json").json()
    assert (told["status"], told["replace_by"]) == ("revoked", None)
