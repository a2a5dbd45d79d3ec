"""What a request for status is answered with, and under which HTTP headers.

Owns the decision and the headers, for the responder and for Django's views alike. Pure: time is an argument, and where records
lie is the caller's. Never a good beyond its nextUpdate, never a cacheable error, and nothing a client sent in any of it.
"""

from __future__ import annotations

import struct
import time
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ca.pki import ocsp_request, ocsp_response
from ca.pki.ocsp_request import SHA1, SHA256, Asked, Refused
from ca.pki.ocsp_response import MALFORMED_REQUEST, TRY_LATER, UNAUTHORIZED

from . import record

RESPONSE, CRL, CERTIFICATE = b"application/ocsp-response", b"application/pkix-crl", b"application/pkix-cert"
# The longest that a cache may keep each, in seconds: what is revoked in between it learns that much later. Never beyond nextUpdate.
LONGEST_AGE = {RESPONSE: 3600, CRL: 60}
AHEAD = 300  # seconds that this clock may be behind the signer's: an answer that begins later is not given
LONGEST_REQUEST = 4096  # octets of an OCSPRequest
_REMEMBERED = 4096  # pieces of text of a kind, at most


class Answer(NamedTuple):
    """`head`: the header lines and the empty one, without the status line, Date and Connection. `status`: of HTTP."""

    status: int
    head: bytes
    body: bytes

    @property
    def cacheable(self) -> bool:
        """Whether it says something that holds for a while, rather than an error."""
        return b"\r\nETag: " in self.head


class Issuer(NamedTuple):
    """An issuer as CertIDs name it, and its `number` in records."""

    number: int
    sha1: tuple[bytes, bytes]  # (issuerNameHash, issuerKeyHash)
    sha256: tuple[bytes, bytes]


_ISSUER = struct.Struct("<H20s20s32s32s")
ISSUERS = b"issuers"  # the document in the store that all issuers are in; no path is called so


def pack_issuers(issuers: Iterable[Issuer]) -> bytes:
    """The issuers as one document."""
    return b"".join(_ISSUER.pack(each.number, *each.sha1, *each.sha256) for each in issuers)


def unpack_issuers(packed: bytes) -> list[Issuer]:
    """What pack_issuers packed."""
    return [Issuer(number, (a, b), (c, d)) for number, a, b, c, d in _ISSUER.iter_unpack(packed)]


Get = Callable[[bytes, bytes], bytes | None]  # (key, owner) → packed record, as Store.get


def uncached(status: int, kind: bytes, body: bytes, fields: bytes = b"") -> Answer:
    """An answer for this moment only; `fields` are further header lines."""
    head = b"Content-Type: %b\r\nContent-Length: %d\r\nCache-Control: no-store\r\n%b\r\n" % (kind, len(body), fields)
    return Answer(status, head, body)


def refusal(status: int) -> Answer:
    """The unsigned OCSP error `status`, with HTTP status 200 (RFC 6960 §4.2.1, A.2); never cached."""
    return _REFUSALS[status]


_REFUSALS = {status: uncached(200, RESPONSE, ocsp_response.error(status)) for status in (MALFORMED_REQUEST, TRY_LATER, UNAUTHORIZED)}
_MALFORMED, _TRY_LATER, _UNAUTHORIZED = refusal(MALFORMED_REQUEST), refusal(TRY_LATER), refusal(UNAUTHORIZED)

OUTCOMES = ("good", "revoked", "unauthorized", "try_later", "malformed")  # the first two as a record's `final` is 0 or 1
_UNKNOWN, _LATER, _FINAL = OUTCOMES.index("unauthorized"), OUTCOMES.index("try_later"), record.FINAL_AT
_REFUSED = {MALFORMED_REQUEST: OUTCOMES.index("malformed"), UNAUTHORIZED: _UNKNOWN}  # what ocsp_request.read refuses with


def no_counts() -> list[int]:
    """A count for each of OUTCOMES."""
    return [0] * len(OUTCOMES)


