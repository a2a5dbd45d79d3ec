"""From a wish to a pair in place, for the first certificate and for every renewal.

Owns the order of steps. Each is one durable write, and every crash between two of them is continued from what is on disk:

    1 the request with its key and Idempotency-Key is stored     then it is sent
    2 the answer becomes the current pair, reload due            then the files are put in place
    3 the reload command has run                                 nothing is left to do

A crash before 1 leaves nothing; after 1 the same request is sent again and gives the same certificate; after 2 the files are
made from the record. Must never drop a stored request that the server may have granted: its key exists nowhere else.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from secrets import token_urlsafe
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from . import hooks, keys, pairs, schedule
from .api import Issued
from .failures import Failure
from .records import Pair, Pending, Place, Record, Wanted
from .store import Store


class Submits(Protocol):
    """What is needed of api.Server here."""

    def submit(self, path: str, body: dict[str, str], idempotency_key: str, patience: float) -> Issued:
        """See api.Server."""


def planned(earlier: Record | None, label: str, wanted: Wanted, place: Place, anew: bool, now: datetime) -> Record:
    """The record of a certificate as asked for now: with a request pending, unless the current one is just that and lives.
    `anew`: with another request in any case."""
    if earlier is None:
        return Record(label, wanted, place, pending=first_request(wanted, now))
    moved = earlier.current is not None and place != earlier.place
    record = replace(earlier, wanted=wanted, place=place, reload_due=earlier.reload_due or moved, trouble=None)
    if anew or wanted != earlier.wanted or not (earlier.pending or _serves(earlier, now)):
        record = replace(record, pending=first_request(wanted, now))
    return record


def _serves(record: Record, now: datetime) -> bool:
    return record.current is not None and record.revoked_at is None and now < record.current.not_after


def first_request(wanted: Wanted, now: datetime) -> Pending:
    """A new key and a request for it by the token's right."""
    key = keys.KINDS[wanted.key_type]()
    csr = keys.signing_request(key, wanted).public_bytes(Encoding.PEM).decode()
    body = {"csr": csr, "profile": wanted.profile, "service": wanted.service, "node": wanted.node}
    return Pending("certificates/", body, token_urlsafe(24), keys.pem(key), now)


def renewal(wanted: Wanted, current: Pair, now: datetime) -> Pending:
    """A new key and a request for it by right of the current key, which signs the proof. Raises Failure."""
    key = keys.KINDS[wanted.key_type]()
    csr = keys.signing_request(key, wanted)
    try:
        proof = keys.sign(keys.load(current.key), keys.renewal_statement(current, csr))
    except ValueError as error:
        raise Failure("no proof of renewal can be made", str(error), "request the certificate again") from None
    body = {"csr": csr.public_bytes(Encoding.PEM).decode(), "proof": b64encode(proof).decode()}
    return Pending(f"certificates/{current.serial}/renew/", body, token_urlsafe(24), keys.pem(key), now)


def obtain(store: Store, server: Submits, record: Record, root: x509.Certificate, patience: float, now: datetime) -> Record:
    """Send what is pending, and store the answer as the current pair. The pending request has been stored by the caller.
    Raises Failure, and then nothing has changed."""
    pending = record.pending
    assert pending
    issued = server.submit(pending.path, pending.body, pending.idempotency_key, patience)
    leaf = _checked(issued, pending, root)
    generation = record.current.generation + 1 if record.current else 1
    renew_at = schedule.renew_at(leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    pair = Pair(keys.serial(leaf), pending.key, issued.pem, issued.chain, issued.challenge, issued.secret, generation, renew_at)
    due = record.reload_due or record.current is not None
    record = replace(record, current=pair, pending=None, reload_due=due, revoked_at=None, trouble=None, served=None, reported=None)
    store.save(record)
    return record


def install(store: Store, record: Record) -> Record:
    """Have the current pair in place and the service told. Raises Failure, OSError; the next call goes on."""
    if not pairs.in_place(record):
        pairs.put(record)
    if record.reload_due:
        hooks.run(record)
        record = replace(record, reload_due=False)
        store.save(record)
    return record


# --- whether an answer is what was asked for: nothing else may replace a pair that works


def _checked(issued: Issued, pending: Pending, root: x509.Certificate) -> x509.Certificate:
    try:
        leaf, *others = x509.load_pem_x509_certificates((issued.pem + issued.chain).encode())
        if not keys.fits(keys.load(pending.key), leaf):
            raise ValueError("it is for another key")
        _check_chain([leaf, *others, root])
    except (ValueError, TypeError, InvalidSignature) as error:
        why = str(error) or "a signature in its chain is wrong"
        do = "the old pair stays; ask the operator, or `quicklime trust` the CA's new root"
        raise Failure("the certificate that the server sent cannot be used", why, do) from None
    return leaf


def _check_chain(chain: list[x509.Certificate]) -> None:
    for subject, issuer in pairwise(chain):
        if subject.issuer != issuer.subject:
            raise ValueError("its chain does not lead to the pinned root")
        subject.verify_directly_issued_by(issuer)
