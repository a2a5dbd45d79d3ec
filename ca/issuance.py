"""The four steps from an accepted request to a certificate in the log: validate, sign, challenge, record.

Owns every change of a Request after it was accepted, and the only call that puts a CA key to a certificate. Each step is
one transaction over the rows of a batch whose turn it is; run twice, at once or out of order it does nothing twice.
Must never trust a message: what to sign, and whether it still may be signed, is read from the database here.

A crash before a step's commit leaves the rows at the state before, one after it at the state after; `resume` goes on from
either. The intent is committed before the signature is made, so no certificate can exist that the log does not announce.
"""

from __future__ import annotations

import logging
import secrets
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography import x509
from django.conf import settings
from django.db import Error, connection, transaction

from eventlog import clock, fence
from eventlog.append import NewEvent, append, last_time
from eventlog.bulk import places, read_rows, update_rows

from . import approvals, challenges, keys, policy, renewal, shapes, tokens, wakeups
from .crash import point
from .errors import Problem
from .events import ApprovalRequested, CertificateIssued, IssuanceIntended, IssuanceOrphaned, RequestRejected
from .models import Activation, BlockedKey, Intent, Issuer, Request, State, Token
from .pki import crl, leaf
from .pki import csr as csr_rules
from .pki.csr import ParsedCSR
from .pki.leaf import IssuerFacts, LeafPlan
from .pki.violations import Violation
from .policy import Decision, Grant, Site, Wanted, decide, decide_ocsp_signer, require, require_renewal
from .profiles import OCSP_SIGNER, renew_by
from .renewal import Old, Proof

log = logging.getLogger(__name__)
BATCH = 256
CLOCK_SKEW = clock.SKEW
_AHEAD = timedelta(seconds=30)  # less than the profiles' backdating, so that no certificate begins in the future


class ClockBehind(Exception):
    """This host's clock is earlier than the newest event: certificates dated by it would contradict the log."""


def waiting() -> int:
    """How many requests wait for validate; BATCH stands for any more."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM (SELECT 1 FROM ca_request WHERE state = 'received' LIMIT %s) AS first", [BATCH])
        found: int = cursor.fetchone()[0]
    return found


def validate(batch: UUID, now: datetime) -> int:
    """Claim up to BATCH waiting requests for `batch`, fix what each will be, and announce it in the log. Returns how many
    were claimed. Raises LogBehind, ClockBehind or ClockApart, with nothing claimed, while this host must not issue."""
    with transaction.atomic():
        rows = _waiting("issuer", *_ASKED, *_RENEWED)
        if not rows:
            return 0
        fence.check()
        _check_clock(now, last_time())
        events = _validated(rows, now)
        _store(rows, {"batch": batch, "updated_at": now}, "serial", "issuer", "tbs", "fixed", "error")
        _set_time_to_decide(rows, now)
        point("intent.before_commit")
        append(events, now)
        _announce_on_commit(rows)
    point("intent.committed")
    return len(rows)


def sign(batch: UUID, now: datetime) -> None:
    """Sign exactly what validate fixed, for those whose token still permits it and whose key was not blocked since; a renewal
    only if it is proven, and what it replaces was not revoked since; what needs an approver's word only if the log has it."""
    with transaction.atomic():
        rows = _turn(batch, State.VALIDATED, "serial", "issuer", "tbs", "fixed", "updated_at", *_ASKED, *_RENEWED)
        if not rows:
            return
        fence.check()
        _check_clock(now, max(row.updated_at for row in rows if row.updated_at))
        point("sign.before")
        events = _signed(rows, now)
        point("sign.after_before_store")
        _store(rows, {"updated_at": now}, "signature", "error")
        if events:
            append(events, now)
        _announce_on_commit(rows)


def challenge(batch: UUID, now: datetime) -> None:
    """Give each certificate its renewal challenge. Its revocation secret needs no storing: it derives from the serial."""
    with transaction.atomic():
        rows = _turn(batch, State.SIGNED)
        for row in rows:
            row.renewal_challenge, row.state = challenges.new_renewal_challenge(), State.CHALLENGED
        _store(rows, {"updated_at": now}, "renewal_challenge")
    point("challenge.made")


def record(batch: UUID, now: datetime) -> None:
    """Append certificate.issued; in the same commit the certificates become fetchable and a checkpoint covers them. What
    was signed for a key that is blocked since is orphaned instead."""
    try:
        _record(batch, now, {})
    except _BlockedMeanwhile as found:
        _record(batch, now, found.blocked)
    point("issued.committed_before_ack")


