"""A real SMTP server in a thread, that takes mail, or refuses, crashes and hangs as told."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from threading import Event, Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from dashboard.smtp import Server
from tests.site.test_whole import free_ports

CRASH, CRASH_AFTER_DELIVERY = "crash", "crash after delivery"  # in place of an answer to the content


@dataclass
class PostOffice:
    """`letters`: what was delivered, by recipient. The answers may be changed while it runs."""

    port: int
    letters: dict[str, list[EmailMessage]] = field(default_factory=dict)
    sender_answer: str = "250 OK"
    recipient_answers: dict[str, str] = field(default_factory=dict)  # address → answer to RCPT
    content_answers: dict[str, str] = field(default_factory=dict)  # address → answer to the content
    pause: float = 0.0  # seconds before each answer to RCPT
    conversations: int = 0

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def delivered(self) -> list[EmailMessage]:
        return [letter for letters in self.letters.values() for letter in letters]

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> list[str]:
        self.conversations += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        envelope.mail_from = address
        return self.sender_answer

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        await asyncio.sleep(self.pause)
        answer = self.recipient_answers.get(address, "250 OK")
        if answer == CRASH:
            server.transport.abort()
        elif answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        (recipient,) = envelope.rcpt_tos
        answer = self.content_answers.get(recipient, "250 OK")
        if answer in ("250 OK", CRASH_AFTER_DELIVERY):
            letter = email.message_from_bytes(envelope.content, policy=email.policy.SMTP)
            assert isinstance(letter, EmailMessage)
            self.letters.setdefault(recipient, []).append(letter)
        if answer in (CRASH, CRASH_AFTER_DELIVERY):
            server.transport.abort()
        return answer


@contextmanager
def opened(port: int | None = None, **options: Any) -> Iterator[PostOffice]:
    """Open until the block's end; `options` as aiosmtpd's SMTP takes them."""
    office = PostOffice(port or free_ports(1)[0])
    controller = Controller(office, hostname="127.0.0.1", port=office.port, **options)
    controller.start()
    try:
        yield office
    finally:
        controller.stop()


class _Drip(socketserver.BaseRequestHandler):
    """Greets without an end (RFC 5321 §4.2: each line says that another follows), until the client gives up."""

    def handle(self) -> None:
        assert isinstance(self.server, Dripping)
        self.server.calling.set()
        with suppress(OSError):
            while not self.server.over.wait(0.05):
                self.request.sendall(b"220-one moment\r\n")
        self.server.calling.clear()


class Dripping(socketserver.ThreadingTCPServer):
    """A mail server that is about to answer, for ever. `calling`: somebody waits for it."""

    allow_reuse_address, daemon_threads = True, True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Drip)
        self.port = port
        self.calling, self.over = Event(), Event()


@contextmanager
def dripping(port: int | None = None) -> Iterator[Dripping]:
    """Open until the block's end, which ends its conversations too."""
    with Dripping(port or free_ports(1)[0]) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()


@contextmanager
def with_tls(certificate: Path, key: Path) -> Iterator[PostOffice]:
    """STARTTLS and a password (quicklime, opensesame) are required."""

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"quicklime", b"opensesame"), handled=False)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with opened(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate) as office:
        yield office
