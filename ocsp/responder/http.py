"""HTTP/1.1 for relying parties: status, CRLs and issuers' certificates, and nothing else.

Owns the reading of requests from the network, its limits, and the life of a connection. No framework: an answer costs less than
a framework's first line. Nothing a client sends is logged, echoed or kept, and none can make it hold more than a few KB
or wait for longer than `Limits` says.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, partial
from http import HTTPStatus
from time import monotonic, time
from typing import NamedTuple

from ca.pki import ocsp_request
from ca.pki.ocsp_request import Asked, Refused

from . import record
from .answers import LONGEST_REQUEST, RESPONSE, Answer, Desk, Get, certificate, conditional, crl, decoded, http_date, no_counts, uncached
from .loop import BROKEN, READ, WRITE, Aside, Loop

log = logging.getLogger(__name__)
LONGEST_HEAD = 8192  # octets of request line and headers
_READ = 4096  # octets taken from the network at a time, which bounds how many requests are read ahead
_READ_ON = LONGEST_HEAD  # the same, where a request has begun: then too long a one is known at once
_DROPPED = 1 << 18  # octets that are read and dropped after a fault, so that the client still gets to read which
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_LINE = re.compile(rb"(%b{1,32}) ([!-~]++) HTTP/1\.([01])" % _TOKEN)
# A field line is a token, a colon and a value without control characters; a folded one is none (RFC 9112 §5).
_FIELDS = re.compile(rb"(?:%b++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+" % _TOKEN)
_ONCE = {b"content-length", b"content-type", b"host", b"transfer-encoding"}
_METHOD = re.compile(rb"%b{1,32}(?: |\Z)" % _TOKEN)
_OTHER_VERSION = re.compile(rb" HTTP/(?!1\.[01]\Z)[0-9]\.[0-9]\Z")
_READING, _WRITING = (b"GET", b"HEAD"), (b"POST",)
_LOOK_CLOSER = {b"if-none-match", b"if-modified-since", b"content-encoding", b"expect"}
_LONGEST_KNOWN = 1024
_NEVER = b"\0"  # in no request
_GET, _VERSION = b"GET /ocsp/", b" HTTP/1.1"
_GET_LENGTH, _VERSION_LENGTH = len(_GET), len(_VERSION)

Fresh = Callable[[Asked], Awaitable[bytes | None]]


@dataclass(frozen=True)
class Limits:
    """Of one process. Seconds: `request` for a request to arrive, from its first octet on, and for a client to go on reading;
    `idle` between two requests; `crowded` instead of both once half of the connections are in use."""

    connections: int = 10_000
    request: float = 10.0
    idle: float = 60.0
    crowded: float = 2.0


class Fault(Exception):
    """What came is no request, or one that is too much: it gets this HTTP status, and the connection ends."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class Request(NamedTuple):
    """`fields` by lower-case name; `keep`: whether the client wants to go on with the connection."""

    method: bytes
    target: bytes
    fields: dict[bytes, bytes]
    keep: bool
    body: bytes