class _BlockedMeanwhile(Exception):
    """`blocked`: SHA-256 of the SPKI → why."""

    def __init__(self, blocked: dict[bytes, str]) -> None:
        super().__init__()
        self.blocked = blocked


def _record(batch: UUID, now: datetime, blocked: Mapping[bytes, str]) -> None:
    """Raises _BlockedMeanwhile, with nothing done, for a key that is blocked and not in `blocked`. It is asked last, under the
    log's lock, so that no certificate comes after its key was blocked: who revokes all of a key's has found all there are."""
    with transaction.atomic():
        rows = _turn(batch, State.CHALLENGED, *_RECORDED)
        if not rows:
            return
        clock.check(now)  # the certificates' OCSP responses are signed with this commit
        events = [event for row in rows for event in _recorded(row, blocked)]
        _store(rows, {"updated_at": now}, "error")
        point("issued.before_commit")
        append(events, now, sign=keys.log_signer())
        found = _blocked({_spki_sha256(row) for row in rows if row.state == State.ISSUED})
        if found:
            raise _BlockedMeanwhile(found)
        _announce_on_commit(rows)


@dataclass(slots=True)
class Row:
    """What a step reads and sets of a Request. The steps handle hundreds at a time; a model instance costs several times
    what its certificate's signature does."""

    id: UUID
    token: str
    owner: str
    state: str
    profile: str = ""
    service: str = ""
    node: str = ""
    csr: bytes = b""
    not_after: datetime | None = None
    replaces: str | None = None
    renewal_proof: bytes | None = None
    csr_sha256: bytes | None = None
    names_as_before: bool | None = None
    serial: str = ""
    issuer: str = ""
    tbs: bytes = b""
    fixed: dict[str, Any] | None = None
    signature: bytes = b""
    renewal_challenge: bytes = b""
    challenge_password_hash: bytes | None = None
    error: dict[str, str] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


def _waiting(*columns: str) -> list[Row]:
    """Received and not yet looked at, oldest first, at most BATCH."""
    return _rows(columns, "WHERE state = %s ORDER BY id LIMIT %s", [State.RECEIVED.value, BATCH])


def _turn(batch: UUID, state: State, *columns: str) -> list[Row]:
    """The batch's rows that stand at `state`."""
    key = Request._meta.get_field("batch").get_db_prep_value(batch, connection)
    return _rows(columns, "WHERE batch = %s AND state = %s ORDER BY id", [key, state.value])


def _rows(columns: Sequence[str], where: str, parameters: Sequence[Any]) -> list[Row]:
    """Locked for this transaction. What another worker holds is skipped, never waited for; SQLite has one writer anyway."""
    lock = " FOR UPDATE SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
    columns = ("id", "token", "owner", "state", *columns)
    found = read_rows(Request, columns, where + lock, parameters)
    return [Row(**dict(zip(columns, values, strict=True))) for values in found]


STEPS = {State.VALIDATED: sign, State.SIGNED: challenge, State.CHALLENGED: record}


def _check_clock(now: datetime, newest: datetime | None) -> None:
    if newest is not None and now < newest - CLOCK_SKEW:
        raise ClockBehind(f"the clock says {now:%Y-%m-%dT%H:%M:%SZ}, the newest event is of {newest:%Y-%m-%dT%H:%M:%SZ}: set the clock")
    clock.check(now)


def _store(rows: Sequence[Row], same: Mapping[str, Any], *columns: str) -> None:
    columns = ("state", *columns)
    update_rows(Request, "id", columns, [(row.id, *(getattr(row, column) for column in columns)) for row in rows], same)


def _announce_on_commit(rows: Iterable[Row]) -> None:
    done = [row for row in rows if row.state in (State.ISSUED, State.REJECTED, State.AWAITING)]
    if done:
        transaction.on_commit(lambda: _announce(done))


def _announce(done: Sequence[Row]) -> None:
    wakeups.announce_done(row.id for row in done)
    if log.isEnabledFor(logging.INFO):
        issued = {str(row.id): row.serial for row in done if row.state == State.ISSUED}
        rejected = {str(row.id): row.error["code"] for row in done if row.error}
        log.info("finished", extra={"issued": issued, "rejected": rejected})


def _reject(row: Row, problem: Problem) -> NewEvent:
    row.state, row.error = State.REJECTED, problem.as_dict()
    return RequestRejected(request=str(row.id), token=row.token, owner=row.owner, **problem.as_dict()).new()


