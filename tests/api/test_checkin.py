"""POST certificates/{serial}/checkin/: whose word is taken, what it must be, and what it is answered."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ca import checkins
from ca.api import limits
from ca.api.limits import Buckets
from ca.models import Certificate, CheckIn
from eventlog import projections
from eventlog.models import Event
from tests.ca.pki.forge import sign
from tests.material import csr, new_key

from .conftest import Caller, code
from .test_idempotency import at_once
from .test_renew import Node as Renewing

pytestmark = pytest.mark.django_db
ABSENT = "0b" * 20
OTHER = "0c" * 20
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, SEC 2 §2.4.2
Pipeline = Callable[[], None]


def path(serial: str) -> str:
    return f"certificates/{serial}/checkin/"


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


class Node(Renewing):
    def word(
        self, served: str | None, at: datetime, key: Any = None, domain: bytes = b"quicklime-checkin-v1\0", **signed: str
    ) -> dict[str, Any]:
        """The body of a check-in; `signed` says what the proof is made for, where that differs."""
        held = x509.load_pem_x509_certificate(self.certificate["pem"].encode())
        issuer = held.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
        covered = {"serial": self.serial, "time": text(at), "served": served or ""} | signed
        statement = domain + issuer + bytes.fromhex(covered["serial"]) + covered["time"].encode() + covered["served"].encode()
        return {"served": served, "time": text(at), "proof": b64encode(sign(key or self.key, statement)).decode()}


@pytest.fixture
def issue(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> Callable[..., Node]:
    def make(key: Any = None) -> Node:
        key = key or new_key()
        body = {"csr": b64encode(csr("payroll.internal", key=key)).decode(), "service": "payroll", "node": "n1"}
        request = alice.post("certificates/", body).json()["id"]
        run_pipeline()
        return Node(alice.get(f"requests/{request}/").json()["certificate"], key)

    return make


@pytest.fixture
def node(issue: Callable[..., Node]) -> Node:
    return issue()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket fills again, however slow the test is."""
    monkeypatch.setattr(limits, "guesses", Buckets(clock=lambda: 0.0))
    monkeypatch.setattr(limits, "all_guesses", Buckets(clock=lambda: 0.0))


# --- what is taken


@pytest.mark.parametrize("served", [OTHER, "none", None])
def test_the_key_is_believed(node: Node, nobody: Caller, now: datetime, served: str | None) -> None:
    size = Event.objects.count()
    answer = nobody.post(path(node.serial), node.word(served, now))
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert answer.json() == {"serial": node.serial, "status": "active", "revoked_at": None, "replaced_by": None, "replace_by": None}
    word = CheckIn.objects.get()
    assert (word.serial, word.served, word.said_at) == (node.serial, served or "", now)
    assert abs(word.seen_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert Event.objects.count() == size, "telemetry is no fact of the log"


@pytest.mark.parametrize("kind", ["P-384", "RSA-2048", "Ed25519"])
def test_every_kind_of_key(issue: Callable[..., Node], nobody: Caller, now: datetime, kind: str) -> None:
    from quicklime_client.keys import KINDS

    held = issue(KINDS[kind]())
    assert nobody.post(path(held.serial), held.word(held.serial, now)).status_code == 200


def test_the_last_word_stands_and_outlives_a_rebuild(node: Node, nobody: Caller, now: datetime) -> None:
    for minute, served in enumerate((None, OTHER, node.serial)):
        at = now - timedelta(minutes=3 - minute)
        assert nobody.post(path(node.serial), node.word(served, at)).status_code == 200
    projections.rebuild("ca")
    assert CheckIn.objects.get().served == node.serial


def test_it_learns_what_became_of_its_certificate(node: Node, nobody: Caller, alice: Caller, now: datetime, run_pipeline: Pipeline) -> None:
    assert node.renew(nobody).status_code == 202
    run_pipeline()
    new = Certificate.objects.get(replaces=node.serial).serial
    first = nobody.post(path(node.serial.lstrip("0")), node.word(node.serial, now - timedelta(minutes=1)))
    assert first.json() == {"serial": node.serial, "status": "active", "revoked_at": None, "replaced_by": new, "replace_by": None}
    revoked = nobody.post(f"certificates/{node.serial}/revoke/", {"secret": node.certificate["revocation_secret"]}).json()
    told = nobody.post(path(node.serial), node.word(node.serial, now)).json()
    assert (told["status"], told["revoked_at"]) == ("revoked", revoked["revoked_at"])


# --- what is not


def changed(body: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (body | change).items() if value is not ...}


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        (None, 400, "malformedJson"),
        ([], 400, "malformedJson"),
        ({"time": ...}, 400, "missingField"),
        ({"served": ...}, 400, "missingField"),
        ({"proof": ...}, 400, "missingField"),
        ({"reason": "unspecified"}, 400, "unknownField"),
        ({"served": 1}, 400, "invalidField"),
        ({"served": ""}, 400, "invalidField"),
        ({"served": "0C" * 20}, 400, "invalidField"),
        ({"served": "c"}, 400, "invalidField"),
        ({"served": OTHER + "\n"}, 400, "invalidField"),
        ({"time": None}, 400, "invalidField"),
        ({"time": 1}, 400, "invalidField"),
        ({"time": "2030-01-31T12:00:00+00:00"}, 400, "invalidField"),
        ({"time": "2030-02-31T12:00:00Z"}, 400, "invalidField"),
        ({"time": "0000-01-31T12:00:00Z"}, 400, "invalidField"),
        ({"time": "\u0662030-01-31T12:00:00Z"}, 400, "invalidField"),
        ({"proof": None}, 400, "invalidField"),
        ({"proof": "A"}, 400, "invalidField"),
        ({"proof": "A" * 1400}, 400, "invalidField"),
        ({"proof": "AAAA"}, 403, "notEntitled"),
        ({"served": None}, 403, "notEntitled"),
        ({"served": "none"}, 403, "notEntitled"),
        ({"time": "2030-01-31T12:00:00Z"}, 403, "notEntitled"),
    ],
)
def test_each_wrong_body_has_its_answer(node: Node, nobody: Caller, now: datetime, change: Any, status: int, expected: str) -> None:
    word = node.word(node.serial, now)
    body = changed(word, change) if isinstance(change, dict) else change
    for serial in (node.serial, ABSENT):
        answer = nobody.post(path(serial), body)
        assert (answer.status_code, code(answer)) == (status, expected)
    assert not CheckIn.objects.exists()
    assert nobody.post(path(node.serial), word).status_code == 200, "nothing is spent"