class Site:
    """What all connections of a process share. `get` is Store.get; `desk` is replaced as issuers come, `counts` stays; `fresh` gives the
    DER answer to a request with a nonce, or None for the ready one; without `fresh` nonces are ignored."""

    def __init__(self, get: Get, limits: Limits, fresh: Fresh | None = None) -> None:
        self.counts = no_counts()
        self.desk, self.get = Desk((), get, self.counts), get
        self.limits, self.fresh = limits, fresh
        self.loop = Loop()
        self.connections: set[Connection] = set()
        self.draining = False
        self._second = 0
        self.tick()

    @cached_property
    def aside(self) -> Aside:
        """Where answers are made that take longer."""
        return Aside(self.loop)

    def turn(self, seconds: float) -> None:
        """Serve whoever is ready, after waiting for at most `seconds`."""
        self.loop.turn(seconds, self.tick)

    def take(self, client: socket.socket) -> None:
        """Serve another client, or hang up if there are too many."""
        if len(self.connections) >= self.limits.connections:
            client.close()
            return
        client.setblocking(False)
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection(self, client)

    def respond(self, request: Request, now: float) -> Answer | Awaitable[Answer]:
        """The answer to any request; awaitable where it has to be made."""
        path = _path(request.target)
        for pattern, methods, handler in _ROUTES:
            if pattern.fullmatch(path):
                if request.method in methods:
                    return handler(self, path, request, now)
                return problem(HTTPStatus.METHOD_NOT_ALLOWED, b"Allow: %b\r\n" % b", ".join(methods))
        return problem(HTTPStatus.NOT_FOUND)

    def opening(self, status: int, close: bool) -> bytes:
        """The status line, the Date of the last tick, and whether the connection ends."""
        line = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
        return b"%bDate: %b\r\n%b" % (line, self._date, b"Connection: close\r\n" if close else b"")

    def tick(self) -> None:
        """Look at the clocks, for all that is done in one turn."""
        self.now, self.moment = time(), monotonic()
        if self._second != self.now // 1:
            self._second = int(self.now)
            self._date = http_date(self._second)
            self.ok = self.opening(200, False)

    def sweep(self) -> None:
        """End the connections that have been slow or silent for too long. Called every second."""
        crowded = self.draining or len(self.connections) > self.limits.connections // 2
        for connection in list(self.connections):
            connection.look(self.moment, crowded)

    def drain(self) -> None:
        """From now on every connection ends with its next answer, and silent ones soon."""
        self.draining = True
        for connection in self.connections:
            connection.forget_usual()

    def _post(self, _: bytes, request: Request, now: float) -> Answer | Awaitable[Answer]:
        if not _is_request(request.fields) or b"content-encoding" in request.fields:
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        return self._ocsp(request.body, now)

    def _get(self, path: bytes, request: Request, now: float) -> Answer | Awaitable[Answer]:
        answer = self._ocsp(decoded(path[len(b"/ocsp/") :]), now)
        return _conditional(answer, request.fields) if isinstance(answer, Answer) else answer

    def _ocsp(self, request: bytes, now: float) -> Answer | Awaitable[Answer]:
        answer = self.desk.answer(request, now)
        if self.fresh and answer.cacheable:  # only what is known is worth a signature
            asked = _question(request)
            if asked and asked.nonce is not None:
                return self._fresh(self.fresh, asked)
        return answer

    async def _fresh(self, fresh: Fresh, asked: Asked) -> Answer:
        """After the wait the ready answer may be another."""
        body = None
        try:
            body = await fresh(asked)
        except Exception as error:  # its faults are not the client's
            log.error("no answer with a nonce could be made (%s)", type(error).__name__)
        return uncached(200, RESPONSE, body) if body else self.desk.again(asked, time())

    def _crl(self, path: bytes, request: Request, now: float) -> Answer:
        packed = self.get(record.document_key(path), _DOCUMENTS)
        if packed is None:
            return problem(HTTPStatus.NOT_FOUND)
        answer = crl(packed, now)
        return _conditional(answer, request.fields) if answer else problem(HTTPStatus.SERVICE_UNAVAILABLE, b"Retry-After: 2\r\n")

    def _issuer(self, path: bytes, request: Request, now: float) -> Answer:
        packed = self.get(record.document_key(path), _DOCUMENTS)
        return _conditional(certificate(packed), request.fields) if packed else problem(HTTPStatus.NOT_FOUND)

    def _livez(self, _: bytes, request: Request, now: float) -> Answer:
        return uncached(200, b"text/plain", b"ok\n")


_DOCUMENTS = record.owner(record.DOCUMENT)
_ROUTES = (
    (re.compile(rb"/ocsp"), _WRITING, Site._post),
    (re.compile(rb"/ocsp/.*"), _READING, Site._get),
    (re.compile(rb"/crl/[a-z0-9-]{1,64}(?:/[0-9]{1,9})?\.crl"), _READING, Site._crl),
    (re.compile(rb"/issuers/[a-z0-9-]{1,64}\.der"), _READING, Site._issuer),
    (re.compile(rb"/livez"), _READING, Site._livez),
)


def problem(status: HTTPStatus, fields: bytes = b"") -> Answer:
    """An HTTP error: its phrase, and nothing of the request."""
    return uncached(status, b"text/plain", status.phrase.encode() + b"\n", fields)


def _conditional(answer: Answer, fields: dict[bytes, bytes]) -> Answer:
    has, since = fields.get(b"if-none-match"), fields.get(b"if-modified-since")
    if has is None and since is None:
        return answer
    return conditional(answer, None if has is None else has.decode("latin-1"), None if since is None else since.decode("latin-1"))


def _question(request: bytes) -> Asked | None:
    try:
        return ocsp_request.read(request)
    except Refused:
        return None


def _path(target: bytes) -> bytes:
    """The path of an origin-form or absolute-form target (RFC 9112 §3.2), exactly as it came."""
    if target.startswith((b"http://", b"HTTP://")):
        return target[target.find(b"/", 7) :] if b"/" in target[7:] else b"/"
    return target


