"""HTTP as relying parties and attackers speak it: right answers, the RFC's errors, 4xx, and never more than that.

The site runs in a thread of this process over a store filled by hand; what the answers say is nothing to it.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple, cast
from urllib.parse import quote

import pytest

from ca.pki import der, ocsp_request, ocsp_response
from ca.pki.ocsp_request import SHA1, SHA256
from ocsp.responder import answers, http, record
from ocsp.responder.answers import Desk, Issuer
from ocsp.responder.http import Limits, Site
from ocsp.responder.loop import Loop
from ocsp.responder.record import DOCUMENT, Record
from ocsp.responder.server import Server
from ocsp.responder.store import Store
from ocsp.responder.tally import Tally

NOW, LIFE = int(time.time()), 12 * 3600  # longer than any run of the tests
OURS = Issuer(0, (b"n" * 20, b"k" * 20), (b"N" * 32, b"K" * 32))
OTHER = Issuer(1, (b"o" * 20, b"q" * 20), (b"O" * 32, b"Q" * 32))
UNAUTHORIZED, TRY_LATER, MALFORMED = (ocsp_response.error(status) for status in (6, 3, 1))
# A serial whose requests' base64 has "/", "//" and "+" in it, one that is revoked, one withdrawn, one past its nextUpdate, a short one
SERIAL, REVOKED, WITHDRAWN, OLD, SHORT = (
    int.from_bytes(key.ljust(20, b"\x01"), "big") for key in (b"\x5f\xff\xff\xff\xbe\xfb\xef" * 2, b"r", b"w", b"o", b"\0s")
)


def body(serial: int, algorithm: str) -> bytes:
    return b"the answer about %040x for %b" % (serial, algorithm.encode())


@pytest.fixture(scope="module")
def held() -> Store:
    store = Store(1 << 10, 32 << 20)

    def put(serial: int, until: int, *both: bytes) -> None:
        key = record.serial_key(serial)
        assert key
        store.put(Record(key, 0, serial == REVOKED, NOW - 60, until, *both))

    for serial in (SERIAL, SHORT, REVOKED):
        put(serial, NOW + LIFE, body(serial, SHA1), body(serial, SHA256))
    put(WITHDRAWN, NOW + LIFE, b"", b"")
    put(OLD, NOW, b"past", b"past")
    store.put(Record(record.document_key(b"/crl/issuing-1.crl"), DOCUMENT, False, NOW - 60, NOW + LIFE, b"a CRL", b""))
    store.put(Record(record.document_key(b"/crl/issuing-1/3.crl"), DOCUMENT, False, NOW - 60, NOW - 1, b"an old CRL", b""))
    store.put(Record(record.document_key(b"/crl/big.crl"), DOCUMENT, False, NOW - 60, NOW + LIFE, BIG, b""))
    store.put(Record(record.document_key(b"/issuers/root.der"), DOCUMENT, False, NOW - 60, NOW - 60, b"a certificate", b""))
    return store


BIG = random.Random(1).randbytes(4 << 20)


class Served:
    """A server on a port, in a thread of its own."""

    def __init__(self, store: Store, limits: Limits, fresh: http.Fresh | None = None) -> None:
        self.site = Site(store.get, limits, fresh)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.tally = Tally(2)
        self.server = Server(self.site, store, self.listener, self.tally.row(1), sweep=0.05)
        self.site.desk = Desk([OURS, OTHER], store.get, self.site.counts)
        self.port = self.listener.getsockname()[1]
        self.server.listen()
        self._thread = threading.Thread(target=self.server.run, daemon=True)  # a test that fails ends none
        self._thread.start()

    def close(self) -> None:
        self.server.stop()
        self._thread.join()
        self.listener.close()


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A handler that fails is."""
    yield
    assert [each for each in caplog.records if each.name.startswith("ocsp")] == []


@pytest.fixture(scope="module")
def served(held: Store) -> Iterator[Served]:
    it = Served(held, Limits(connections=200, request=1.0, idle=60.0, crowded=60.0))
    yield it
    it.close()


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Client:
    """A raw connection."""

    def __init__(self, served: Served) -> None:
        self._socket = socket.create_connection(("127.0.0.1", served.port), 10)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, head: bool = False) -> Answer:
        line = self._file.readline().decode()
        assert line.startswith("HTTP/1.1 "), line
        fields = {}
        while text := self._file.readline().decode().rstrip("\r\n"):
            name, value = text.split(": ", 1)
            assert name not in fields
            fields[name] = value
        status = int(line.split()[1])
        length = 0 if head or status in (100, 304) else int(fields["Content-Length"])
        return Answer(status, fields, self._file.read(length))

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.receive(data.startswith(b"HEAD"))

    def ended(self) -> bool:
        return self._file.read(1) == b""


