"""The log: found, followed, one event with its proof, and a checkpoint that a visitor kept."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from ca.models import Certificate
from dashboard import evidence
from dashboard.pages import log as log_page
from dashboard.roles import Role
from eventlog import checkpoints, head, notes
from eventlog.models import Checkpoint, Event

from ..support import Issue
from .conftest import settle

pytestmark = pytest.mark.django_db
PAGE = "/dashboard/log/"


def positions(staff: Client, query: str = "") -> list[int]:
    answer = staff.get(f"{PAGE}{query}")
    assert answer.status_code == 200
    return [line.position for line in answer.context["lines"]]


def test_an_empty_log_teaches_the_first_step(db: None, client: Client) -> None:
    auditor = User.objects.create_user("sam")  # by hand: to make an account properly is an event
    auditor.groups.create(name=Role.AUDITOR)
    client.force_login(auditor)
    assert "The log is empty" in client.get(PAGE).content.decode()


def test_newest_first_in_pages(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_page, "SIZE", 4)
    size, seen, query = head.size(), list[int](), ""
    while True:
        seen += positions(staff, query)
        older = staff.get(f"{PAGE}{query}").context["older"]
        if older is None:
            break
        query = f"?before={older}"
    assert seen == list(range(size, 0, -1))


def test_by_subject_and_type(fleet: list[Certificate], staff: Client) -> None:
    revoked = fleet[2].serial
    wanted = list(Event.objects.filter(subject=revoked).order_by("-position").values_list("position", flat=True))
    assert positions(staff, f"?subject={revoked}") == wanted
    assert positions(staff, f"?subject={revoked}&type=certificate.issued") == [fleet[2].log_position]
    assert positions(staff, f"?subject={revoked[:10]}") == []
    assert positions(staff, "?type=certificate.revoked") == [wanted[0]]


def test_a_rare_type_is_sought_window_by_window(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_page, "WINDOW", 3)
    seen, query, pages = list[int](), "?type=issuer.added", 0
    while True:
        seen += positions(staff, query)
        older, pages = staff.get(f"{PAGE}{query}").context["older"], pages + 1
        if older is None:
            break
        query = f"?type=issuer.added&before={older}"
    assert seen == list(Event.objects.filter(type="issuer.added").order_by("-position").values_list("position", flat=True))
    assert pages == -(-head.size() // 3)


@pytest.mark.parametrize("query", ["?type=no.such", "?before=x", "?before=-1", "?before=٣", "?before=9999999999999999999", "?subject=%00"])
def test_what_cannot_be_asked(query: str, staff: Client) -> None:
    assert staff.get(f"{PAGE}{query}").status_code == 400


def test_following_asks_for_the_rows_alone(fleet: list[Certificate], staff: Client, issue: Issue) -> None:
    html = staff.get(f"{PAGE}?live=1").content.decode()
    assert 'hx-get="/dashboard/log/?live=1"' in html
    assert "hx-trigger" not in staff.get(PAGE).content.decode()
    new = issue("later.internal")
    part = staff.get(f"{PAGE}?live=1", headers={"HX-Request": "true"}).content.decode()
    assert part.startswith('<div id="rows"')
    assert f'/dashboard/log/{new.log_position}/"' in part


def test_an_event_and_its_proof(fleet: list[Certificate], staff: Client) -> None:
    answer = staff.get(f"{PAGE}{fleet[0].log_position}/")
    assert [step.ok for step in answer.context["steps"]] == [True] * 3
    html = answer.content.decode()
    assert "certificate.issued" in html
    assert "&quot;renewal_challenge&quot;" in html


def test_an_event_beyond_the_newest_checkpoint(issue: Issue, staff: Client) -> None:
    issue()
    with_checkpoint = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
    from django.db import transaction

    from ca import tokens

    with transaction.atomic():
        tokens.create("x", "y", tokens.Scope(), datetime.now(UTC), by="test")
    assert head.size() > with_checkpoint
    assert "No checkpoint covers this event yet" in staff.get(f"{PAGE}{head.size()}/").content.decode()


# --- A checkpoint that was kept


@pytest.fixture
def kept(fleet: list[Certificate], issue: Issue) -> str:
    """A checkpoint, and a log that went on since."""
    newest = checkpoints.latest()
    assert newest is not None
    issue("later.internal")
    settle()
    return newest.note


def verdicts(staff: Client, **data: object) -> list[bool]:
    staff.handler.enforce_csrf_checks = False
    answer = staff.post(f"{PAGE}consistency/", data)
    assert answer.status_code == 200
    return [step.ok for step in answer.context["steps"]]


def headline(staff: Client, **data: object) -> str:
    staff.handler.enforce_csrf_checks = False
    (found,) = re.findall(r'aria-live="polite"><h2>([^<]+)</h2>', staff.post(f"{PAGE}consistency/", data).content.decode())
    return str(found)


def test_the_log_continues_it(kept: str, staff: Client) -> None:
    assert verdicts(staff, checkpoint=kept) == [True, True, True]
    assert verdicts(staff, checkpoint=kept.replace("\n", "\r\n").strip()) == [True, True, True], "as browsers and copying make it"
    assert verdicts(staff, file=SimpleUploadedFile("checkpoint", kept.encode("utf-8-sig"))) == [True, True, True], "as an editor saves it"
    assert headline(staff, checkpoint=kept) == "It is"
    assert verdicts(staff, file=SimpleUploadedFile("checkpoint", kept.encode())) == [True, True, True]


def test_the_newest_itself(kept: str, staff: Client) -> None:
    newest = checkpoints.latest()
    assert newest is not None
    assert verdicts(staff, checkpoint=newest.note) == [True, True, True]
    assert staff.get(f"{PAGE}checkpoint.txt").content.decode() == newest.note


class Signer:
    """A log key of somebody else's under this log's name, or the log's own."""

    def __init__(self, origin: str) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key, self.origin = Ed25519PrivateKey.generate(), origin
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes, /) -> bytes:
        return self._key.sign(data)