class Desk:
    """Answers OCSP requests about certificates of the `issuers`, and counts them in `counts` by their place in OUTCOMES."""

    def __init__(self, issuers: Iterable[Issuer], get: Get, counts: list[int]) -> None:
        self._get, self._counts = get, counts
        self._named: dict[tuple[str, bytes, bytes], tuple[bytes, bool]] = {}  # CertID's beginning → (owner, SHA-256?)
        self._beginnings: dict[bytes, tuple[bytes, bool]] = {}  # the same, for requests in the form that nearly all have
        for issuer in issuers:
            for algorithm, hashes in ((SHA1, issuer.sha1), (SHA256, issuer.sha256)):
                found = record.owner(issuer.number), algorithm == SHA256
                self._named[algorithm, *hashes] = found
                for null in (True, False):
                    self._beginnings[ocsp_request.beginning(algorithm, *hashes, null=null)] = found

    def answer(self, request: bytes, now: float) -> Answer:
        """The answer to a DER OCSPRequest at Unix time `now`, whatever the bytes are."""
        # All but the last 20 octets are as `beginning` writes them, lengths included: then these are the serial.
        found = self._beginnings.get(request[: -record.KEY])
        # It is positive and as short as can be, or this way is not for it.
        if found is None or not (0 < (first := request[-record.KEY]) < 0x80 or (first == 0 and request[1 - record.KEY] >= 0x80)):
            if not request.startswith(b"0"):  # no SEQUENCE: most of what is no request is known by that, for less than a good one costs
                self._counts[_REFUSED[MALFORMED_REQUEST]] += 1
                return _MALFORMED
            try:
                packed, second = self._find(ocsp_request.read(request))
            except Refused as refused:
                self._counts[_REFUSED[refused.status]] += 1
                return refusal(refused.status)
        else:
            packed, second = self._get(request[-record.KEY :], found[0]), found[1]
        if packed is None:
            self._counts[_UNKNOWN] += 1
            return _UNAUTHORIZED
        answer = ready(packed, second, now)
        self._counts[_LATER if answer is _TRY_LATER else packed[_FINAL]] += 1
        return answer

    def again(self, asked: Asked, now: float) -> Answer:
        """The ready answer to a request that was counted before."""
        packed, second = self._find(asked)
        return _UNAUTHORIZED if packed is None else ready(packed, second, now)

    def _find(self, asked: Asked) -> tuple[bytes | None, bool]:
        """The record of the certificate that is asked for, and whether its second answer is wanted."""
        found = self._named.get(asked[:3])
        if found is None or (key := record.serial_key(asked.serial)) is None:
            return None, False
        return self._get(key, found[0]), found[1]


def ready(packed: bytes, second: bool, now: float) -> Answer:
    """One of a record's two OCSP answers; tryLater while there is none that holds now."""
    this_update, next_update, size, other, etag, other_etag = record.FACTS.unpack_from(packed, record.FACTS_AT)
    left, start = int(next_update - now), record.BODY_AT
    if second:
        start, size, etag = start + size, other, other_etag
    if left <= 0 or not size or this_update > now + AHEAD:
        return _TRY_LATER
    # As _head writes it, of pieces that were made before: this is done for every request.
    since, until, minutes = this_update // 60, next_update // 60, _minutes
    head = (
        _beginnings.get(size) or _response_beginning(size),
        minutes.get(since) or _minute(since),
        _TO_EXPIRES[this_update % 60],
        minutes.get(until) or _minute(until),
        _TO_ETAG[next_update % 60],
        etag,
        _ENDS[left if left < _LONGEST else _LONGEST],
    )
    return _answer((200, b"".join(head), packed[start : start + size]))


_beginnings: dict[int, bytes] = {}


def _response_beginning(size: int) -> bytes:
    if len(_beginnings) >= _REMEMBERED:
        _beginnings.clear()
    return _beginnings.setdefault(size, _beginning(RESPONSE, size) + b"Last-Modified: ")


def crl(packed: bytes, now: float) -> Answer | None:
    """A CRL; None past its nextUpdate."""
    this_update, next_update, size, _, etag, _ = record.FACTS.unpack_from(packed, record.FACTS_AT)
    left = int(next_update - now)
    if left <= 0:
        return None
    return Answer(200, _head(CRL, size, this_update, next_update, etag, left), packed[record.BODY_AT : record.BODY_AT + size])


def certificate(packed: bytes) -> Answer:
    """An issuer's certificate (RFC 5280 §4.2.2.1), of which there will never be another under its name."""
    since, _, size, _, etag, _ = record.FACTS.unpack_from(packed, record.FACTS_AT)
    head = b'%bLast-Modified: %b\r\nETag: "%b"\r\nCache-Control: max-age=3600, public\r\n\r\n' % (
        _beginning(CERTIFICATE, size),
        http_date(since),
        etag,
    )
    return Answer(200, head, packed[record.BODY_AT : record.BODY_AT + size])