def asked(serial: int = SERIAL, issuer: Issuer = OURS, algorithm: ocsp_request.Hash = SHA1) -> bytes:
    hashes = issuer.sha1 if algorithm == SHA1 else issuer.sha256
    content = der.contents(number := der.integer(serial), der.whole(number, der.INTEGER))
    return ocsp_request.beginning(algorithm, *hashes, length=len(content)) + content


def get(path: str | bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    path = path if isinstance(path, bytes) else path.encode()
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, b"".join(field + b"\r\n" for field in (b"Host: a", *fields)))


def post(content: bytes, *fields: bytes, path: bytes = b"/ocsp", kind: bytes = b"application/ocsp-request") -> bytes:
    return get(path, b"Content-Type: " + kind, b"Content-Length: %d" % len(content), *fields, method=b"POST") + content


def raw(request: bytes) -> str:
    return "/ocsp/" + b64encode(request).decode()


def escaped(request: bytes) -> str:
    return "/ocsp/" + quote(b64encode(request).decode(), safe="")


def once(served: Served, data: bytes) -> Answer:
    with Client(served) as client:
        return client.ask(data)


# --- answers


@pytest.mark.parametrize("algorithm", [SHA1, SHA256])
@pytest.mark.parametrize("serial", [SERIAL, SHORT])
def test_each_algorithm_gets_its_own_answer(served: Served, algorithm: ocsp_request.Hash, serial: int) -> None:
    """Not whatever was made first or last: the defect of caches that are keyed by the serial alone."""
    with Client(served) as client:
        for _ in range(2):
            for data in (post(asked(serial, algorithm=algorithm)), get(escaped(asked(serial, algorithm=algorithm)))):
                answer = client.ask(data)
                assert (answer.status, answer.body) == (200, body(serial, algorithm))


def test_headers_of_an_answer(served: Served) -> None:
    for data in (post(asked()), get(escaped(asked()))):
        before = datetime.now(UTC).replace(microsecond=0)
        fields = once(served, data).fields
        assert fields["Content-Type"] == "application/ocsp-response"
        assert before <= parsedate_to_datetime(fields["Date"]) <= datetime.now(UTC)
        assert parsedate_to_datetime(fields["Last-Modified"]).timestamp() == NOW - 60
        assert parsedate_to_datetime(fields["Expires"]).timestamp() == NOW + LIFE
        age, *flags = fields["Cache-Control"].split(", ")
        assert flags == ["public", "no-transform", "must-revalidate"]
        assert 0 < int(age.removeprefix("max-age=")) <= NOW + LIFE - before.timestamp()
        assert fields["ETag"][0] == fields["ETag"][-1] == '"'
    assert once(served, post(asked())).fields["ETag"] != once(served, post(asked(algorithm=SHA256))).fields["ETag"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked(SERIAL + 1), UNAUTHORIZED),
        (asked(SERIAL + 1, algorithm=SHA256), UNAUTHORIZED),
        (asked(issuer=OTHER), UNAUTHORIZED),
        (asked(issuer=Issuer(0, (b"n" * 20, b"q" * 20), OURS.sha256)), UNAUTHORIZED),
        (asked(issuer=Issuer(0, (b"o" * 20, b"k" * 20), OURS.sha256)), UNAUTHORIZED),
        (asked(1), UNAUTHORIZED),
        (asked(1 << 200), UNAUTHORIZED),
        (asked()[:-20] + b"\xff" * 20, MALFORMED),
        (asked()[:-20] + b"\0" * 20, MALFORMED),
        (asked()[:-20] + SHORT.to_bytes(20, "big"), MALFORMED),  # there is such a certificate, but this is not how it is named
        (asked(WITHDRAWN), TRY_LATER),
        (asked(OLD), TRY_LATER),
        (b"", MALFORMED),
        (b"GET / HTTP/1.1", MALFORMED),
        (asked()[:-1], MALFORMED),
        (asked() + b"\0", MALFORMED),
        (b"\x30\x80" * 2000, MALFORMED),
    ],
)
def test_ocsp_errors_come_with_status_200_and_are_never_cached(served: Served, request_: bytes, expected: bytes) -> None:
    """Foreign issuers, wrong hashes, serials never issued: never good, and no HTTP error (RFC 6960 A.2)."""
    for data in (post(request_), get(escaped(request_))):
        answer = once(served, data)
        assert (answer.status, answer.body) == (200, expected)
        assert answer.fields["Content-Type"] == "application/ocsp-response"
        assert answer.fields["Cache-Control"] == "no-store"
        assert "ETag" not in answer.fields


