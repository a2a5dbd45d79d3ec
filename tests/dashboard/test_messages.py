"""What a reminder looks like: headers that hold nothing from outside, a text and an HTML form, links for its recipient."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest

from dashboard import contacts, messages, silencing
from dashboard.messages import Item

from .support import text_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WHO = "ops@example.org"


def item(threshold: str = "renewal-missed", **more: Any) -> Item:
    about = {"serial": "ab" * 20, "names": ["dns:a.internal"], "service": "payroll", "node": "n1", "owner": "alice", "profile": "server"}
    return Item(threshold=threshold, **about | {"not_after": NOW + timedelta(days=9)} | more)


def composed(*items: Item, recipient: str = WHO) -> EmailMessage:
    raw = messages.mail(recipient, contacts.hash_of(WHO), "5d" * 16, items, NOW)
    assert not re.search(rb"(?<!\r)\n", raw), "a line that is not ended by CRLF"
    assert max(map(len, raw.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
    assert raw.isascii()
    parsed = email.message_from_bytes(raw, policy=email.policy.SMTP)
    assert isinstance(parsed, EmailMessage)
    return parsed


def html_of(letter: EmailMessage) -> str:
    part = letter.get_body(("html",))
    assert part is not None
    content: str = part.get_content()
    return content


def test_both_forms_say_which_certificate_and_until_when() -> None:
    letter = composed(item())
    for text in (text_of(letter), html_of(letter)):
        assert all(word in text for word in ("a.internal", "payroll", "n1", "alice", "2026-03-10 12:00", "ab" * 20))
        assert silencing.snooze_url("ab" * 20, contacts.hash_of(WHO)) in text
        assert silencing.unsubscribe_url(contacts.hash_of(WHO)) in text


def test_headers(settings: Any) -> None:
    settings.MAIL_FROM = "quicklime@ca.internal"
    letter = composed(item())
    assert (letter["From"], letter["To"]) == ("quicklime@ca.internal", WHO)
    assert letter["Message-ID"] == f"<{'5d' * 16}@ca.internal>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["List-Unsubscribe"].replace("\r\n ", "") == f"<{silencing.unsubscribe_url(contacts.hash_of(WHO))}>"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert letter["Date"] == "Sun, 01 Mar 2026 12:00:00 +0000"


def test_one_click_only_over_https(settings: Any) -> None:
    settings.PUBLIC_URL = "http://ca.internal:8000"
    letter = composed(item())
    assert letter["List-Unsubscribe"].startswith("<http:")
    assert "List-Unsubscribe-Post" not in letter


@pytest.mark.parametrize(("thresholds", "subject"), [
    (["renewal-missed"], "[Quicklime] 1 certificate not renewed in time"),
    (["expiring", "expiring"], "[Quicklime] 2 certificates about to end"),
    (["renewal-missed", "expired", "expiring"], "[Quicklime] 1 certificate ended, 2 more to look at"),
])  # fmt: skip
def test_subjects(thresholds: list[str], subject: str) -> None:
    assert composed(*(item(threshold) for threshold in thresholds))["Subject"] == subject


HOSTILE = (
    "x\r\nBcc: all@example.org", "x\nSubject: free", "<script>alert(1)</script>", '"><img src=x>', "\u202egro.elpmaxe", "a\x00b\x1b[2J",
    "{{ settings.SECRET_KEY }}{% debug %}", "z" * 5_000, "\u2028line", "zero\u200bwidth",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["service", "node", "owner", "profile", "names"])
def test_hostile_text_stays_text(field: str, text: str) -> None:
    plain = composed(item())
    letter = composed(item(**{field: [f"dns:{text}"] if field == "names" else text}))
    assert letter.items()[:-1] == plain.items()[:-1], "only the boundary may differ"
    for body in (text_of(letter), html_of(letter)):
        assert not [character for character in body if not character.isprintable() and character not in "\r\n"]
        assert "\nBcc:" not in body
        assert "\nSubject:" not in body
    assert "<script>" not in html_of(letter)
    assert "<img" not in html_of(letter)
    assert "only-for-tests" not in text_of(letter) + html_of(letter)


@pytest.mark.parametrize("recipient", ["a@b.example\r\nBcc: c@d.example", "a@b.example, c@d.example", "A <a@b.example>", "", "@", "a@"])
def test_what_is_no_address_is_no_recipient(recipient: str) -> None:
    with pytest.raises(ValueError, match="is not a mail address"):
        composed(item(), recipient=recipient)


def test_a_long_list_is_cut_gravest_first() -> None:
    many = [item(serial=f"{number:040x}", names=[f"dns:n{number}.internal"]) for number in range(messages.SHOWN + 20)]
    letter = composed(*many, item("expired", serial="f" * 40, names=["dns:gone.internal"]))
    assert text_of(letter).count("Not this one any more") == messages.SHOWN
    assert "gone.internal" in text_of(letter)
    assert "and 21 more" in text_of(letter)
    assert "and 21 more" in html_of(letter)


def test_a_certificate_without_names_or_place() -> None:
    letter = composed(item(names=[], service="", node=""))
    assert "(no name)" in text_of(letter)
    assert "service" not in text_of(letter)


def test_a_spiffe_id_and_an_address_are_names_too() -> None:
    letter = composed(item(names=["uri:spiffe://fleet.example/a", "ip:10.0.0.1"]))
    assert "spiffe://fleet.example/a, 10.0.0.1" in text_of(letter)