# --- validate


@dataclass(frozen=True)
class _Desk:
    """What a batch is judged by, read once: the tokens of its rows, the active issuers, the certificates that are to be
    replaced, the keys that are refused."""

    tokens: dict[str, Token]
    issuers: dict[str, IssuerFacts]
    olds: dict[str, Old]
    blocked: dict[bytes, str]
    site: Site
    causes: dict[UUID, str]
    words: dict[UUID, approvals.Word]

    @classmethod
    def of(cls, rows: Sequence[Row], parsed: Iterable[ParsedCSR | Problem]) -> _Desk:
        olds = _olds(rows)
        spkis = {csr.spki_sha256 for csr in parsed if isinstance(csr, ParsedCSR)} | _keys_of(olds)
        live, here = _tokens(rows), site()
        causes = _approval_causes(rows, live, here)
        return cls(live, active_issuers(), olds, _blocked(spkis), here, causes, approvals.words(causes))


def site() -> Site:
    """What this CA issues for at all, from the settings."""
    return Site(settings.ZONES, settings.IP_RANGES, settings.SPIFFE_TRUST_DOMAINS, settings.APPROVAL)


def active_issuers() -> dict[str, IssuerFacts]:
    """Profile name → the issuer that signs it now."""
    return {profile: issuer_facts(issuer) for profile, issuer in read_rows(Activation, ("profile", "issuer"), "")}


@cache
def issuer_facts(name: str) -> IssuerFacts:
    """What certificates take over from this issuer. An issuer never changes; a new certificate is a new issuer."""
    row = Issuer.objects.get(name=name)
    return leaf.issuer_facts(name, x509.load_der_x509_certificate(bytes(row.certificate)))


def _tokens(rows: Iterable[Row]) -> dict[str, Token]:
    """The rows' tokens that are not revoked."""
    return tokens.unrevoked({row.token for row in rows})


def _blocked(spkis: set[bytes]) -> dict[bytes, str]:
    if not spkis:
        return {}
    rows = read_rows(BlockedKey, ("spki_sha256", "code"), f"WHERE spki_sha256 IN ({places(spkis)})", list(spkis))
    return {bytes(spki): code for spki, code in rows}


def _check_blocked(spki_sha256: bytes, blocked: Mapping[bytes, str]) -> None:
    if spki_sha256 in blocked:
        raise Problem("keyBlocked", f"this public key is never certified ({blocked[spki_sha256]})", "csr.key")


# --- renewals, before the key is used as at the door

_ASKED = ("profile", "service", "node", "not_after", "names_as_before")  # with _RENEWED all that approvals.digest covers
_RENEWED = ("csr", "created_at", "replaces", "renewal_proof", "csr_sha256")


def _olds(rows: Iterable[Row]) -> dict[str, Old]:
    """What the rows replace, by serial."""
    return renewal.find({row.replaces for row in rows if row.replaces})


def _keys_of(olds: Mapping[str, Old]) -> set[bytes]:
    return {old.spki_sha256 for old in olds.values()}


def _renewable(row: Row, serial: str, olds: Mapping[str, Old], blocked: Mapping[bytes, str], now: datetime) -> Old:
    """What the row replaces, `serial`, if its proof holds, and it may be replaced even now. Late is who asked late, not who
    waited long. Raises Problem."""
    proof = Proof(serial, bytes(row.renewal_proof or b""), bytes(row.csr_sha256 or sha256(row.csr).digest()))
    old = renewal.entitled_still(proof, olds.get(serial), row.owner)
    if old.spki_sha256 in blocked:
        raise Problem("keyBlocked", f"the key that made the proof is blocked ({blocked[old.spki_sha256]})", "proof")
    renewal.check_renewable(old, row.created_at or now)
    return old


def _validated(rows: Sequence[Row], now: datetime) -> list[NewEvent]:
    parsed = [_parsed(row) for row in rows]
    desk = _Desk.of(rows, parsed)
    return list(filter(None, (_validate_one(row, csr, desk, now) for row, csr in zip(rows, parsed, strict=True))))


def _parsed(row: Row) -> ParsedCSR | Problem:
    """The door verified the proof of possession before the row was stored; the rules that need no proof run again."""
    try:
        return csr_rules.parse(bytes(row.csr), verify=False)
    except Violation as violation:
        return Problem.from_violation(violation)
    except Exception:
        return _our_fault(row)