def test_a_nonce_of_any_length_is_passed_over(served: Served) -> None:
    """Also one of more than 32 octets, which RFC 8954 forbade and RFC 9654 allows."""
    plain = asked()
    tbs = der.children(plain, der.whole(plain))[0]
    for length in (1, 32, 33, 128):
        nonce = der.tlv(der.SEQUENCE, der.oid("1.3.6.1.5.5.7.48.1.2"), der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, b"n" * length)))
        longer = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, der.contents(plain, tbs), der.tlv(0xA2, der.tlv(der.SEQUENCE, nonce))))
        for data in (post(longer), get(escaped(longer))):
            assert once(served, data).body == body(SERIAL, SHA1)


@pytest.mark.parametrize("change", [escaped, raw, lambda r: raw(r).rstrip("="), lambda r: raw(r).replace("/ocsp/", "/ocsp//")])
@pytest.mark.parametrize("change_more", [str, lambda path: path.replace("%2F", "%2f"), lambda path: path.replace("+", "%2B")])
def test_every_form_of_a_get_path(served: Served, change: object, change_more: object) -> None:
    path = change_more(change(asked()))  # type: ignore[operator]
    assert once(served, get(path)).body == body(SERIAL, SHA1)
    assert once(served, get(f"http://anything.example:8080{path}")).body == body(SERIAL, SHA1)


def test_the_sample_has_all_that_is_difficult_in_a_path() -> None:
    encoded = b64encode(asked()).decode()
    assert "//" in encoded
    assert "+" in encoded


@pytest.mark.parametrize(
    "path", ["/ocsp/", "/ocsp/%", "/ocsp/%00", "/ocsp/a b".replace(" ", "%20"), "/ocsp/" + "A" * 5000, "/ocsp/..", "/ocsp/?x"]
)
def test_what_is_no_base64_is_malformed(served: Served, path: str) -> None:
    answer = once(served, get(path))
    assert (answer.status, answer.body) == (200, MALFORMED)


