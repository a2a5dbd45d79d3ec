"""The webhook: signed, told until it answers 2xx, never led elsewhere, never waited for long."""

from __future__ import annotations

import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dashboard import expiry, reminders, webhook
from dashboard.models import Reminder, State
from eventlog.models import Event

from .support import Issue, at
from .tls import pair

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]
SECRET = b"s" * 32
MINUTE = timedelta(minutes=1)


@dataclass
class Receiver:
    """Answers with `status`, and keeps what it was sent."""

    url: str = ""
    status: int = 204
    drip: bool = False
    calls: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.calls.append((self.path, dict(self.headers), body))
            if found.drip:
                for character in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 20:
                    self.wfile.write(bytes([character]))
                    time.sleep(0.05)
                return
            self.send_response(found.status)
            self.send_header("Location", f"{found.url}elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    made = pair(tmp_path)
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found.url = f"https://127.0.0.1:{server.server_address[1]}/hook?a=1"
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    settings.WEBHOOK_URL, settings.WEBHOOK_SECRET_FILE, settings.MAIL_TO = found.url, tmp_path / "secret", ()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def run(now: datetime) -> int:
    expiry.flag_due(now)
    return reminders.send_due(now)


def test_it_is_told_once_for_each_threshold(receiver: Receiver, issue: Issue) -> None:
    one, two = issue("a.internal"), issue("b.internal")
    assert run(at(two, 80)) == 1
    assert run(at(two, 81)) == 0
    ((path, _, body),) = receiver.calls
    assert path == "/hook?a=1"
    told = sorted(json.loads(body)["reminders"], key=lambda each: str(each["names"]))
    assert {each["id"] for each in told} == {f"{one.serial}:renewal-missed", f"{two.serial}:renewal-missed"}
    assert told[0] | {"names": ["dns:a.internal"], "owner": "alice", "service": "payroll"} == told[0]
    sent = [json.loads(bytes(body))["data"] for body in Event.objects.filter(type="reminder.sent").values_list("body", flat=True)]
    assert [each["channel"] for each in sent] == ["webhook", "webhook"]


def test_the_signature_covers_time_and_body(receiver: Receiver, issue: Issue) -> None:
    one = issue()
    run(at(one, 80))
    ((_, headers, body),) = receiver.calls
    seconds = int(at(one, 80).timestamp())
    expected = hmac.new(SECRET, f"{seconds}.".encode() + body, "sha256").hexdigest()
    assert headers["Quicklime-Signature"] == f"t={seconds},v1={expected}"
    assert headers["Content-Type"] == "application/json"
    assert SECRET.decode() not in str(headers) + body.decode()


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 410, 429, 500, 503])
def test_what_is_no_success_is_tried_again_with_the_same_ids(receiver: Receiver, issue: Issue, status: int) -> None:
    receiver.status = status
    one = issue()
    assert run(at(one, 80)) == 0
    assert run(at(one, 80)) == 0, "not at once"
    assert len(receiver.calls) == 1, "and a redirect is followed nowhere"
    assert Reminder.objects.get().answer == f"webhook: answered {status}"
    receiver.status = 200
    assert run(at(one, 80) + MINUTE) == 1
    first, second = (json.loads(body) for _, _, body in receiver.calls)
    assert first == second


def test_it_backs_off(receiver: Receiver, issue: Issue) -> None:
    receiver.status = 500
    one = issue()
    now, waits = at(one, 80), []
    for _ in range(9):
        run(now)
        waits.append((Reminder.objects.get().due_at - now) // MINUTE)
        now = Reminder.objects.get().due_at
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_receiver_that_drips_is_left(receiver: Receiver, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "WHOLE", 0.3)
    receiver.drip = True
    one = issue()
    began = time.monotonic()
    assert run(at(one, 80)) == 0
    assert time.monotonic() - began < 5
    assert Reminder.objects.get().state == State.DUE
    assert "no answer within 0.3 s" in Reminder.objects.get().answer


def test_a_receiver_that_is_not_known_is_told_nothing(receiver: Receiver, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    one = issue()
    assert run(at(one, 80)) == 0
    assert receiver.calls == []
    assert Reminder.objects.get().answer == "webhook: ConnectError"


def test_the_environments_proxy_is_not_asked(receiver: Receiver, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert run(at(issue(), 80)) == 1


def test_a_secret_that_is_gone_loses_nothing(receiver: Receiver, issue: Issue, settings: Any) -> None:
    secret = settings.WEBHOOK_SECRET_FILE.read_bytes()
    settings.WEBHOOK_SECRET_FILE.unlink()
    one = issue()
    assert run(at(one, 80)) == 0
    settings.WEBHOOK_SECRET_FILE.write_bytes(secret)
    assert run(at(one, 80) + MINUTE) == 1


def test_a_lost_claim_is_told_again_and_recorded_once(receiver: Receiver, issue: Issue) -> None:
    """As after kill -9 between the answer and its record."""
    one = issue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reminders, "_note_sent", lambda *_: None)
        run(at(one, 80))
    assert run(at(one, 80) + 11 * MINUTE) == 1
    assert run(at(one, 80) + 22 * MINUTE) == 0
    assert len({body for _, _, body in receiver.calls}) == 1
    assert len(receiver.calls) == 2
    assert Event.objects.filter(type="reminder.sent").count() == 1