def test_other_forms_and_methods(node: Node, nobody: Caller, now: datetime) -> None:
    assert code(nobody.get(path(node.serial))) == "methodNotAllowed"
    assert code(nobody.post(path(node.serial) + "?served=none", node.word(None, now))) == "unknownParameter"
    assert code(nobody.call("POST", path(node.serial), b"served=none", "application/x-www-form-urlencoded")) == "unsupportedMediaType"


def test_only_this_key_for_this_certificate_and_this_purpose(
    node: Node, issue: Callable[..., Node], nobody: Caller, alice: Caller, now: datetime
) -> None:
    foreign = issue()
    for body in (
        node.word(node.serial, now, key=new_key()),
        node.word(node.serial, now, key=foreign.key),
        node.word(node.serial, now, **{"serial": foreign.serial}),
        node.word(node.serial, now, domain=b"quicklime-renewal-v1\0"),
        node.word(node.serial, now, domain=b"quicklime-revocation-v1\0"),
        foreign.word(node.serial, now),
    ):
        limits.guesses.clear()
        for who in (nobody, alice):
            assert code(who.post(path(node.serial), body)) == "notEntitled"
    assert not CheckIn.objects.exists()


@pytest.mark.parametrize("off", [timedelta(minutes=6), timedelta(days=400), -timedelta(minutes=6), -timedelta(days=400)])
def test_what_was_said_long_ago_or_will_be_is_refused(node: Node, nobody: Caller, now: datetime, off: timedelta) -> None:
    answer = nobody.post(path(node.serial), node.word(node.serial, now + off))
    assert (answer.status_code, code(answer), answer.json()["errors"][0]["where"]) == (422, "checkInTime", "time")
    assert not CheckIn.objects.exists()


def test_a_replayed_or_overtaken_one_changes_nothing(node: Node, nobody: Caller, now: datetime) -> None:
    older, word = node.word(OTHER, now - timedelta(minutes=2)), node.word(node.serial, now)
    assert nobody.post(path(node.serial), word).status_code == 200
    before = CheckIn.objects.values().get()
    soon = node.word(OTHER, now + checkins.INTERVAL - timedelta(seconds=1))
    for body in (word, malleated(word), older, soon):
        answer = nobody.post(path(node.serial), body)
        assert (answer.status_code, code(answer)) == (409, "checkInRepeated")
    assert CheckIn.objects.values().get() == before


def malleated(word: dict[str, Any]) -> dict[str, Any]:
    """The same word with the other signature that fits: (r, n - s)."""
    r, s = decode_dss_signature(b64decode(word["proof"]))
    return {**word, "proof": b64encode(encode_dss_signature(r, ORDER - s)).decode()}


@pytest.mark.django_db(transaction=True)
def test_of_twenty_at_once_one_is_taken(node: Node, nobody: Caller, now: datetime) -> None:
    word = node.word(node.serial, now)
    answers = at_once(20, lambda number: nobody.post(path(node.serial), word))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19


def test_an_unknown_serial_and_a_wrong_proof_are_answered_alike(node: Node, nobody: Caller, now: datetime, stopped: None) -> None:
    bad, seen = node.word(node.serial, now, key=new_key()), []
    for serial in (node.serial, ABSENT):
        with CaptureQueriesContext(connection) as queries:
            answer = nobody.post(path(serial), bad, X_Request_Id="same")
        asked = [query["sql"].replace(serial, "") for query in queries]
        seen.append((answer.status_code, answer.content, dict(answer.headers), asked))
    assert seen[0] == seen[1]
    assert seen[0][0] == 403


def test_wrong_proofs_are_counted_and_lock_nobody_out(node: Node, nobody: Caller, now: datetime, stopped: None) -> None:
    wrong = node.word(node.serial, now, key=new_key())
    answers = [nobody.post(path(node.serial), wrong) for _ in range(limits.GUESSES + 3)]
    assert [answer.status_code for answer in answers] == [403] * limits.GUESSES + [429] * 3
    assert nobody.post(path(node.serial), node.word(node.serial, now)).status_code == 200


def test_a_token_neither_helps_nor_hinders(node: Node, alice: Caller, now: datetime) -> None:
    assert code(alice.post(path(node.serial), node.word(None, now, key=new_key()))) == "notEntitled"
    assert Caller("ql_" + "x" * 43).post(path(node.serial), node.word(None, now)).status_code == 200
