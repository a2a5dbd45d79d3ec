"""What the client remembers of each certificate, and its form on disk.

Owns the fields and their JSON. A record holds private keys and revocation secrets: its file is for its owner only, and no
repr shows them. Must never guess: a file that is not exactly of this form is damaged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cached_property
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cryptography import x509

FORM = 2  # of the file; a newer client that changes the fields raises it, and says in _ADDED what older files lack
_ADDED: dict[int, tuple[str, ...]] = {1: ("reported",), FORM: ()}
T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `names`: DNS names, lower case; `ips`: addresses in canonical form; `key_type`: one of keys.KINDS."""

    names: tuple[str, ...]
    ips: tuple[str, ...]
    service: str
    node: str
    profile: str
    key_type: str


@dataclass(frozen=True)
class Place:
    """Where the pair goes: `layout` is one of pairs.LAYOUTS, `out` an absolute directory. `reload`: the shell command after a
    change; `serves`: the HOST:PORT at which the certificate should be seen."""

    layout: str
    out: str
    reload: str | None
    serves: str | None


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, both PEM; `chain`: PEM of the intermediates. `challenge`: base64, to be covered by a proof of
    renewal. `secret` revokes it. `generation` counts from 1 on this node."""

    serial: str
    key: str = field(repr=False)
    pem: str
    chain: str
    challenge: str
    secret: str | None = field(repr=False)
    generation: int
    renew_at: datetime

    @cached_property
    def leaf(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem.encode())

    @property
    def not_before(self) -> datetime:
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.leaf.not_valid_after_utc


@dataclass(frozen=True)
class Pending:
    """A request that was sent or is about to be. Kept word for word, so that it can be repeated under its Idempotency-Key
    when the answer was lost; a second proof or key would make it another request."""

    path: str
    body: dict[str, Any] = field(repr=False)
    idempotency_key: str
    key: str = field(repr=False)
    since: datetime


@dataclass(frozen=True)
class Trouble:
    """What the last attempt failed with, at `at`, after how many in a row, and when the next one is."""

    message: str
    at: datetime
    failures: int
    retry_at: datetime


@dataclass(frozen=True)
class Served:
    """What was seen at Place.serves: a serial, or why there is none."""

    serial: str | None
    error: str | None
    at: datetime


@dataclass(frozen=True)
class Reported:
    """The last check-in, tried at `at`, and when the next one is. `status`, `replaced_by`, `replace_by`: what the server said last;
    `error`: why it was not heard this time."""

    at: datetime
    next_at: datetime
    status: str | None
    replaced_by: str | None
    replace_by: datetime | None
    error: str | None


@dataclass(frozen=True)
class Record:
    """Everything about one certificate of this node. `reload_due`: the pair has changed and the service was not yet told."""

    label: str
    wanted: Wanted
    place: Place
    current: Pair | None = None
    pending: Pending | None = None
    reload_due: bool = False
    revoked_at: datetime | None = None
    trouble: Trouble | None = None
    served: Served | None = None
    reported: Reported | None = None


def to_json(record: Record) -> bytes:
    """The file's contents."""
    return (json.dumps({"form": FORM, **_plain(record)}, indent=1) + "\n").encode()


def from_json(raw: bytes) -> Record:
    """What to_json wrote. Raises ValueError."""
    values = json.loads(raw)
    form = values.pop("form", None) if isinstance(values, dict) else None
    if type(form) is not int or form not in _ADDED:
        raise ValueError("it is not of a form that this version knows")
    record: Record = _read(Record, dict.fromkeys(_ADDED[form]) | values)
    if record.current:
        record.current.leaf  # noqa: B018  raises ValueError now rather than later
    return record


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value.isoformat() if isinstance(value, datetime) else value


def _read(kind: Any, value: Any) -> Any:
    """`value` of JSON as the annotated type `kind`."""
    if get_origin(kind) is UnionType or NoneType in get_args(kind):
        return None if value is None else _read(next(each for each in get_args(kind) if each is not NoneType), value)
    if is_dataclass(kind):
        return _read_fields(kind, value)
    if get_origin(kind) is tuple:
        return tuple(_of(str, each) for each in _of(list, value))
    if kind is datetime:
        return _time(_of(str, value))
    return _of(get_origin(kind) or kind, value)


def _read_fields(kind: Any, value: Any) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != {each.name for each in fields(kind)}:
        raise ValueError(f"it has other fields than a {kind.__name__} has")
    return kind(**{name: _read(hints[name], member) for name, member in value.items()})


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return time


def _of(kind: type[T], value: Any) -> T:
    if type(value) is not kind:
        raise ValueError(f"{str(value)[:40]!r} should be a {kind.__name__}")
    return value
