"""ocsp's projection of the log: issuers, delegated responders, and where each serial stands.

Owns every write to Issuer, Responder and Status. All events are folded in their order by one function, many at a time: it
reads the rows they concern, changes them in memory and writes them back in bulk. What the log revoked stays revoked, whatever
comes after. Besides its tables it takes back, through feed.py, what was said of a revoked serial; this too changes
nothing when it is done again.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter

from ca.pki.pointers import status_channels
from eventlog.append import StoredEvent
from eventlog.bulk import insert_rows, places, read_rows, update_rows
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from . import feed
from .models import Issuer, Responder, State, Status
from .responses import UNANSWERED

NAME, OCSP_SIGNER = "ocsp", "ocsp-signer"


@dataclass(slots=True)
class _Standing:
    """A row of Status."""

    serial: str
    issuer: str
    state: str
    profile: str
    not_after: datetime | None
    channels: str
    crl_shard: int | None
    revoked_at: datetime | None
    reason: str | None
    position: int


_COLUMNS = tuple(field.name for field in fields(_Standing))
_row = attrgetter(*_COLUMNS)


def _read(events: Sequence[StoredEvent]) -> None:
    by_type: dict[str, list[StoredEvent]] = {}
    steps = []
    for event in events:
        kind = event.type
        by_type.setdefault(kind, []).append(event)
        if step := _STEPS.get(kind):
            steps.append((step, event))
    _add_issuers(by_type.get("issuer.added", []))
    _add_responders(by_type.get("certificate.issued", []))
    old = _stored({event.subject for _, event in steps})
    standings = dict(old)
    for step, event in steps:
        standing = standings.get(event.subject)
        if standing is None:
            standings[event.subject] = standing = _unheard_of(event)
        step(standing, event)
        standing.position = event.position
    _write(standings, old.keys())
    _withdraw(by_type.get("certificate.revoked", []), standings)
    feed.sign_again({event.subject for event in by_type.get("revocation.escalated", [])})


def _stored(serials: Collection[str]) -> dict[str, _Standing]:
    if not serials:
        return {}
    rows = read_rows(Status, _COLUMNS, f"WHERE serial IN ({places(serials)})", list(serials))
    return {row[0]: _Standing(*row) for row in rows}


def _unheard_of(event: StoredEvent) -> _Standing:
    """A serial before its first event, which knows no more of it than its issuer."""
    return _Standing(event.subject, event.data["issuer"], State.INTENDED.value, "", None, "", None, None, None, event.position)


def _write(standings: Mapping[str, _Standing], old: Collection[str]) -> None:
    rows = [(serial in old, _row(standing)) for serial, standing in standings.items()]
    insert_rows(Status, _COLUMNS, [row for known, row in rows if not known])
    update_rows(Status, "serial", _COLUMNS[1:], [row for known, row in rows if known])


def _withdraw(events: Sequence[StoredEvent], standings: Mapping[str, _Standing]) -> None:
    """Have the answers about what was revoked taken back."""
    revoked = [standings[serial] for serial in sorted({event.subject for event in events})]
    feed.withdraw([(each.serial, each.issuer, each.revoked_at) for each in revoked if each.revoked_at and each.profile not in UNANSWERED])


# --- what an event changes in a standing


def _intended(standing: _Standing, event: StoredEvent) -> None:
    standing.profile = event.data["profile"]


def _orphaned(standing: _Standing, event: StoredEvent) -> None:
    _become(standing, State.ORPHANED)


def _issued(standing: _Standing, event: StoredEvent) -> None:
    data = event.data
    standing.profile, standing.not_after = data["profile"], datetime.fromisoformat(data["not_after"])
    standing.channels, standing.crl_shard = status_channels(b64decode(data["certificate"])), data["crl_shard"]
    _become(standing, State.ISSUED)


def _revoked(standing: _Standing, event: StoredEvent) -> None:
    if standing.revoked_at is None:
        standing.state, standing.revoked_at, standing.reason = State.REVOKED.value, event.time, event.data["reason"]


def _escalated(standing: _Standing, event: StoredEvent) -> None:
    standing.reason = event.data["reason"]


def _become(standing: _Standing, state: State) -> None:
    if standing.state != State.REVOKED:
        standing.state = state.value


_STEPS: Mapping[str, Callable[[_Standing, StoredEvent], None]] = {
    "issuance.intended": _intended,
    "issuance.orphaned": _orphaned,
    "certificate.issued": _issued,
    "certificate.revoked": _revoked,
    "revocation.escalated": _escalated,
}


# --- issuers and their delegates


def _add_issuers(events: Sequence[StoredEvent]) -> None:
    rows = [
        (event.data["name"], event.data["kind"], bytes.fromhex(event.data["key_id"]), b64decode(event.data["certificate"]), event.position)
        for event in events
    ]
    insert_rows(Issuer, ("name", "kind", "key_id", "certificate", "position"), rows)


def _add_responders(events: Sequence[StoredEvent]) -> None:
    time = datetime.fromisoformat
    rows = [
        (each["serial"], each["issuer"], b64decode(each["certificate"]), time(each["not_before"]), time(each["not_after"]), position)
        for position, each in ((event.position, event.data) for event in events)
        if each["profile"] == OCSP_SIGNER
    ]
    insert_rows(Responder, ("serial", "issuer", "certificate", "not_before", "not_after", "position"), rows)


def register() -> None:
    """Make the projection known to the log. Called once, when Django starts."""
    kinds = {"issuer.added", *_STEPS}
    register_projection(Projection(NAME, dict.fromkeys(kinds, _read), (Issuer, Responder, Status)))