def test_a_client_that_has_the_answer_is_told_so(served: Served) -> None:
    with Client(served) as client:
        for path in (escaped(asked()), "/crl/issuing-1.crl", "/issuers/root.der"):
            fields = client.ask(get(path)).fields
            for field in (
                b"If-None-Match: " + fields["ETag"].encode(),
                b'If-None-Match: "x", W/' + fields["ETag"].encode(),
                b"If-None-Match: *",
            ):
                answer = client.ask(get(path, field))
                assert (answer.status, answer.body) == (304, b"")
                assert answer.fields["ETag"] == fields["ETag"]
                assert answer.fields["Cache-Control"] == fields["Cache-Control"]
            assert client.ask(get(path, b"If-Modified-Since: " + fields["Last-Modified"].encode())).status == 304
            for other in (b'If-None-Match: "x"', b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", b"If-Modified-Since: yesterday"):
                assert client.ask(get(path, other)).status == 200
        assert client.ask(post(asked(), b"If-None-Match: *")).status == 200
        assert client.ask(get(escaped(asked(1)), b"If-None-Match: *")).body == UNAUTHORIZED


def test_documents(served: Served) -> None:
    crl = once(served, get("/crl/issuing-1.crl"))
    assert (crl.status, crl.body, crl.fields["Content-Type"]) == (200, b"a CRL", "application/pkix-crl")
    assert int(crl.fields["Cache-Control"].split(",")[0].removeprefix("max-age=")) <= 60
    certificate = once(served, get("/issuers/root.der"))
    assert (certificate.status, certificate.body, certificate.fields["Content-Type"]) == (200, b"a certificate", "application/pkix-cert")
    past = once(served, get("/crl/issuing-1/3.crl"))
    assert (past.status, past.fields["Retry-After"], past.fields["Cache-Control"]) == (503, "2", "no-store")
    assert once(served, get("/livez")).body == b"ok\n"


@pytest.mark.parametrize("path", ["/livez", "/crl/issuing-1.crl", "/issuers/root.der", escaped(asked())])
def test_head_is_get_without_the_body(served: Served, path: str) -> None:
    with Client(served) as client:
        full, head = client.ask(get(path)), client.ask(get(path, method=b"HEAD"))
        assert (head.status, head.body) == (200, b"")
        assert {**head.fields, "Date": ""} == {**full.fields, "Date": ""}
        assert client.ask(get("/livez")).body == b"ok\n", "the connection is in step"


# --- HTTP's own errors


ELSEWHERE = """
    / /OCSP /ocsp2 //ocsp /crl/issuing-1 /crl/../livez /crl/nobody.crl /crl/Issuing-1.crl /crl/a/b.crl /issuers/ /issuers/%00.der
    /issuers/nobody.der /issuers/root.pem /readyz /api/v1/certificates/ /admin/ * /livez/ issuers
"""


@pytest.mark.parametrize("path", ELSEWHERE.split())
def test_nothing_else_is_here(served: Served, path: str) -> None:
    answer = once(served, get(path))
    assert (answer.status, answer.body, answer.fields["Cache-Control"]) == (404, b"Not Found\n", "no-store")


@pytest.mark.parametrize(
    ("data", "allow"),
    [
        (get("/ocsp"), "POST"),
        (get("/ocsp", method=b"PUT"), "POST"),
        (post(b"", path=b"/livez"), "GET, HEAD"),
        (post(asked(), path=escaped(asked()).encode()), "GET, HEAD"),
        (get("/crl/issuing-1.crl", method=b"DELETE"), "GET, HEAD"),
        (get("/issuers/root.der", method=b"OPTIONS"), "GET, HEAD"),
    ],
)
def test_another_method_is_405_and_names_the_right_ones(served: Served, data: bytes, allow: str) -> None:
    answer = once(served, data)
    assert (answer.status, answer.fields["Allow"]) == (405, allow)


LONG = b"a" * 9000
FAULTS = [
    (post(b"x" * 4097), 413),
    (get("/ocsp", b"Content-Type: application/ocsp-request", b"Content-Length: 99999999999999999999", method=b"POST"), 413),
    (get("/ocsp/" + "A" * 20_000), 414),
    (b"A" * 9000, 400),
    (b"GET /" + LONG, 414),
    (get("/livez", b"X: " + LONG), 431),
    (get("/livez", *(b"X%d: y" % number for number in range(1200))), 431),
    (get("/ocsp", b"Content-Type: application/ocsp-request", method=b"POST"), 411),
    (get("/ocsp", b"Transfer-Encoding: chunked", method=b"POST") + b"0\r\n\r\n", 501),
    (post(asked(), b"Transfer-Encoding: chunked"), 501),
    (post(asked(), b"Content-Length: 5"), 400),
    (get("/livez", b"Content-Length: -1"), 400),
    (get("/livez", b"Content-Length: 1e3"), 400),
    (get("/livez", b"Content-Length : 0"), 400),
    (get("/livez", b"Host: b"), 400),
    (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\nHost: a\n\n\r\n\r\n", 400),
    (get("/livez", b"X: a\r\n folded"), 400),
    (get("/livez", b"X: a\0b"), 400),
    (get("/livez", b"X: a\rb"), 400),
    (get("/livez", b"no colon"), 400),
    (get("/livez", b": no name"), 400),
    (get("/livez", "X: é".encode()).replace(b"X", b"\xc3\xa9"), 400),
    (b"GET /livez HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /li vez HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /livez\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (post(asked(), b"Expect: something")[: -len(asked())], 417),
]


@pytest.mark.parametrize(("data", "status"), FAULTS)
def test_what_is_no_http_gets_its_status_and_the_connection_ends(served: Served, data: bytes, status: int) -> None:
    with Client(served) as client:
        answer = client.ask(data)
        assert (answer.status, answer.fields["Connection"], answer.fields["Cache-Control"]) == (status, "close", "no-store")
        assert answer.body.count(b"\n") == 1
        assert client.ended()


@pytest.mark.parametrize("kind", [b"", b"application/x-www-form-urlencoded", b"text/plain", b"application/ocsp-requests"])
def test_another_type_is_415(served: Served, kind: bytes) -> None:
    assert once(served, post(asked(), kind=kind)).status == 415
    assert once(served, post(asked(), b"Content-Encoding: gzip")).status == 415
    assert once(served, post(asked(), kind=b"Application/OCSP-Request; x=y")).status == 200


def test_nothing_of_a_request_comes_back(served: Served) -> None:
    marks = b"mark<script>%0d%0aX-Evil:1"
    for data in (get(b"/" + marks), get(b"/ocsp/" + marks), get("/livez", b"X: " + marks, method=b"MARK"), post(marks)):
        with Client(served) as client:
            client.send(data)
            answer = client.receive()
            assert b"mark" not in answer.body.lower()
            assert "mark" not in str(answer.fields).lower()


def test_mutants_of_a_request_get_an_answer_or_a_4xx(served: Served) -> None:
    """Never a 5xx but 501 and 505, never silence, never another certificate's answer."""
    chance, ours = random.Random(9112), {body(SERIAL, SHA1), UNAUTHORIZED, MALFORMED, TRY_LATER}
    samples = [get(escaped(asked())), post(asked())]
    client = Client(served)
    for number in range(4_000):
        mutant = bytearray(samples[number % 2])
        mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        client.send(bytes(mutant) + get("/livez"))  # behind one that lost its end, the next tells it
        answer = client.receive(head=mutant.startswith(b"HEAD"))
        assert answer.status in (200, 400, 404, 405, 408, 411, 413, 414, 415, 431, 501, 505), bytes(mutant)
        assert answer.status != 200 or answer.body in ours or answer.body == b"ok\n", bytes(mutant)
        client.__exit__()
        client = Client(served)
    client.__exit__()


# --- connections


def test_requests_in_one_packet_and_in_single_octets(served: Served) -> None:
    data = get(escaped(asked())) + post(asked(algorithm=SHA256)) + get("/livez") + post(asked(1)) + get("/nothing") + get(raw(asked()))
    expected = [body(SERIAL, SHA1), body(SERIAL, SHA256), b"ok\n", UNAUTHORIZED, b"Not Found\n", body(SERIAL, SHA1)]
    with Client(served) as client:
        client.send(data)
        assert [client.receive().body for _ in expected] == expected
        client._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in data:
            client.send(bytes((octet,)))
        assert [client.receive().body for _ in expected] == expected
        for cut in range(1, len(data), 7):
            client.send(data[:cut])
            client.send(data[cut:])
            assert [client.receive().body for _ in expected] == expected


def test_the_same_headers_with_another_method_or_length_are_looked_at_again(served: Served) -> None:
    """The short way is for what was seen before, and for nothing that only looks like it."""
    with Client(served) as client:
        assert client.ask(post(asked())).status == 200
        head = b"\r\nHost: a\r\nContent-Type: application/ocsp-request\r\nContent-Length: %d\r\n\r\n" % len(asked())
        assert client.ask(b"GET /livez HTTP/1.1" + head + asked()).body == b"ok\n"
        assert client.ask(b"GET " + escaped(asked()).encode() + b" HTTP/1.1" + head + asked()).body == body(SERIAL, SHA1)
        client.send(b"POST /ocsp HTTP/1.1" + head + asked()[:-5])
        client.send(asked()[-5:])
        assert client.receive().body == body(SERIAL, SHA1)
        assert client.ask(get(escaped(asked()))).body == body(SERIAL, SHA1)
        assert client.ask(b"POST /ocsp HTTP/1.1\r\nHost: a\r\n\r\n").status == 411


def test_http_1_0_and_close(served: Served) -> None:
    for data in (b"GET /livez HTTP/1.0\r\n\r\n", get("/livez", b"Connection: close"), get("/livez", b"connection: TE, Close")):
        with Client(served) as client:
            answer = client.ask(data)
            assert (answer.body, answer.fields["Connection"]) == (b"ok\n", "close")
            assert client.ended()


def test_continue(served: Served) -> None:
    with Client(served) as client:
        client.send(post(asked(), b"Expect: 100-continue")[: -len(asked())])
        assert client.receive().status == 100
        assert client.ask(asked()).body == body(SERIAL, SHA1)


def test_a_client_may_end_its_side_and_read(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/crl/big.crl"))
        client._socket.shutdown(socket.SHUT_WR)
        assert client.receive().body == BIG


def test_slow_clients_are_not_waited_for(served: Served) -> None:
    for data in (b"GET /li", post(asked())[:-1], b"GET /livez HTTP/1.1\r\nX: "):
        with Client(served) as client:
            client.send(data)
            began = time.monotonic()
            for _ in range(5):  # an octet now and then does not help
                time.sleep(0.1)
                client.send(b"a" if data.endswith(b": ") else b"")
            assert client.receive().status == 408
            assert client.ended()
            assert 0.5 < time.monotonic() - began < 2


def test_who_does_not_read_costs_little_and_is_not_waited_for(served: Served) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clients = [Client(served) for _ in range(20)]
    for client in clients:
        client.send(get("/crl/big.crl") * 10)
    time.sleep(0.5)
    assert once(served, get("/livez")).status == 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB; the bodies are 800 MB
    deadline = time.monotonic() + 10
    while len(served.site.connections) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    for client in clients:
        client.__exit__()
    assert time.monotonic() < deadline


def test_big_answers_come_whole_to_who_reads_slowly(served: Served) -> None:
    with Client(served) as client:
        client.send(get("/crl/big.crl") * 2 + get("/livez"))
        time.sleep(0.3)
        assert [client.receive().body == BIG for _ in range(2)] == [True, True]
        assert client.receive().body == b"ok\n"


def test_more_connections_than_allowed_are_not_taken(served: Served) -> None:
    clients = [Client(served) for _ in range(200)]
    assert clients[0].ask(get("/livez")).status == 200
    with Client(served) as client, pytest.raises((OSError, AssertionError)):
        client.ask(get("/livez"))
    for each in clients:
        each.__exit__()
    deadline = time.monotonic() + 5
    while served.site.connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert once(served, get("/livez")).status == 200


def test_when_half_are_taken_silent_ones_go_soon(held: Store) -> None:
    served = Served(held, Limits(connections=10, request=60, idle=60, crowded=0.3))
    clients = [Client(served) for _ in range(6)]
    assert all(client.ended() for client in clients[:1])
    for client in clients:
        client.__exit__()
    served.close()


def test_a_flood_of_unknown_serials_and_garbage_fills_nothing(served: Served) -> None:
    chance = random.Random(3)
    with Client(served) as client:
        client.ask(post(asked()))
        minutes, beginnings, memory = set(answers._minutes), set(answers._beginnings), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = int(time.time()) // 60
        for _ in range(10_000):
            unknown = client.ask(post(asked(chance.getrandbits(150))))
            assert unknown.body == UNAUTHORIZED
        for _ in range(1_000):
            assert client.ask(post(chance.randbytes(90))).body == MALFORMED
    assert set(answers._minutes) - minutes <= set(range(began, int(time.time()) // 60 + 1)), "more than the clock's own, for Date"
    assert set(answers._beginnings) == beginnings
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 4096


def with_nonce(nonce: bytes, serial: int = SERIAL) -> bytes:
    plain = asked(serial)
    tbs = der.children(plain, der.whole(plain))[0]
    extension = der.tlv(der.SEQUENCE, der.oid("1.3.6.1.5.5.7.48.1.2"), der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, nonce)))
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, der.contents(plain, tbs), der.tlv(0xA2, der.tlv(der.SEQUENCE, extension))))


def test_fresh_answers_wait_and_keep_their_place(held: Store) -> None:
    made: list[bytes | None] = []

    async def fresh(question: ocsp_request.Asked) -> bytes | None:
        await asyncio.sleep(0.05)
        assert question.nonce
        made.append(question.nonce)
        return b"fresh " + question.nonce if question.nonce != b"none" else None

    served = Served(held, Limits(), fresh)
    with Client(served) as client:
        client.send(post(with_nonce(b"one")) + get(escaped(with_nonce(b"two"))) + post(asked()) + post(with_nonce(b"none")))
        got = [client.receive() for _ in range(4)]
        assert [each.body for each in got] == [b"fresh one", b"fresh two", body(SERIAL, SHA1), body(SERIAL, SHA1)]
        assert [each.fields["Cache-Control"] == "no-store" for each in got] == [True, True, False, False]
        assert client.ask(post(with_nonce(b"x", SERIAL + 1))).body == UNAUTHORIZED
    assert made == [b"one", b"two", b"none"], "for the unknown nothing is signed"
    served.close()


@pytest.mark.parametrize("awaited", [True, False])
def test_whatever_fresh_raises_there_is_the_ready_answer(held: Store, awaited: bool) -> None:
    def fail(question: ocsp_request.Asked) -> Awaitable[bytes | None]:
        raise KeyError("anything")

    async def fail_later(question: ocsp_request.Asked) -> bytes | None:
        return await fail(question)

    served = Served(held, Limits(), fail_later if awaited else fail)
    with Client(served) as client:
        for data in (post(with_nonce(b"one")), get(escaped(with_nonce(b"two"))), post(asked())):
            assert client.ask(data).body == body(SERIAL, SHA1)
    served.close()


def test_each_answer_is_counted_once_by_what_it_says(held: Store) -> None:
    async def fresh(question: ocsp_request.Asked) -> bytes | None:
        return b"fresh" if question.nonce == b"one" else None

    for served in (Served(held, Limits()), Served(held, Limits(), fresh)):
        with Client(served) as client:
            for _ in range(2):  # the second time by the short way, where there is one
                client.ask(post(asked()))
                client.ask(get(escaped(asked(algorithm=SHA256))))
                client.ask(post(asked(REVOKED)))
                client.ask(post(asked(SERIAL + 1)))
                client.ask(post(asked(WITHDRAWN)))
                client.ask(post(asked(OLD)))
                client.ask(post(b"garbage"))
                client.ask(post(with_nonce(b"one")))
                client.ask(post(with_nonce(b"two")))
            client.ask(b"GET /crl/issuing-1.crl HTTP/1.1\r\nHost: x\r\n\r\n")
        served.close()
        expected = {"good": 8, "revoked": 2, "unauthorized": 2, "try_later": 4, "malformed": 2}
        assert dict(zip(answers.OUTCOMES, served.tally.totals(), strict=True)) == expected
        assert served.tally.row(0).tolist() == [0] * 5


def test_a_server_goes_on_counting_from_its_row(held: Store) -> None:
    tally = Tally(1)
    tally.row(0)[0] = 7
    site = Site(held.get, Limits())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Server(site, held, listener, tally.row(0))
    assert site.counts == [7, 0, 0, 0, 0]


def test_a_call_that_fails_holds_up_no_other_one() -> None:
    def fail() -> None:
        raise KeyError("anything")

    loop, called = Loop(), list[int]()
    for number in range(3):
        loop.call(fail)
        loop.call(partial(called.append, number))
        loop.turn(1, lambda: None)
    assert called == [0, 1, 2]


def test_what_only_the_desk_can_read_needs_no_fresh_answer(held: Store) -> None:
    site = Site(held.get, Limits(), lambda _: pytest.fail("asked"))
    ready = answers.Answer(200, b"Content-Length: 5\r\nETag: x\r\n\r\n", b"ready")
    site.desk = cast(Desk, SimpleNamespace(answer=lambda request, now: ready))
    assert site._ocsp(b"garbage", NOW) is ready


def test_the_clock_of_answers_goes_on() -> None:
    """Past nextUpdate nothing is given, and max-age never leads beyond it."""
    key = record.serial_key(SERIAL)
    assert key
    packed = record.pack(Record(key, 0, False, NOW, NOW + 10_000, b"first", b""))
    for now, age in ((NOW, 3600), (NOW + 6400, 3600), (NOW + 9998.5, 1)):
        assert f"max-age={age}," in answers.header_fields(answers.ready(packed, False, now))["Cache-Control"] + ","
    for now in (NOW + 9999.5, NOW + 10_000, NOW + 10_001):
        assert answers.ready(packed, False, now).body == TRY_LATER
    assert answers.ready(packed, True, NOW).body == TRY_LATER


def test_what_begins_later_is_not_given() -> None:
    """It was signed by a worker whose clock is fast, and no client would take it. Small differences are common."""
    key = record.serial_key(SERIAL)
    assert key
    packed = record.pack(Record(key, 0, False, NOW, NOW + 10_000, b"first", b"second"))
    for second in (False, True):
        assert answers.ready(packed, second, NOW - 300).status == 200
        assert answers.ready(packed, second, NOW - 300).cacheable
        assert answers.ready(packed, second, NOW - 301).body == TRY_LATER


def test_dates_are_those_of_the_standard_library() -> None:
    for moment in (0, 59, 60, NOW, 951782400, 2**32 - 1):
        assert parsedate_to_datetime(answers.http_date(moment).decode()).timestamp() == moment
    for moment in range(0, 60 * 10_000, 60):
        answers.http_date(moment)
    assert len(answers._minutes) <= 4096
