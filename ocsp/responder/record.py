"""One entry of the store, as bytes: the ready answers about a certificate, or a document such as a CRL.

Owns the layout, which the process that fills the store and those that serve from it share. A record is found by its key and says
itself whose it is, so that whoever reads it can make sure.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64encode
from typing import NamedTuple

KEY = 20  # octets: a serial, or the truncated hash of a document's name
DOCUMENT, NOBODY = 0xFFFF, 0xFFFE  # in place of an issuer's number: a document; a certificate of an issuer not known yet
_HEAD = struct.Struct("<20sH?xIIII8s8s")  # key, issuer, final, this and next update, lengths of both bodies, their ETags
FACTS = struct.Struct("<IIII8s8s")  # all of it but key, issuer and final
FINAL_AT, FACTS_AT, BODY_AT = 22, 24, _HEAD.size


class Record(NamedTuple):
    """`final`: the log says revoked, so that nothing else may replace it. Times in Unix seconds; a document without one has
    0. `first`, `second`: the answers to a CertID made with SHA-1 and with SHA-256, empty while withdrawn; of a document
    the first alone."""

    key: bytes
    issuer: int
    final: bool
    this_update: int
    next_update: int
    first: bytes
    second: bytes


def pack(record: Record) -> bytes:
    """The bytes of `record`. The ETags are made of the bodies, so that every host gives an answer the same one."""
    key, issuer, final, this_update, next_update, first, second = record
    head = _HEAD.pack(key, issuer, final, this_update, next_update, len(first), len(second), _etag(first), _etag(second))
    return head + first + second


def unpack(packed: bytes) -> Record:
    """The record in `packed`, which may be followed by anything."""
    key, issuer, final, this_update, next_update, first, second, _, _ = _HEAD.unpack_from(packed)
    middle = BODY_AT + first
    return Record(key, issuer, final, this_update, next_update, packed[BODY_AT:middle], packed[middle : middle + second])


def owner(issuer: int) -> bytes:
    """The two octets after the key that say whose record it is."""
    return issuer.to_bytes(2, "little")


def document_key(name: bytes) -> bytes:
    """The key of the document called `name`, such as the path under which it is served."""
    return hashlib.sha256(name).digest()[:KEY]


def serial_key(serial: int) -> bytes | None:
    """The key of a certificate; None for what is no certificate's serial (RFC 5280 §4.1.2.2)."""
    return serial.to_bytes(KEY, "big") if 0 < serial < 1 << 8 * KEY else None


def _etag(body: bytes) -> bytes:
    return urlsafe_b64encode(hashlib.sha256(body).digest()[:6])
