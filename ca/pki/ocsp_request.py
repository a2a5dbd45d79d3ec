"""OCSP requests, read strictly (RFC 6960 §4.1.1).

Owns what may be asked and which OCSP error a request earns that asks otherwise. It keeps nothing of a request, and never
raises anything but Refused, whatever the bytes are.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from . import der
from .ocsp_response import MALFORMED_REQUEST, UNAUTHORIZED, Hash

SHA1: Hash = "sha1"
SHA256: Hash = "sha256"

# The AlgorithmIdentifier's OID, its contents with header → (name, octets of a hash)
_ALGORITHMS = {der.oid("1.3.14.3.2.26"): (SHA1, 20), der.oid("2.16.840.1.101.3.4.2.1"): (SHA256, 32)}
_OIDS = {name: oid for oid, (name, _) in _ALGORITHMS.items()}
_NULL = der.tlv(der.NULL)
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
# May be critical and still be answered: nonce, acceptable responses, service locator, preferred signature algorithms
_KNOWN = {_NONCE, *(der.oid(f"1.3.6.1.5.5.7.48.1.{arc}") for arc in (4, 7, 8))}
_VERSION, _REQUESTOR, _EXTENSIONS, _SIGNATURE, _SINGLE_EXTENSIONS = 0xA0, 0xA1, 0xA2, 0xA0, 0xA0
_LONGEST_NONCE = 128  # RFC 9654 §2.1


class Refused(Exception):
    """The request gets the OCSP error `status` (an OCSPResponseStatus) and no answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Asked(NamedTuple):
    """The one certificate that is asked for, by its CertID, and the nonce to be echoed, None without one."""

    algorithm: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int
    nonce: bytes | None


_asked_plainly = partial(tuple.__new__, Asked)  # a third of the time of Asked(...)


def read(request: bytes) -> Asked:
    """What the DER OCSPRequest asks for. Raises Refused: MALFORMED_REQUEST, also for more than one CertID (RFC 9919 §3.1.1 knows
    only one) and an unknown critical extension; UNAUTHORIZED for a hash that nothing was signed with."""
    layout = _LAYOUTS.get(request[:_HEADERS])
    if layout is not None and (plain := _plain(request, layout)):
        return plain
    try:
        return _read(request)
    except der.Malformed as error:
        raise Refused(MALFORMED_REQUEST, str(error)) from None


def beginning(algorithm: Hash, issuer_name_hash: bytes, issuer_key_hash: bytes, null: bool = True, length: int = 20) -> bytes:
    """All that comes before the serial's `length` octets in a request without options, which then ends: the same for every
    certificate of an issuer. `null`: with the NULL parameters that most clients write."""
    hash_algorithm = der.tlv(der.SEQUENCE, _OIDS[algorithm], _NULL if null else b"")
    hashes = der.tlv(der.OCTET_STRING, issuer_name_hash) + der.tlv(der.OCTET_STRING, issuer_key_hash)
    whole = hash_algorithm + hashes + der.tlv(der.INTEGER, bytes(length))
    for _ in ("CertID", "Request", "requestList", "TBSRequest", "OCSPRequest"):
        whole = der.tlv(der.SEQUENCE, whole)
    return whole[:-length]


class _Layout(NamedTuple):
    """Where things lie in a request without options. `begin`: what comes before the first hash, whose lengths fit no other
    `length` of the serial; `name`, `key`, `serial`: where these begin."""

    algorithm: str
    begin: bytes
    name: int
    key: int
    serial: int
    length: int
    headers: tuple[bytes, bytes]  # of the second hash and of the serial


_HEADERS = 12  # octets of the five outer headers and the AlgorithmIdentifier's: they tell the forms apart


def _layouts() -> dict[bytes, _Layout]:
    """Of every algorithm, with and without NULL, and of every length of serial."""
    found = {}
    for algorithm, size in _ALGORITHMS.values():
        for null in (True, False):
            for length in range(1, 21):
                begin = beginning(algorithm, bytes(size), bytes(size), null, length)
                key = len(begin) - 2 - size
                name = key - 2 - size
                headers = bytes((der.OCTET_STRING, size)), bytes((der.INTEGER, length))
                found[begin[:_HEADERS]] = _Layout(algorithm, begin[:name], name, key, len(begin), length, headers)
    return found


def _plain(data: bytes, layout: _Layout) -> Asked | None:
    """What nearly all ask, in a fifth of the time: the whole is `begin`, a hash, its header, a hash, a header and the serial.
    None for anything that differs from that."""
    algorithm, begin, name, key, serial, length, headers = layout
    if not data.startswith(begin) or len(data) != serial + length:
        return None
    if (data[key - 2 : key], data[serial - 2 : serial]) != headers:
        return None
    number = data[serial:]
    if number[0] >> 7 or (number[0] == 0 and length > 1):
        return None
    return _asked_plainly((algorithm, data[name : key - 2], data[key : serial - 2], int.from_bytes(number), None))