def _head(kind: bytes, size: int, this_update: int, next_update: int, etag: bytes, left: int) -> bytes:
    """The header lines of what may be cached for `left` seconds, until nextUpdate (RFC 9919 §6.2, RFC 9111 §5.2)."""
    dates = http_date(this_update), http_date(next_update)
    pieces = _beginning(kind, size), *dates, etag, _ENDS[min(left, LONGEST_AGE[kind])]
    return b'%bLast-Modified: %b\r\nExpires: %b\r\nETag: "%b%b' % pieces


def _beginning(kind: bytes, size: int) -> bytes:
    return b"Content-Type: %b\r\nContent-Length: %d\r\n" % (kind, size)


_LONGEST = LONGEST_AGE[RESPONSE]
_ENDS = [
    b'"\r\nCache-Control: max-age=%d, public, no-transform, must-revalidate\r\n\r\n' % age for age in range(max(LONGEST_AGE.values()) + 1)
]
_answer = partial(tuple.__new__, Answer)  # a third of the time of Answer(...), once for each request


def conditional(answer: Answer, if_none_match: str | None, if_modified_since: str | None) -> Answer:
    """304 without a body where the client has this very answer already (RFC 9110 §13.2.2), else `answer`."""
    fields = header_fields(answer)
    etag, modified = fields.get("ETag"), fields.get("Last-Modified")
    if etag is None or modified is None:
        return answer
    if if_none_match is not None:
        has = if_none_match.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in if_none_match.split(","))
    else:
        has = if_modified_since is not None and _not_before(if_modified_since, modified)
    if not has:
        return answer
    kept = [f"{name}: {text}\r\n" for name, text in fields.items() if name not in ("Content-Type", "Content-Length")]
    return Answer(304, "".join([*kept, "\r\n"]).encode(), b"")


def _not_before(date: str, other: str) -> bool:
    """Whether the HTTP date is that of `other` or later; a date in another form is ignored, as it may be."""
    with suppress(ValueError):
        return datetime.strptime(date, _DATE) >= datetime.strptime(other, _DATE)  # noqa: DTZ007 (both GMT)
    return False


def header_fields(answer: Answer) -> dict[str, str]:
    """The header lines by name."""
    return dict(line.split(": ", 1) for line in answer.head.decode().split("\r\n") if line)


def decoded(path: bytes) -> bytes:
    """The request in a GET path behind `/ocsp/` (RFC 6960 A.1): base64, percent-encoded or not, padded or not; also with
    another slash before it, as a responder's URL may end in one and no request begins with its code. Empty for what is none."""
    if b"%" in path:  # the three of base64 first, which is faster and makes no new ones
        path = path.replace(b"%2F", b"/").replace(b"%2B", b"+").replace(b"%3D", b"=")
        if b"%" in path:
            path = unquote_to_bytes(path)
    try:
        return a2b_base64(path, strict_mode=True)
    except NotBase64:
        pass
    path = path.lstrip(b"/").rstrip(b"=")
    try:
        return a2b_base64(path + b"=" * (-len(path) % 4), strict_mode=True)
    except NotBase64:
        return b""


_DATE = "%a, %d %b %Y %H:%M:%S GMT"
_minutes: dict[int, bytes] = {}
_SECONDS = [b":%02d GMT" % second for second in range(60)]
_TO_EXPIRES = [each + b"\r\nExpires: " for each in _SECONDS]
_TO_ETAG = [each + b'\r\nETag: "' for each in _SECONDS]


def http_date(seconds: int) -> bytes:
    """IMF-fixdate of a Unix time (RFC 9110 §5.6.7)."""
    return (_minutes.get(seconds // 60) or _minute(seconds // 60)) + _SECONDS[seconds % 60]


def _minute(minute: int) -> bytes:
    if len(_minutes) >= _REMEMBERED:
        _minutes.clear()
    when = time.gmtime(60 * minute)
    day, month = _DAYS[when.tm_wday], _MONTHS[when.tm_mon - 1]
    return _minutes.setdefault(minute, f"{day}, {when.tm_mday:02} {month} {when.tm_year} {when.tm_hour:02}:{when.tm_min:02}".encode())


_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]  # not by strftime, which follows the locale
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