def _validate_one(row: Row, csr: ParsedCSR | Problem, desk: _Desk, now: datetime) -> NewEvent | None:
    try:
        if isinstance(csr, Problem):
            raise csr
        plan = _plan(row, csr, desk, now)
        if _must_wait(row, desk):
            return _wait(row, plan, csr, desk, now)
        return _fix(row, plan, csr, now)
    except Violation as violation:
        return _reject(row, Problem.from_violation(violation))
    except Problem as problem:
        return _reject(row, problem)
    except Error:
        raise
    except Exception:
        return _reject(row, _our_fault(row))


# --- approval, where the key is used as well as before it


def _approval_causes(rows: Iterable[Row], live: Mapping[str, Token], here: Site) -> dict[UUID, str]:
    """Which of the rows need an approver's word, and why."""
    asks = {name: token.approval for name, token in live.items()}
    causes = {row.id: policy.approval_cause(row.profile, asks.get(row.token, policy.AS_PROFILE), here) for row in rows}
    return {request: cause for request, cause in causes.items() if cause}


def _must_wait(row: Row, desk: _Desk) -> bool:
    """Whether nobody has decided about it yet. Raises Problem where the row is not what was approved."""
    if row.id not in desk.causes:
        return False
    word = desk.words.get(row.id)
    if word is None or word.granted is None:
        return True
    approvals.check_granted(row, word)
    return False


def _wait(row: Row, plan: LeafPlan, csr: ParsedCSR, desk: _Desk, now: datetime) -> NewEvent | None:
    """None for a row that was set back by hand: approval is asked for once."""
    row.state = State.AWAITING
    if row.id in desk.words:
        return None
    return ApprovalRequested(
        request=str(row.id), asked=approvals.digest(row).hex(), cause=desk.causes[row.id], token=row.token, owner=row.owner,
        profile=row.profile, service=row.service, node=row.node, names=[str(name) for name in plan.names],
        spki_sha256=csr.spki_sha256.hex(), replaces=row.replaces, decide_by=_text(now + settings.APPROVAL_TIME),
    ).new()  # fmt: skip


def _set_time_to_decide(rows: Iterable[Row], now: datetime) -> None:
    waiting = [row.id for row in rows if row.state == State.AWAITING]
    if waiting:
        Request.objects.filter(id__in=waiting).update(decide_by=(now + settings.APPROVAL_TIME).replace(microsecond=0))


def verdict(request: Request, now: datetime) -> Decision | Problem:
    """What every rule says of a request at this moment, for who is to decide about it: what would be certified, or the first rule that
    is broken. Changes nothing."""
    row = Row(**{name: getattr(request, name) for name in ("id", "token", "owner", "state", "issuer", *_ASKED, *_RENEWED)})
    try:
        csr = _parsed(row)
        if isinstance(csr, Problem):
            return csr
        desk = _Desk.of([row], [csr])
        return _permitted(row, csr, desk, now)[0]
    except Problem as problem:
        return problem


def _our_fault(row: Row) -> Problem:
    """A fault of ours in one request must neither stop the other 255 nor be tried again for ever."""
    log.exception("validating request %s failed unexpectedly; it is rejected, please report this", row.id)
    return Problem("internalError", "the request met a fault of the server")


def _plan(row: Row, csr: ParsedCSR, desk: _Desk, now: datetime) -> LeafPlan:
    decision, issuer = _permitted(row, csr, desk, now)
    serial, channels = secrets.randbits(159) or 1, settings.STATUS_CHANNELS[decision.profile.name]
    return LeafPlan(
        profile=decision.profile, issuer=issuer, serial=serial, not_before=decision.not_before,
        not_after=decision.not_after, names=decision.names, common_name=decision.common_name, spki=csr.spki,
        aia_url=f"{settings.AIA_URL}/issuers/{issuer.name}.der",
        ocsp_url=settings.OCSP_URL or None if "ocsp" in channels else None,
        crl_url=crl.url(settings.CRL_URL, issuer.name, _shard(serial)) if "crl" in channels and settings.CRL_URL else None,
    )  # fmt: skip


def _permitted(row: Row, csr: ParsedCSR, desk: _Desk, now: datetime) -> tuple[Decision, IssuerFacts]:
    """What is to be certified, and by whom, as no rule is broken. Raises Problem."""
    decision = _decided(row, csr, desk, now)
    _check_blocked(csr.spki_sha256, desk.blocked)
    issuer = _issuer(row, desk)
    within_issuer(decision, issuer)
    return decision, issuer


