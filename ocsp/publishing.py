"""Status as plain files: the ready OCSP answers under the paths that GET clients ask for, the CRLs and the issuers' certificates.

Owns the directory settings.STATUS_DIR, which nginx or whatever fills a CDN serves: `nginx.conf` in it says how. Must never
leave a good answer where the database has taken it back: what was revoked or withdrawn goes first, before any backlog.

An answer's file is named by the base64 of its request, as it stands in the URL, and ".der": a "/" in it makes a directory, "//"
falls together as it does for every file system, a last "/" leaves a file called ".der". A file's time is its thisUpdate.

`.published.json` holds how far the Feed's revisions have been followed. Files are written beside their place and renamed; after
a revocation the disk is synced before the state says so. A crash in between does some work again. One process publishes at a
time: two could put an old answer over a new one.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path

from cryptography.x509 import ocsp
from django.conf import settings
from django.db.models import Q

from ca.pki import der
from ca.pki.ocsp_response import Hash, cert_id

from .crls import FULL
from .models import Crl, Feed, Issuer, Response

log = logging.getLogger(__name__)
CHUNK = 500
_SLICE, _URGENT = 0.1, 0.5  # seconds, the second for what was revoked
_SWEPT, _SWEEP_EVERY = 1_000, timedelta(hours=1)  # files looked at in a slice; from the end of one round to the next
_CRL_AGE = 60  # seconds that a cache may keep a CRL without asking: no longer than a revocation waits for its CRL

_ALGORITHMS: tuple[Hash, Hash] = ("sha1", "sha256")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

Place = tuple[int, str]  # (revision, serial): how far Response was followed


def publish(now: datetime) -> bool:
    """Bring the files up to the database for about a tenth of a second, half of one for revocations; True if there is more
    to do. Does nothing without the setting, or while another process publishes."""
    return settings.STATUS_DIR is not None and _publisher(settings.STATUS_DIR).publish(now)


def behind() -> int:
    """How many of the Feed's revisions are not in the files yet."""
    if settings.STATUS_DIR is None:
        return 0
    state = _read_state(settings.STATUS_DIR)
    return _revision() - state.reached()


def start_anew() -> None:
    """Write every file again, from the next `publish` on."""
    if settings.STATUS_DIR:
        (settings.STATUS_DIR / _STATE).unlink(missing_ok=True)


def request(issuer: bytes, algorithm: Hash, serial: str) -> bytes:
    """The DER OCSPRequest without options about a certificate of the DER certificate `issuer`, as clients send it by GET."""
    whole = cert_id(issuer, algorithm) + der.integer(int(serial, 16))
    for _ in ("CertID", "Request", "requestList", "TBSRequest", "OCSPRequest"):
        whole = der.tlv(der.SEQUENCE, whole)
    return whole


def max_age() -> timedelta:
    """How long after thisUpdate a cache may give an answer without asking: the time in which pre-signing makes the next one."""
    half: timedelta = settings.OCSP_VALIDITY / 2
    return half


# --- state

_STATE, _LOCK, _NEW = ".published.json", ".lock", ".new"


@dataclass
class _State:
    """What is published: revoked answers and others up to a place each, CRLs by "issuer/shard" → number; for which max_age.
    `skipped`: issuers that the projection had not read yet, each with the first revision that was passed over for it."""

    max_age: float
    revoked: Place = (0, "")
    others: Place = (0, "")
    crls: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

    def reached(self) -> int:
        """The revision up to which all is published."""
        return min(self.revoked[0], self.others[0], *(since - 1 for since in self.skipped.values()))

    def return_for(self, issuers: Iterable[str]) -> None:
        """Go on where the first of `issuers` was skipped."""
        for since in [self.skipped.pop(issuer) for issuer in issuers if issuer in self.skipped]:
            self.revoked, self.others = min(self.revoked, (since, "")), min(self.others, (since, ""))


def _read_state(directory: Path) -> _State:
    """From the beginning if there is none, if another max_age was promised, or if the database is behind it."""
    new = _State(max_age().total_seconds())
    with suppress(FileNotFoundError, ValueError, TypeError):
        kept = _State(**json.loads((directory / _STATE).read_text()))
        kept.revoked, kept.others = _place(*kept.revoked), _place(*kept.others)
        if kept.max_age == new.max_age and max(kept.revoked, kept.others) <= (_revision(), "~"):
            return kept
    return new


def _place(revision: int, serial: str) -> Place:
    return revision, serial


def _revision() -> int:
    return Feed.objects.filter(id=1).values_list("revision", flat=True).first() or 0


@contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Whether nobody else publishes here. A process that dies gives the lock back."""
    _make_directory(directory)
    with open(directory / _LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


# --- publishing


@cache
def _publisher(directory: Path) -> _Publisher:
    """This process's, which remembers how far its sweep has come."""
    return _Publisher(directory)


class _Publisher:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sweep: Iterator[os.DirEntry[str]] | None = None
        self._next_sweep = _LONG_AGO

    def publish(self, now: datetime) -> bool:
        with _alone(self._directory) as alone:
            return alone and self._publish(now)

    def _publish(self, now: datetime) -> bool:
        """Issuers and CRLs whole, revoked answers, then others as long as the slice lasts, then a part of the sweep."""
        began = time.monotonic()
        state, issuers = _read_state(self._directory), self._write_issuers()
        state.return_for(issuers)
        self._write_configuration()
        revision = _revision()  # before the rows are read: each up to it is there
        writer = _Writer(self._directory, issuers, state.skipped, now)
        self._write_crls(state, writer, now)
        state.revoked, more_revoked = writer.follow(state.revoked, revision, began + _URGENT, revoked=True)
        more = more_revoked
        if not more_revoked:
            state.others, more = writer.follow(state.others, revision, began + _SLICE, revoked=False)
        if writer.must_last:
            os.sync()
        _write(self._directory, self._directory / _STATE, json.dumps(asdict(state)).encode(), now)
        if not more:
            self._sweep_on(now)
        return more

    def _write_issuers(self) -> dict[str, bytes]:
        issuers = {name: bytes(certificate) for name, certificate in Issuer.objects.values_list("name", "certificate")}
        for name, certificate in issuers.items():
            self._keep(f"issuers/{name}.der", certificate)
        return issuers

    def _write_configuration(self) -> None:
        self._keep("nginx.conf", configuration(self._directory).encode())
        if not (self._directory / "unknown.conf").exists():
            self._keep("unknown.conf", _UNKNOWN.encode())

    def _keep(self, name: str, data: bytes) -> None:
        """Have this in the file, touching it only for a change."""
        path = self._directory / name
        if not path.exists() or path.read_bytes() != data:
            _write(self._directory, path, data, datetime.now(UTC))

    def _write_crls(self, state: _State, writer: _Writer, now: datetime) -> None:
        rows = Crl.objects.filter(next_update__gt=now).values_list("issuer", "shard", "number")
        numbers = {f"{issuer}/{shard}": number for issuer, shard, number in rows}
        for scope in {*numbers, *state.crls}:
            if numbers.get(scope) != state.crls.get(scope):
                writer.crl(*scope.split("/"))
        state.crls = numbers

    def _sweep_on(self, now: datetime) -> None:
        """Look at some more files, and remove those whose nextUpdate has passed: rows that were deleted have no revision."""
        if now < self._next_sweep:
            return
        self._sweep = self._sweep or _files(self._directory / "ocsp")
        entries = list(islice(self._sweep, _SWEPT))
        for entry in entries:
            if _has_expired(entry, now):
                _remove(self._directory, Path(entry.path))
        if len(entries) < _SWEPT:
            self._sweep, self._next_sweep = None, now + _SWEEP_EVERY


class _Writer:
    """Writes answers and CRLs; notes in `skipped` whose issuer is not among `issuers`, as their requests cannot be told.
    `must_last`: it wrote a revocation, which a power cut must not take back."""

    def __init__(self, directory: Path, issuers: dict[str, bytes], skipped: dict[str, int], now: datetime) -> None:
        self._directory, self._issuers, self._skipped, self._now = directory, issuers, skipped, now
        self.must_last = False

    def follow(self, place: Place, revision: int, until: float, *, revoked: bool) -> tuple[Place, bool]:
        """Write the answers beyond `place`; (how far it came, whether there are more). At least one chunk, however late."""
        while True:
            rows = list(_rows(place, revoked=revoked))
            for row in rows:
                self._answer(row)
                place = row.revision, row.serial
            if len(rows) < CHUNK:
                return max(place, (revision, "")), False
            if time.monotonic() > until:
                return place, True

    def _answer(self, row: Response) -> None:
        """A withdrawn answer is taken away. So is one that ends before a cache, told by `nginx.conf`, would ask again."""
        if row.issuer not in self._issuers:
            self._skipped[row.issuer] = min(row.revision, self._skipped.get(row.issuer, row.revision))
            return
        self.must_last |= row.revoked
        fresh = row.next_update > self._now and row.next_update - row.this_update >= max_age()
        for algorithm, answer in zip(_ALGORITHMS, (row.sha1, row.sha256), strict=True):
            path = self._path(row, algorithm)
            if answer and fresh:
                _write(self._directory, path, bytes(answer), row.this_update)
            else:
                _remove(self._directory, path)

    def _path(self, row: Response, algorithm: Hash) -> Path:
        asked = b64encode(request(self._issuers[row.issuer], algorithm, row.serial)).decode()
        return Path(f"{self._directory}/ocsp/{asked}.der")

    def crl(self, issuer: str, shard: str) -> None:
        """The newest CRL of that scope, or none."""
        self.must_last = True
        path = self._directory / "crl" / (f"{issuer}.crl" if int(shard) == FULL else f"{issuer}/{shard}.crl")
        row = Crl.objects.filter(issuer=issuer, shard=int(shard), next_update__gt=self._now).first()
        if row:
            _write(self._directory, path, bytes(row.der), row.this_update)
        else:
            _remove(self._directory, path)