class Connection:
    """One client's connection; requests are answered in their order."""

    def __init__(self, site: Site, client: socket.socket) -> None:
        self._site, self._socket = site, client
        self._receive, self._give = client.recv, client.send
        self._plain = False  # nothing is under way: what comes next may be answered the short way, if it begins or ends with these
        self._got = self._posted = _NEVER  # a GET's end and a POST's beginning, headers included, that were found in order
        self._whole = 0  # octets of such a POST
        self._rest = b""  # what has come of requests that are not answered yet
        self._out = memoryview(b"")  # of the last answer, what the network has not taken yet
        self._awaited: Future[Answer] | None = None  # an answer that is being made
        self._ending = False  # the last answer is made
        self._failed = False  # it says why; what else comes is dropped
        self._dropped = 0
        self._since = site.moment  # when the awaited request began to come, or the last answer to go
        self._events = READ
        site.connections.add(self)
        site.loop.watch(client.fileno(), READ, self.ready)

    def ready(self, event: int) -> None:
        """The usual case in a few steps: one whole request about a certificate, with this client's usual headers."""
        if event != READ:
            return self._unusual(event)
        try:
            data = self._receive(_READ_ON if self._rest else _READ)
        except BlockingIOError:
            return None
        except OSError:
            return self.end()
        if not self._plain:
            return self._received(data)
        if data.startswith(self._posted) and len(data) == self._whole:
            request = data[len(self._posted) :]
        elif data.startswith(_GET) and data.endswith(self._got) and data.find(b"\r\n") == len(data) - len(self._got) + _VERSION_LENGTH:
            request = decoded(data[_GET_LENGTH : -len(self._got)])
        else:
            return self._received(data)
        site = self._site
        _, head, body = site.desk.answer(request, site.now)
        answer = site.ok + head + body
        self._since = site.moment
        try:
            taken = self._give(answer)
        except OSError:
            taken = 0  # tried once more, which tells why
        if taken != len(answer):
            self._send(answer[taken:])
            self._settle()
        return None

    def look(self, now: float, crowded: bool) -> None:
        """End the connection if it has been waited for too long."""
        limits, waiting = self._site.limits, self._rest or self._out or self._ending
        patience = limits.crowded if crowded else limits.request if waiting else limits.idle
        if self._awaited or now - self._since < patience:
            return
        if self._rest and not self._out and not self._ending:
            self._fail(HTTPStatus.REQUEST_TIMEOUT)
            self._settle()
        else:
            self.end()

    def forget_usual(self) -> None:
        """Look closely at every request from now on."""
        self._plain = False

    def end(self) -> None:
        """Close it, now."""
        if self in self._site.connections:
            self._site.connections.remove(self)
            self._site.loop.forget(self._socket.fileno())
            self._socket.close()
            self._rest, self._out = b"", memoryview(b"")
        if self._awaited:
            self._awaited.cancel()

    def _unusual(self, event: int) -> None:
        if event & BROKEN:
            self.end()
        elif event & WRITE:  # the kernel says so when much has been taken, so that it is no use to read an octet at a time
            self._since = self._site.moment
            self._pump()
            self._answer_all()

    def _received(self, data: bytes) -> None:
        if not data:  # a client may end its side and still read
            self.end()
        elif self._failed:
            self._drop(data)
        else:
            if not self._rest:
                self._since = self._site.moment
            self._rest += data
            self._answer_all()

    def _drop(self, data: bytes) -> None:
        self._dropped += len(data)
        if self._dropped > _DROPPED:
            self.end()

    def _answer_all(self) -> None:
        """Answer what has come whole, until an answer takes longer."""
        try:
            while self._rest and not self._under_way() and (request := self._take()):
                self._serve(request)
        except Fault as fault:
            self._fail(fault.status)
        self._settle()

    def _under_way(self) -> bool:
        return bool(self._out) or self._ending or self._awaited is not None

    def _settle(self) -> None:
        """Wait for what is needed next: nothing is read while an answer is under way. Take the short way again if nothing is."""
        site = self._site
        if self not in site.connections:
            return
        self._plain = not (self._under_way() or self._rest or site.draining or site.fresh)
        events = WRITE if self._out else 0 if self._awaited else READ
        if events != self._events:
            self._events = events
            site.loop.change(self._socket.fileno(), events)

    def _take(self) -> Request | None:
        """The next request, None while it is not whole. Raises Fault."""
        rest = self._rest = self._rest.lstrip(b"\r\n")  # RFC 9112 §2.2
        size = rest.find(b"\r\n\r\n") + 4
        if size < 4 or size > LONGEST_HEAD:
            _check_beginning(rest)
            return None
        line = rest.find(b"\r\n")
        method, target, keep = _line(rest[:line])
        fields = _fields(rest[line + 2 : size - 2])
        length = _length(method, fields)
        if keep and b"host" not in fields:  # of HTTP/1.0 it is not asked
            raise Fault(HTTPStatus.BAD_REQUEST)
        body = rest[size : size + length]
        if len(body) < length:
            self._expect(fields, bool(body))
            return None
        self._rest = rest[size + length :]
        keep = keep and b"close" not in fields.get(b"connection", b"").lower()
        request = Request(method, target, fields, keep, body)
        self._learn(request, rest[:size], rest[line:size], length)
        return request

    def _learn(self, request: Request, beginning: bytes, headers: bytes, length: int) -> None:
        """Remember headers with which a request about a certificate needs no closer look."""
        if not request.keep or len(beginning) > _LONGEST_KNOWN or request.fields.keys() & _LOOK_CLOSER:
            return
        if request.method == b"POST" and request.target == b"/ocsp" and length and _is_request(request.fields):
            self._posted, self._whole = beginning, len(beginning) + length
        elif request.method == b"GET" and not length:
            self._got = _VERSION + headers

    def _expect(self, fields: dict[bytes, bytes], begun: bool) -> None:
        """RFC 9110 §10.1.1."""
        expected = fields.get(b"expect")
        if expected is None or begun:
            return
        if expected.lower() != b"100-continue":
            raise Fault(HTTPStatus.EXPECTATION_FAILED)
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _serve(self, request: Request) -> None:
        answer = self._site.respond(request, self._site.now)
        if isinstance(answer, Answer):
            self._answer(request, answer)
        else:
            self._awaited = self._site.aside.run(answer, partial(self._made, request))

    def _made(self, request: Request, future: Future[Answer]) -> None:
        self._awaited = None
        if future.cancelled() or future.exception():
            self.end()
        else:
            self._answer(request, future.result())
            self._answer_all()

    def _answer(self, request: Request, answer: Answer) -> None:
        close = not request.keep or self._site.draining
        self._ending, self._since = close, self._site.moment
        opening = self._site.opening(answer.status, close)
        self._send(opening + answer.head + (b"" if request.method == b"HEAD" else answer.body))

    def _send(self, data: bytes) -> None:
        self._out = memoryview(data)
        self._pump()

    def _pump(self) -> None:
        """Give the network what it takes, and end the connection after the last answer."""
        try:
            self._out = self._out[self._give(self._out) :]
            if self._failed and not self._out:
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self.end()
        if self._ending and not self._out and not self._failed:
            self.end()

    def _fail(self, status: HTTPStatus) -> None:
        """Say why, and end. What is still coming is read and dropped for a while: closed at once, the network would take the
        answer back (RFC 9112 §9.6)."""
        answer = problem(status)
        self._ending = self._failed = True
        self._rest, self._since = b"", self._site.moment
        self._send(self._site.opening(status, True) + answer.head + answer.body)