def _shard(serial: int) -> int | None:
    """The sharded CRL that will list the certificate for as long as it lives, whatever the settings say later; None: no shards."""
    return serial % settings.CRL_SHARDS if settings.CRL_SHARDS else None


def _decided(row: Row, csr: ParsedCSR, desk: _Desk, now: datetime) -> Decision:
    grant = _live(desk.tokens.get(row.token), now).grant()
    if row.replaces:
        return _renewed(row, csr, grant, desk, now)
    require(grant, "issue", now)
    if row.profile == OCSP_SIGNER:
        _check_own_key(row, csr)
        return decide_ocsp_signer(row.issuer, row.not_after, _moment(row, now))
    wanted = Wanted(profile=row.profile, service=row.service, node=row.node, not_after=row.not_after)
    return decide(csr, wanted, grant, desk.site, _moment(row, now))


def _renewed(row: Row, csr: ParsedCSR, grant: Grant, desk: _Desk, now: datetime) -> Decision:
    require_renewal(grant, now)
    old = _renewable(row, row.replaces or "", desk.olds, desk.blocked, now)
    renewal.check_changes(old, csr, bool(row.names_as_before))
    moment = _moment(row, now)
    return decide(csr, renewal.wanted(old, moment), grant, desk.site, moment)


def _check_own_key(row: Row, csr: ParsedCSR) -> None:
    """Whoever holds a delegated responder's key can sign the status of every certificate of the issuer. So it must be the key
    that lies sealed here, whatever the row says and however it came there. Raises Problem."""
    try:
        own = keys.delegates(row.issuer) and keys.ocsp_signer(row.issuer).public_key == csr.public_key
    except keys.KeyFault as fault:
        raise Problem("ocspSignerForeign", f"{fault}", "csr.key") from None
    if not own:
        raise Problem("ocspSignerForeign", "only a key that this CA made for its own OCSP responses may sign them", "csr.key")


def _issuer(row: Row, desk: _Desk) -> IssuerFacts:
    """A delegated responder is certified directly by the issuer that delegates (RFC 6960 §4.2.2.2), all others by the active one."""
    if row.profile == OCSP_SIGNER:
        return issuer_facts(row.issuer)
    issuer = desk.issuers.get(row.profile)
    if issuer is None:
        raise Problem("noIssuer", f"no issuer is active for the profile {row.profile}", "profile")
    return issuer


def _moment(row: Row, now: datetime) -> datetime:
    """The moment of decision: not before the request, should the web host's clock be a little ahead of this one's, or what
    was asked at the door for the longest permitted time would be too long here."""
    return min(max(now, row.created_at or now), now + _AHEAD)


def within_issuer(decision: Decision, issuer: IssuerFacts) -> None:
    """A certificate lies within its issuer's life; one that would not is refused, never cut short. Raises Problem."""
    if decision.not_after > issuer.not_after or decision.not_before < issuer.not_before:
        raise Problem(
            "validityBeyondIssuer", f"the issuer {issuer.name} is valid from {issuer.not_before} to {issuer.not_after}", "not_after"
        )


def _live(token: Token | None, now: datetime) -> Token:
    if token is None or not token.is_live(now):
        raise Problem("tokenRevoked", "the token of this request was revoked or has expired")
    return token


def _fix(row: Row, plan: LeafPlan, csr: ParsedCSR, now: datetime) -> NewEvent:
    """Fix what will be signed, as the bytes that passed the lint, and say so in the log."""
    linted = shapes.examine(plan, leaf.build(plan), now)
    names = [str(name) for name in plan.names]
    row.state, row.serial, row.issuer, row.tbs = State.VALIDATED, f"{plan.serial:040x}", plan.issuer.name, linted.tbs
    row.fixed = {
        "names": names, "not_before": _text(plan.not_before), "not_after": _text(plan.not_after),
        "key_type": csr.key_type, "spki_sha256": csr.spki_sha256.hex(), "crl_shard": _shard(plan.serial) if plan.status_urls[1] else None,
    }  # fmt: skip
    return IssuanceIntended(
        serial=row.serial, issuer=row.issuer, request=str(row.id), token=row.token, owner=row.owner, profile=row.profile,
        names=names, tbs_sha256=sha256(row.tbs).hexdigest(), spki_sha256=csr.spki_sha256.hex(),
    ).new()  # fmt: skip


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- sign


