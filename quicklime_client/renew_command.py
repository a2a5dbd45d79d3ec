"""`quicklime renew` and `quicklime revoke`: what the holder of a certificate's key may do with it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

from . import api, enrolment, keys, options, pairs
from .failures import Failure, Refused, reported
from .records import Pair, Record
from .request_command import show
from .store import Store, Trust

# RFC 5280 §5.3.1, those that a holder may give
Reason = Literal["unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"]


def renew(
    label: options.Label,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time to wait for the certificate.")] = 60,
    token_file: options.TokenFile = None,
    state: options.State = None,
) -> None:
    """Renew a certificate now, with a new key. The agent does this by itself, around two thirds of its life.

    The right to renew is shown by the present key, which signs a proof. Key and certificate change together; then the reload command is
    run. An interrupted renewal is continued, not begun again.

    \b
    Example:
      quicklime renew payroll.internal
    """
    with reported():
        store, now = options.store(state), datetime.now(UTC)
        with store.locked(label):
            record = _pending(store, store.load(label), now)
            pairs.prepare(record.place)
            trust = store.trust()
            with api.Server(trust, options.token(token_file, store)) as server:
                record = _obtained(store, server, record, trust, wait, now)
            record = enrolment.install(store, record)
        show(record, now)


def _pending(store: Store, record: Record, now: datetime) -> Record:
    if record.pending:
        return record
    if record.current is None or record.revoked_at:
        why = "it was revoked" if record.revoked_at else "there is none yet"
        raise Failure(f"{record.label} cannot be renewed", why, "use `quicklime request`")
    record = replace(record, pending=enrolment.renewal(record.wanted, record.current, now))
    store.save(record)
    return record


def _obtained(store: Store, server: api.Server, record: Record, trust: Trust, wait: float, now: datetime) -> Record:
    try:
        return enrolment.obtain(store, server, record, trust.anchor, wait, now)
    except Refused as refusal:
        if refusal.stored:  # it would be refused for ever
            store.save(replace(record, pending=None))
        raise


def revoke(
    label: options.Label,
    reason: Annotated[Reason, typer.Option(help="Why.", case_sensitive=False)] = "unspecified",
    by_key: Annotated[bool, typer.Option("--by-key", help="Prove with the private key, not with the revocation secret.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether this is meant.")] = False,
    state: options.State = None,
) -> None:
    """Revoke a certificate, for good.

    Shows the revocation secret that came with the certificate or, without one, a proof signed by its key; no token is needed. The files
    stay in place, and the agent renews it no more. `quicklime request` gets another certificate in its place.

    \b
    Example:
      quicklime revoke payroll.internal --reason keyCompromise
    """
    with reported():
        store = options.store(state)
        with store.locked(label):
            record = store.load(label)
            if record.current is None:
                raise Failure(f"{label} cannot be revoked", "there is no certificate yet", "see `quicklime status`")
            if not yes:
                typer.confirm(f"Revoke {label}, serial {record.current.serial}, for good?", abort=True)
            with api.Server(store.trust(), None) as server:  # the evidence is enough; a token that has expired would be refused
                server.revoke(record.current.serial, _evidence(record.current, reason, by_key))
            store.save(replace(record, revoked_at=datetime.now(UTC), pending=None, trouble=None))
        typer.echo(f"{label}: serial {record.current.serial} is revoked ({reason})")


def _evidence(pair: Pair, reason: str, by_key: bool) -> dict[str, str]:
    if pair.secret and not by_key:
        return {"reason": reason, "secret": pair.secret}
    try:
        proof = keys.sign(keys.load(pair.key), keys.revocation_statement(pair, reason))
    except ValueError as error:
        raise Failure("no proof of revocation can be made", str(error), "ask an operator to revoke it") from None
    return {"reason": reason, "proof": b64encode(proof).decode()}