def _check_beginning(rest: bytes) -> None:
    """Raises Fault for the beginning of a request that can become none."""
    if rest and not _METHOD.match(rest):
        raise Fault(HTTPStatus.BAD_REQUEST)
    if len(rest) >= LONGEST_HEAD:
        long_line = b"\r\n" not in rest[:LONGEST_HEAD]
        raise Fault(HTTPStatus.REQUEST_URI_TOO_LONG if long_line else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _line(line: bytes) -> tuple[bytes, bytes, bool]:
    """(method, target, whether it is HTTP/1.1) of a request line."""
    found = _LINE.fullmatch(line)
    if not found:
        raise Fault(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED if _OTHER_VERSION.search(line) else HTTPStatus.BAD_REQUEST)
    return found[1], found[2], found[3] == b"1"


def _fields(block: bytes) -> dict[bytes, bytes]:
    """The field lines of `block` by lower-case name; one that comes more than once is joined (RFC 9110 §5.3)."""
    if not _FIELDS.fullmatch(block):
        raise Fault(HTTPStatus.BAD_REQUEST)
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name in fields:
            if name in _ONCE:
                raise Fault(HTTPStatus.BAD_REQUEST)
            value = fields[name] + b", " + value
        fields[name] = value
    return fields


def _length(method: bytes, fields: dict[bytes, bytes]) -> int:
    """The octets of the body. Raises Fault for one whose length is not known or too much."""
    if b"transfer-encoding" in fields:
        raise Fault(HTTPStatus.NOT_IMPLEMENTED)
    length = fields.get(b"content-length")
    if length is None:
        if method == b"POST":
            raise Fault(HTTPStatus.LENGTH_REQUIRED)
        return 0
    if not length.isdigit():
        raise Fault(HTTPStatus.BAD_REQUEST)
    if len(length) > 9 or int(length) > LONGEST_REQUEST:
        raise Fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return int(length)


def _is_request(fields: dict[bytes, bytes]) -> bool:
    """Whether the fields say that the body is an OCSPRequest (RFC 6960 A.1)."""
    return fields.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/ocsp-request"