def _signed(rows: Sequence[Row], now: datetime) -> list[NewEvent]:
    live, olds = _tokens(rows), _olds(rows)
    blocked = _blocked({_spki_sha256(row) for row in rows} | _keys_of(olds))
    intents = _intents([row.serial for row in rows])
    causes = _approval_causes(rows, live, site())
    words = approvals.words(causes)
    events: list[NewEvent] = []
    permitted: dict[str, list[Row]] = defaultdict(list)  # by issuer
    for row in rows:
        try:
            _live(live.get(row.token), now)
            _as_intended(row, intents)
            if row.id in causes:
                approvals.check_granted(row, words.get(row.id))
            _check_blocked(_spki_sha256(row), blocked)
            if row.replaces:
                _renewable(row, row.replaces, olds, blocked, now)
        except Problem as problem:
            events += [_orphan(row, problem), _reject(row, problem)]
        else:
            permitted[row.issuer].append(row)
    for issuer, its_rows in sorted(permitted.items()):
        _put_key_to(its_rows, issuer)
    return events


def _put_key_to(rows: Sequence[Row], issuer: str) -> None:
    """Sign for all that are this issuer's. If its key cannot be opened they stay as they are, to be tried again, and other issuers'
    go on; it is tried once for all, as a wrong passphrase takes a tenth of a second to find out."""
    try:
        signer = keys.issuer_signer(issuer)
    except keys.KeyFault as fault:
        waiting = [str(row.id) for row in rows]
        log.error("%s requests wait for the key of %s: %s", len(rows), issuer, fault, extra={"requests": waiting})
        return
    for row in rows:
        row.signature, row.state = signer.sign(bytes(row.tbs)), State.SIGNED


def _spki_sha256(row: Row) -> bytes:
    return bytes.fromhex((row.fixed or {}).get("spki_sha256", ""))


def _intents(serials: list[str]) -> dict[str, tuple[str, bytes]]:
    """Serial → (issuer, SHA-256 of the to-be-signed bytes), as announced."""
    rows = read_rows(Intent, ("serial", "issuer", "tbs_sha256"), f"WHERE serial IN ({places(serials)})", serials)
    return {serial: (issuer, bytes(digest)) for serial, issuer, digest in rows}


def _as_intended(row: Row, intents: dict[str, tuple[str, bytes]]) -> None:
    """The row may have been changed by hand since validate; the log cannot. Raises Problem."""
    if intents.get(row.serial) != (row.issuer, sha256(row.tbs).digest()):
        log.error("request %s: what is to be signed is not what the log announced for serial %s; not signed", row.id, row.serial)
        raise Problem("notAsIntended", "the bytes to be signed or their issuer differ from those announced in the log")


def _orphan(row: Row, problem: Problem) -> NewEvent:
    return IssuanceOrphaned(serial=row.serial, issuer=row.issuer, request=str(row.id), code=problem.code).new()


# --- record

_RECORDED = (
    "profile", "service", "node", "replaces", "serial", "issuer", "tbs", "fixed", "signature", "renewal_challenge",
    "challenge_password_hash",
)  # fmt: skip


def _recorded(row: Row, blocked: Mapping[bytes, str]) -> list[NewEvent]:
    try:
        _check_blocked(_spki_sha256(row), blocked)
    except Problem as problem:
        return [_orphan(row, problem), _reject(row, problem)]
    row.state = State.ISSUED
    return [_issued(row)]


def _issued(row: Row) -> NewEvent:
    issuer, fixed = issuer_facts(row.issuer), row.fixed or {}
    secret = challenges.revocation_secret(keys.revocation_key(), issuer.key_id, row.serial)
    return CertificateIssued(
        serial=row.serial, issuer=issuer.name, request=str(row.id), token=row.token, owner=row.owner, profile=row.profile,
        service=row.service, node=row.node, replaces=row.replaces,
        certificate=b64encode(leaf.assemble(bytes(row.tbs), issuer, bytes(row.signature))).decode(),
        renewal_challenge=b64encode(row.renewal_challenge).decode(),
        revocation_secret_hash=challenges.secret_hash(secret).hex(),
        challenge_password_hash=bytes(row.challenge_password_hash).hex() if row.challenge_password_hash else None,
        renew_by=_text(renew_by(*(datetime.fromisoformat(fixed[end]) for end in ("not_before", "not_after")))),
        **{"crl_shard": None, **fixed},
    ).new()  # fmt: skip