def _rows(place: Place, *, revoked: bool) -> Iterator[Response]:
    """The next CHUNK of the answers, in the order of their revisions."""
    revision, serial = place
    beyond = Response.objects.filter(Q(revision__gt=revision) | Q(serial__gt=serial), revoked=revoked, revision__gte=revision)
    return beyond.order_by("revision", "serial")[:CHUNK].iterator()


# --- files


def _write(directory: Path, path: Path, data: bytes, at: datetime) -> None:
    """Replace `path` by `data`, with the time `at`, readable by all. Only one process writes in `directory`."""
    new = directory / _NEW
    with open(new, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o644)
    os.utime(new, (at.timestamp(), at.timestamp()))
    try:
        os.replace(new, path)
    except FileNotFoundError:
        _make_directory(path.parent)
        os.replace(new, path)


def _make_directory(directory: Path) -> None:
    """With its parents, open to who serves the files, whatever the umask."""
    if not directory.exists():
        _make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def _remove(directory: Path, path: Path) -> None:
    """The file, and the directories that become empty."""
    path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty, or not there
        for parent in path.parents:
            if parent.parent == directory:
                return
            parent.rmdir()


def _files(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """Every file below, one by one: there may be millions in one directory."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry


def _has_expired(entry: os.DirEntry[str], now: datetime) -> bool:
    """Whether it is no answer any more, or, after a power cut, none at all. Opened only if it is older than a newest one is."""
    with suppress(FileNotFoundError):
        stat = entry.stat(follow_symlinks=False)
        if stat.st_size and stat.st_mtime > (now - max_age()).timestamp():
            return False
        return _next_update(Path(entry.path).read_bytes()) <= now
    return False


def _next_update(answer: bytes) -> datetime:
    try:
        return ocsp.load_der_ocsp_response(answer).next_update_utc or _LONG_AGO
    except ValueError:
        return _LONG_AGO


# --- nginx

_CONFIGURATION = """\
# Written by Quicklime: include this in a server {{}} block, and reload nginx when it has changed.
# Serves /ocsp/BASE64, /crl/ and /issuers/. What no file knows, and POST, goes to unknown.conf, which is yours to edit.
# A cache may keep an answer until {hours:g} hours after its thisUpdate, half of its time, and no longer; then it has to ask.
merge_slashes off;
location ^~ /ocsp/ {{
    root "{directory}";
    types {{ }}
    default_type application/ocsp-response;
    expires modified {seconds:.0f}s;
    add_header Cache-Control "public, no-transform, must-revalidate";
    try_files $uri.der @quicklime_unknown;
}}
location ^~ /crl/ {{
    root "{directory}";
    types {{ }}
    default_type application/pkix-crl;
    expires {crl_age}s;
    add_header Cache-Control "public, no-transform, must-revalidate";
    try_files $uri @quicklime_unknown;
}}
location ^~ /issuers/ {{
    root "{directory}";
    types {{ }}
    default_type application/pkix-cert;
    expires 1d;
    add_header Cache-Control "public, no-transform";
    try_files $uri @quicklime_unknown;
}}
location = /ocsp {{
    root "{directory}";
    try_files /.none @quicklime_unknown;
}}
location @quicklime_unknown {{
    include "{directory}/unknown.conf";
}}
"""
_UNKNOWN = """\
# What is answered where no file is. To ask a responder instead, replace both lines by: proxy_pass http://127.0.0.1:8080;
add_header Cache-Control no-store always;
return 404;
"""


def configuration(directory: Path) -> str:
    """What nginx includes to serve `directory`."""
    seconds = max_age().total_seconds()
    return _CONFIGURATION.format(directory=directory, seconds=seconds, hours=seconds / 3600, crl_age=_CRL_AGE)
