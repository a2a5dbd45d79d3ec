"""The conversation with a mail server: protected as the setting says, and its words are repeated nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard import smtp
from dashboard.smtp import Refused, Server, Session, Uncertain, Unreachable

from .postoffice import CRASH, dripping, opened, with_tls
from .tls import Pair, pair

CONTENT = b"Subject: x\r\n\r\n.leading dot\r\n..two\r\nend\r\n"
SENDER, WHO = "ca@example.org", "ops@example.org"


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    made = pair(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    return made


def deliver(server: Server, content: bytes = CONTENT) -> list[str]:
    """What happened before the content."""
    before: list[str] = []
    with Session(server, SENDER) as session:
        session.deliver(WHO, content, lambda: before.append("content"))
    return before


def test_dots_arrive_as_they_were() -> None:
    with opened() as office:
        assert deliver(office.server) == ["content"]
    assert office.letters[WHO][0].get_payload() == ".leading dot\r\n..two\r\nend\r\n"


def test_several_go_over_one_connection_and_a_broken_one_is_made_anew() -> None:
    with opened() as office, Session(office.server, SENDER) as session:
        office.content_answers["b@example.org"] = CRASH
        session.deliver("a@example.org", CONTENT, lambda: None)
        with pytest.raises(Uncertain):
            session.deliver("b@example.org", CONTENT, lambda: None)
        session.deliver("c@example.org", CONTENT, lambda: None)
    assert list(office.letters) == ["a@example.org", "c@example.org"]
    assert office.conversations == 2


def test_who_objects_before_the_content_has_nothing_delivered() -> None:
    def object_to_it() -> None:
        raise KeyError("another was first")

    with opened() as office, Session(office.server, SENDER) as session:
        with pytest.raises(KeyError):
            session.deliver("a@example.org", CONTENT, object_to_it)
        session.deliver("b@example.org", CONTENT, lambda: None)
    assert list(office.letters) == ["b@example.org"]


def test_starttls_and_password(trusted: Pair) -> None:
    with with_tls(trusted.certificate, trusted.key) as office:
        deliver(Server("127.0.0.1", office.port, "quicklime", "opensesame", "starttls"))
    assert len(office.delivered) == 1


def test_a_wrong_password_reaches_nobody(trusted: Pair) -> None:
    server = ("127.0.0.1", "quicklime", "hunter2", "starttls")
    with with_tls(trusted.certificate, trusted.key) as office, pytest.raises(Unreachable, match="535") as error:
        deliver(Server(server[0], office.port, *server[1:]))
    assert "hunter2" not in str(error.value)
    assert office.delivered == []


def test_a_server_that_is_not_known_gets_nothing(tmp_path: Path) -> None:
    made = pair(tmp_path)
    with with_tls(made.certificate, made.key) as office, pytest.raises(Unreachable, match="SSLCertVerificationError"):
        deliver(Server("127.0.0.1", office.port, "quicklime", "opensesame", "starttls"))
    assert office.delivered == []


def test_without_starttls_on_offer_nothing_goes_out() -> None:
    with opened() as office, pytest.raises(Unreachable, match="SMTPNotSupportedError"):
        deliver(Server("127.0.0.1", office.port, tls="starttls"))
    assert office.delivered == []


def test_tls_from_the_first_byte_is_not_spoken_with_a_plain_server() -> None:
    with opened() as office, pytest.raises(Unreachable):
        deliver(Server("127.0.0.1", office.port, tls="tls"))
    assert office.delivered == []


def test_the_servers_words_are_not_repeated() -> None:
    with opened() as office:
        office.recipient_answers[WHO] = f"550 {WHO} is unknown here"
        with pytest.raises(Refused) as error:
            deliver(office.server)
    assert str(error.value) == "answered 550"
    assert error.value.permanent


def test_a_server_that_drips_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp, "WHOLE", 0.5)
    with dripping() as server, pytest.raises(Unreachable):
        deliver(Server("127.0.0.1", server.port))


def test_nobody_listens() -> None:
    with pytest.raises(Unreachable, match="ConnectionRefusedError"):
        deliver(Server("127.0.0.1", 1))


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Server("h", 1, "u", "hunter2"))
