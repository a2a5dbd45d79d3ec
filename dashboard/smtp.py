"""A conversation with a mail server, one recipient at a time, in which it is always known what may have been delivered.

Owns the sentences of RFC 5321 that Quicklime says, and the line between "surely not delivered" and "nobody knows": it lies where
the content begins. SMTP cannot say whether a message whose end was not answered is delivered (RFC 5321 §4.5.3.2.6), so whoever
must not send twice has to note, before that line, that it goes over it. Pure of Django; knows no reminder.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

TIMEOUT, WHOLE = 10.0, 120.0  # seconds: for each answer, and for a connection, however slowly it drips
TRY_AGAIN_LATER = 421  # RFC 5321 §4.2.3: the server ends the connection


@dataclass(frozen=True)
class Server:
    """Where mail goes. `tls`: "" none, "starttls" (RFC 3207), required, or "tls" from the first byte (RFC 8314)."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    tls: str = ""


class Unreachable(Exception):
    """The server takes no mail from us now, for whomever. Nothing was delivered."""


class Refused(Exception):
    """The server does not take this message for this recipient. Nothing was delivered; `permanent`: it says it never will."""

    def __init__(self, code: int) -> None:
        super().__init__(f"answered {code}")
        self.permanent = code >= 500


class Uncertain(Exception):
    """The connection broke between the content and its answer: it was delivered, or not."""


class Session:
    """As long as the block lasts, one connection, made when it is needed and made anew after it broke."""

    def __init__(self, server: Server, sender: str) -> None:
        self._server, self._sender = server, sender
        self._smtp: smtplib.SMTP | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._smtp is not None:
            try:
                self._smtp.quit()
            except (OSError, smtplib.SMTPException):
                self._hang_up()

    def deliver(self, recipient: str, content: bytes, before_content: Callable[[], None]) -> None:
        """Have `content`, lines ended by CRLF, delivered to one recipient. `before_content` is called when the server has agreed to
        everything but the content; if it raises, nothing is delivered. Raises Unreachable, Refused, Uncertain."""
        smtp = self._greeted()
        try:
            self._address(smtp, recipient)
        except (OSError, smtplib.SMTPException) as error:
            self._hang_up()
            raise Unreachable(_words(error)) from None
        try:
            before_content()
        except BaseException:
            self._hang_up()  # the server waits for content
            raise
        self._hand_over(smtp, content)

    def _greeted(self) -> smtplib.SMTP:
        if self._smtp is None:
            try:
                self._smtp = _connected(self._server, self._sender.rpartition("@")[2])
            except (OSError, smtplib.SMTPException) as error:
                raise Unreachable(_words(error)) from None
        return self._smtp

    def _address(self, smtp: smtplib.SMTP, recipient: str) -> None:
        """MAIL, RCPT and DATA: a sender that is not taken concerns every recipient, the rest this one."""
        code, _ = smtp.mail(self._sender)
        if code != 250:
            raise smtplib.SMTPResponseException(code, "to MAIL FROM")
        _agreed(smtp, smtp.rcpt(recipient)[0], 250, 251, 252)
        _agreed(smtp, smtp.docmd("DATA")[0], 354)

    def _hand_over(self, smtp: smtplib.SMTP, content: bytes) -> None:
        try:
            smtp.send(_stuffed(content))
            code, _ = smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            self._hang_up()
            raise Uncertain(_words(error)) from None
        if code != 250:
            self._hang_up()
            raise Refused(code)

    def _hang_up(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
        self._smtp = None


def _agreed(smtp: smtplib.SMTP, code: int, *good: int) -> None:
    if code == TRY_AGAIN_LATER:
        raise smtplib.SMTPResponseException(code, "")
    if code not in good:
        with contextlib.suppress(OSError, smtplib.SMTPException):  # who is next will see that the connection is gone
            smtp.rset()
        raise Refused(code)


class _Limited(smtplib.SMTP):
    """Its connection is cut after WHOLE seconds, which who waits for an answer sees as the server's doing."""

    def connect(self, *where: Any, **how: Any) -> tuple[int, bytes]:
        self._timer = threading.Timer(WHOLE, self._cut)
        self._timer.daemon = True
        self._timer.start()
        try:
            return super().connect(*where, **how)
        except BaseException:
            self._timer.cancel()
            raise

    def close(self) -> None:
        self._timer.cancel()
        super().close()

    def _cut(self) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):  # it is gone already
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # below TLS, which another thread reads


class _LimitedTLS(_Limited, smtplib.SMTP_SSL):
    """The same, with TLS from the first byte."""


def _connected(server: Server, greeting: str) -> smtplib.SMTP:
    context = ssl.create_default_context()  # verifies, by the system's roots or SSL_CERT_FILE
    smtp: smtplib.SMTP
    if server.tls == "tls":
        smtp = _LimitedTLS(server.host, server.port, local_hostname=greeting, timeout=TIMEOUT, context=context)
    else:
        smtp = _Limited(server.host, server.port, local_hostname=greeting, timeout=TIMEOUT)
    try:
        if server.tls == "starttls":
            smtp.starttls(context=context)
        smtp.ehlo_or_helo_if_needed()
        if server.user:
            smtp.login(server.user, server.password)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _stuffed(content: bytes) -> bytes:
    """With the dots of RFC 5321 §4.5.2 and the end of the content."""
    body = re.sub(rb"(?m)^\.", b"..", content)
    return body + (b"" if body.endswith(b"\r\n") else b"\r\n") + b".\r\n"


def _words(error: Exception) -> str:
    """The kind of an error and its code, never the server's words: they may repeat an address or a name."""
    code = getattr(error, "smtp_code", None) or getattr(error, "errno", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