def test_another_keys_signature(kept: str, staff: Client) -> None:
    note = notes.parse(kept)
    assert verdicts(staff, checkpoint=notes.make(Signer(note.origin), note.size, note.root)) == [False]
    assert headline(staff, checkpoint=notes.make(Signer("another"), note.size, b"\1" * 32)) == "Nothing was compared"


def test_another_history(kept: str, staff: Client) -> None:
    from ca import keys

    note = notes.parse(kept)
    assert verdicts(staff, checkpoint=notes.make(keys.log_signer(), note.size, b"\1" * 32)) == [True, False, True]
    assert headline(staff, checkpoint=notes.make(keys.log_signer(), note.size, b"\1" * 32)) == "It is not, as far as this shows"


def test_a_log_that_lost_events(kept: str, staff: Client) -> None:
    from ca import keys

    assert verdicts(staff, checkpoint=notes.make(keys.log_signer(), head.size() + 5, b"\1" * 32)) == [True, False, True]


@pytest.mark.parametrize(
    "text", ["", "   ", "x", "a\nb\nc\n\nd", "x" * 20_000, "\x00", "o\n1\n" + b64encode(b"x" * 32).decode() + "\n\n— o AAAA\n"]
)
def test_what_is_no_checkpoint(text: str, kept: str, staff: Client) -> None:
    assert verdicts(staff, checkpoint=text) == [False]
    assert headline(staff, checkpoint=text) == "Nothing was compared"


def test_binary_upload(kept: str, staff: Client) -> None:
    assert verdicts(staff, file=SimpleUploadedFile("checkpoint", bytes(range(256)))) == [False]


def test_without_a_checkpoint_there_is_nothing_to_compare(staff: Client) -> None:
    assert staff.get(f"{PAGE}checkpoint.txt").status_code == 404
    judged = evidence.of_checkpoint("o\n0\n" + b64encode(b"x" * 32).decode() + "\n\n— o AAAA\n")
    assert (judged.holds, [step.ok for step in judged.steps]) == (None, [False])