def _read(data: bytes) -> Asked:
    outer = der.children(data, der.whole(data))
    if _tags(outer) not in ((der.SEQUENCE,), (der.SEQUENCE, _SIGNATURE)):
        raise der.Malformed("not a TBSRequest and at most a signature")
    by_tag = _ordered(der.children(data, outer[0]), (_VERSION, _REQUESTOR, der.SEQUENCE, _EXTENSIONS))
    if _VERSION in by_tag and der.contents(data, by_tag[_VERSION]) != b"\x02\x01\x00":
        raise der.Malformed("not version 1")
    if der.SEQUENCE not in by_tag:
        raise der.Malformed("no requestList")
    requests = der.children(data, by_tag[der.SEQUENCE])
    if _tags(requests) != (der.SEQUENCE,):
        raise der.Malformed("not exactly one request")
    single = der.children(data, requests[0])
    if _tags(single) not in ((der.SEQUENCE,), (der.SEQUENCE, _SINGLE_EXTENSIONS)):
        raise der.Malformed("not a CertID and at most its extensions")
    for options in single[1:]:
        _extensions(data, options)
    nonce = _extensions(data, by_tag[_EXTENSIONS]).get(_NONCE) if _EXTENSIONS in by_tag else None
    return _asked(data, single[0], None if nonce is None else _nonce(nonce))


def _tags(elements: list[der.Element]) -> tuple[int, ...]:
    return tuple([element.tag for element in elements])


def _ordered(elements: list[der.Element], tags: tuple[int, ...]) -> dict[int, der.Element]:
    """Optional fields by tag, each at most once and in the order of `tags`."""
    found = {element.tag: element for element in elements}
    if list(found) != [tag for tag in tags if tag in found] or len(found) != len(elements):
        raise der.Malformed("unexpected fields")
    return found


def _asked(data: bytes, cert_id: der.Element, nonce: bytes | None) -> Asked:
    algorithm, name, key, serial = der.fields(data, cert_id, der.SEQUENCE, der.OCTET_STRING, der.OCTET_STRING, der.INTEGER)
    kind, size = _algorithm(data, algorithm)
    if name.end - name.body != size or key.end - key.body != size:
        raise der.Malformed("a hash of another length than its algorithm's")
    return Asked(kind, der.contents(data, name), der.contents(data, key), _serial(der.contents(data, serial)), nonce)


def _algorithm(data: bytes, item: der.Element) -> tuple[str, int]:
    """NULL parameters and none are the same here (RFC 4055 §2.1)."""
    parts = der.children(data, item)
    if not parts or parts[0].tag != der.OID or len(parts) > 2:
        raise der.Malformed("not an AlgorithmIdentifier")
    if len(parts) == 2 and der.encoded(data, parts[1]) != _NULL:
        raise der.Malformed("parameters where there are none")
    found = _ALGORITHMS.get(der.encoded(data, parts[0]))
    if found is None:
        raise Refused(UNAUTHORIZED, "a hash algorithm that nothing was signed with")
    return found


def _serial(contents: bytes) -> int:
    if not contents or (len(contents) > 1 and contents[0] in (0x00, 0xFF) and contents[0] >> 7 == contents[1] >> 7):
        raise der.Malformed("not a minimal INTEGER")
    return int.from_bytes(contents, "big", signed=True)


def _extensions(data: bytes, tagged: der.Element) -> dict[bytes, bytes]:
    """OID → extnValue's contents of an explicitly tagged Extensions."""
    (sequence,) = der.fields(data, tagged, der.SEQUENCE)
    found: dict[bytes, bytes] = {}
    for item in der.children(data, sequence):
        oid, value, critical = _extension(data, item)
        if oid in found:
            raise der.Malformed("an extension twice")
        if critical and oid not in _KNOWN:
            raise der.Malformed("an unknown critical extension")
        found[oid] = value
    if not found:
        raise der.Malformed("extensions without any")
    return found


def _extension(data: bytes, item: der.Element) -> tuple[bytes, bytes, bool]:
    parts = der.children(data, item)
    tags = _tags(parts)
    if item.tag != der.SEQUENCE or tags not in ((der.OID, der.OCTET_STRING), (der.OID, der.BOOLEAN, der.OCTET_STRING)):
        raise der.Malformed("not an Extension")
    critical = len(parts) == 3 and der.contents(data, parts[1]) != b"\x00"
    return der.encoded(data, parts[0]), der.contents(data, parts[-1]), critical


def _nonce(value: bytes) -> bytes:
    """Nonce ::= OCTET STRING (SIZE (1..128)), inside the extnValue (RFC 9654 §2.1)."""
    wrapped = der.whole(value, der.OCTET_STRING)
    if not 1 <= wrapped.end - wrapped.body <= _LONGEST_NONCE:
        raise der.Malformed("a nonce of 0 or of more than 128 octets")
    return der.contents(value, wrapped)


_LAYOUTS = _layouts()
