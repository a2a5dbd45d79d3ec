"""Many at once: what a selection meets, what a dry run says, what an interrupted order does when it is resumed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from ca import issuance, mass_revocation, pipeline, revocation, tokens
from ca.errors import Problem
from ca.events import RevocationCompleted
from ca.models import BlockedKey, Certificate, Request, Token
from ca.selections import MAX_SERIALS, Selection
from eventlog.models import Event
from tests.material import csr, new_key

pytestmark = pytest.mark.django_db
Issue = Callable[..., list[Certificate]]
EVERYTHING = tokens.Scope(actions=("issue",), profiles=("*",), services=("*",))


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Callable[[str], Token]:
    def make(owner: str) -> Token:
        return Token.objects.get(id=tokens.create(owner, owner, EVERYTHING, now, by="test")[0])

    return make


@pytest.fixture
def issue(token: Callable[[str], Token], now: datetime, run_pipeline: Callable[[], None]) -> Issue:
    def make(count: int = 1, owner: str = "alice", key: ec.EllipticCurvePrivateKey | None = None, at: Any = None, **more: Any) -> Any:
        asked = [pipeline.Submission(csr=csr(f"n{number}.internal", key=key), **more) for number in range(count)]
        rows = pipeline.submit(token(owner), asked, at or now)
        assert all(isinstance(row, Request) for row in rows), rows
        run_pipeline()
        return list(Certificate.objects.filter(request__in=[row.id for row in rows]).order_by("log_position"))

    return make


def spki(certificate: Certificate) -> str:
    return bytes(certificate.spki_sha256).hex()


def said(*kinds: str) -> list[dict[str, Any]]:
    rows = Event.objects.filter(type__in=kinds).order_by("position").values_list("body", flat=True)
    return [json.loads(bytes(body))["data"] for body in rows]


def revoked() -> set[str]:
    return set(Certificate.objects.exclude(revoked_at=None).values_list("serial", flat=True))


def carry_out(selection: Selection, now: datetime, reason: str = "superseded", **more: Any) -> RevocationCompleted:
    order = mass_revocation.order(selection, reason, "a drill", "tester", now)
    return mass_revocation.carry_out(order, "tester", lambda: now, **more)


# --- selections


def test_each_criterion_selects(issue: Issue, now: datetime) -> None:
    (plain,), (other,) = issue(), issue(owner="bob", service="payroll", node="n1", profile="client")
    for selection, wanted in {
        Selection(issuer="issuing-1"): {plain.serial, other.serial},
        Selection(issuer="issuing-2"): set(),
        Selection(key=spki(other)): {other.serial},
        Selection(token=other.token): {other.serial},
        Selection(owner="bob"): {other.serial},
        Selection(service="payroll"): {other.serial},
        Selection(node="n1"): {other.serial},
        Selection(profile="server"): {plain.serial},
        Selection(serials=(plain.serial,)): {plain.serial},
        Selection(owner="bob", profile="server"): set(),
        Selection(issued_after=now): {plain.serial, other.serial},  # their notBefore lies a minute before
        Selection(issued_after=now + timedelta(minutes=5)): set(),
        Selection(issued_before=now + timedelta(minutes=5)): {plain.serial, other.serial},
        Selection(issued_before=now - timedelta(minutes=5)): set(),
    }.items():
        assert set(selection.certificates().values_list("serial", flat=True)) == wanted, selection
        assert Selection.from_data(json.loads(json.dumps(selection.as_data()))) == selection


def test_a_selection_of_everything_or_too_much_is_none() -> None:
    for wrong in ({}, {"serials": ("0" * 40,), "owner": "alice"}, {"serials": tuple(f"{n:040x}" for n in range(1001))}):
        with pytest.raises(ValueError, match=r"say|leave|at most"):
            Selection(**wrong)  # type: ignore[arg-type]


def test_the_longest_order_fits_into_an_event(hierarchy: None, now: datetime) -> None:
    longest = Selection(serials=tuple(f"{n:040x}" for n in range(MAX_SERIALS)))
    assert mass_revocation.order(longest, "superseded", "w" * 500, "tester", now)


# --- orders


def test_an_order_is_carried_out_in_chunks_with_its_numbers_in_the_log(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass_revocation, "CHUNK", 2)
    wanted, _ = issue(5, service="payroll"), issue(2)
    seen: list[int] = []
    completed = carry_out(Selection(service="payroll"), now, progress=seen.append)
    assert revoked() == {each.serial for each in wanted}
    assert seen == [2, 4, 5]
    assert (completed.revoked, completed.escalated) == (5, 0)
    (ordered,), (logged,) = said("revocation.ordered"), said("revocation.completed")
    assert (ordered["selected"], ordered["selection"], ordered["why"]) == (5, {"service": "payroll"}, "a drill")
    assert logged == {"order": ordered["order"], "revoked": 5, "escalated": 0, "by": "tester"}
    assert {event["order"] for event in said("certificate.revoked")} == {ordered["order"]}
    assert {(event["way"], event["by"]) for event in said("certificate.revoked")} == {("operator", "tester")}


class Interrupted(Exception):
    pass


def _interrupt(done: int) -> None:
    raise Interrupted


def test_an_interrupted_order_is_resumed(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_revocation, "CHUNK", 2)
    wanted = issue(5, service="payroll")
    order = mass_revocation.order(Selection(service="payroll"), "superseded", "a drill", "tester", now)
    with pytest.raises(Interrupted):
        mass_revocation.carry_out(order, "tester", lambda: now, _interrupt)
    assert len(revoked()) == 2
    (later,) = issue(1, service="payroll")
    completed = mass_revocation.carry_out(order, "tester", lambda: now)
    assert revoked() == {each.serial for each in wanted}, "nothing that was issued after the order"
    assert later.serial not in revoked()
    assert completed.revoked == 5
    assert len(said("certificate.revoked")) == 5
    with pytest.raises(mass_revocation.OrderCompleted):
        mass_revocation.carry_out(order, "tester", lambda: now)
    with pytest.raises(mass_revocation.NoSuchOrder):
        mass_revocation.carry_out("0" * 16, "tester", lambda: now)


def test_what_is_revoked_or_expired_is_left_alone(issue: Issue, now: datetime) -> None:
    first, second = issue(2)
    long = issue(1, not_after=now.replace(microsecond=0) + timedelta(days=200))[0]
    with_reason = {first.serial: "cessationOfOperation"}
    carry_out(Selection(serials=(first.serial,)), now, "cessationOfOperation")
    later = now + timedelta(days=100)
    assert second.not_after < later < long.not_after
    assert carry_out(Selection(owner="alice"), later).revoked == 1
    assert dict(Certificate.objects.exclude(reason=None).values_list("serial", "reason")) == {**with_reason, long.serial: "superseded"}


def test_compromised_keys_are_blocked_and_weaker_reasons_replaced(issue: Issue, now: datetime) -> None:
    first, second = issue(2)
    carry_out(Selection(serials=(first.serial,)), now)
    completed = carry_out(Selection(owner="alice"), now + timedelta(minutes=1), "keyCompromise")
    assert (completed.revoked, completed.escalated) == (1, 1)
    first.refresh_from_db()
    assert (first.revoked_at, first.reason) == (now, "keyCompromise")
    blocked = {bytes(key).hex() for key in BlockedKey.objects.filter(code="keyCompromise").values_list("spki_sha256", flat=True)}
    assert blocked == {spki(first), spki(second)}
    again = carry_out(Selection(owner="alice"), now, "keyCompromise")
    assert (again.revoked, again.escalated) == (0, 0)


def test_a_key_named_as_compromised_is_blocked_before_it_has_a_certificate(hierarchy: None, now: datetime) -> None:
    carry_out(Selection(key="ab" * 32), now, "keyCompromise")
    assert BlockedKey.objects.filter(spki_sha256=b"\xab" * 32, code="keyCompromise").exists()
    carry_out(Selection(key="cd" * 32), now, "superseded")
    assert not BlockedKey.objects.filter(spki_sha256=b"\xcd" * 32).exists()


def test_a_reason_that_is_never_given(issue: Issue, now: datetime) -> None:
    issue()
    with pytest.raises(Problem, match="reasonForbidden"):
        mass_revocation.order(Selection(owner="alice"), "certificateHold", "a drill", "tester", now)
    assert not said("revocation.ordered")


@pytest.fixture
def orphan(token: Callable[[str], Token], now: datetime) -> str:
    """A serial that was signed and never recorded."""
    asked = token("alice")
    (request,) = pipeline.submit(asked, [pipeline.Submission(csr=csr("orphan.internal"))], now)
    batch = uuid4()
    issuance.validate(batch, now)
    tokens.revoke(asked.id, now, "test", "leaked")
    issuance.sign(batch, now)
    assert isinstance(request, Request)
    request.refresh_from_db()
    assert request.serial
    return request.serial


def test_an_orphaned_serial_is_revoked_once(orphan: str, now: datetime) -> None:
    for _ in range(2):
        carry_out(Selection(serials=(orphan,)), now)
    carry_out(Selection(serials=(orphan,)), now, "keyCompromise")
    assert [(event["serial"], event["issuer"], event["reason"]) for event in said("certificate.revoked")] == [
        (orphan, "issuing-1", "superseded")
    ]
    assert [event["serial"] for event in said("revocation.escalated")] == [orphan]
    assert len(said("key.blocked")) == 1
    carry_out(Selection(serials=(orphan,)), now, "keyCompromise")
    assert len(said("revocation.escalated")) == 1


def test_an_intent_that_may_still_become_a_certificate_is_not(token: Callable[[str], Token], now: datetime) -> None:
    pipeline.submit(token("alice"), [pipeline.Submission(csr=csr("a.internal"))], now)
    batch = uuid4()
    issuance.validate(batch, now)
    serial = Request.objects.get().serial
    assert serial
    assert mass_revocation.preview(Selection(serials=(serial,)), "superseded", now).unknown == [serial]
    carry_out(Selection(serials=(serial,)), now)
    assert not said("certificate.revoked")
    for step in issuance.STEPS.values():
        step(batch, now)


# --- the command


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("revoke_certificates", *arguments, stdout=out)
    return out.getvalue()


WHY = ("--reason", "superseded", "--why", "a drill")


def test_without_yes_it_tells_and_does_nothing(issue: Issue) -> None:
    (certificate, *_), _ = issue(3, service="payroll"), issue(1, service="billing")
    size = Event.objects.count()
    shown = command("--service", "payroll", *WHY)
    assert Event.objects.count() == size
    assert "3 to revoke" in shown
    assert "payroll" in shown
    assert "billing" not in shown
    assert certificate.serial in shown
    assert "dry run" in shown


def test_with_yes_it_revokes(issue: Issue) -> None:
    wanted, _ = issue(3, service="payroll"), issue()
    assert "3 are revoked" in command("--service", "payroll", *WHY, "--yes")
    assert revoked() == {each.serial for each in wanted}


def test_it_names_the_order_to_resume(issue: Issue, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    issue(3, service="payroll")
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "revoke", lambda *arguments: _interrupt(0))
        with pytest.raises(Interrupted):
            command("--service", "payroll", *WHY, "--yes")
    order = capsys.readouterr().err.strip().rpartition(" ")[2]
    assert order == said("revocation.ordered")[0]["order"]
    assert "3 are revoked" in command("--resume", order)
    with pytest.raises(CommandError, match="carried out already"):
        command("--resume", order)
    with pytest.raises(CommandError, match="no order"):
        command("--resume", "feedfeedfeedfeed")


def test_a_key_is_named_by_hash_or_by_what_holds_it(issue: Issue, tmp_path: Path) -> None:
    key = new_key()
    (certificate,), _ = issue(1, key=key), issue()
    files = {
        "certificate": x509.load_der_x509_certificate(bytes(certificate.der)).public_bytes(Encoding.PEM),
        "csr": x509.load_der_x509_csr(csr("a.internal", key=key)).public_bytes(Encoding.PEM),
        "key": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)
    for name in (spki(certificate), *(str(tmp_path / name) for name in files)):
        assert "1 to revoke" in command("--key", name, *WHY)
    (tmp_path / "nothing").write_text("no key")
    for wrong in ("ab", str(tmp_path / "nothing")):
        with pytest.raises(CommandError, match="--key"):
            command("--key", wrong, *WHY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (WHY, "say which certificates"),
        (("--owner", "alice"), "--reason and --why"),
        (("--owner", "alice", "--reason", "superseded", "--why", " "), "--reason and --why"),
        (("--owner", "alice", "--reason", "certificateHold", "--why", "a drill"), "invalid choice"),
        (("--serial", "0b", *WHY), "neither issued nor orphaned"),
        (("--serial", "xyz", *WHY), "hex digits"),
        (("--issued-after", "yesterday", *WHY), "a time is written"),
        (("--issued-after", "2030-01-01T00:00:00", *WHY), "time zone"),
    ],
)
def test_what_it_does_not_take(hierarchy: None, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        command(*arguments)


def test_serials_as_openssl_prints_them_and_times_in_any_zone(issue: Issue) -> None:
    (certificate,) = issue()
    printed = ":".join(certificate.serial[at : at + 2].upper() for at in range(0, 40, 2))
    assert "1 to revoke" in command("--serial", printed, *WHY)
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    assert "1 to revoke" in command("--issued-after", hour_ago, *WHY)
    assert "0 to revoke" in command("--issued-before", hour_ago, *WHY)


@pytest.mark.parametrize("reason", ["superseded", "keyCompromise"])
def test_a_chunk_costs_as_many_queries_as_one_certificate(issue: Issue, now: datetime, reason: str) -> None:
    counts = []
    for number in (1, 8):
        serials = [each.serial for each in issue(number)]
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            revocation.revoke(serials, revocation.Cause(reason, "operator"), now)
        counts.append(len([each for each in queries if not each["sql"].startswith(("SAVEPOINT", "RELEASE", "COPY"))]))
    assert counts[1] <= counts[0] + 1
