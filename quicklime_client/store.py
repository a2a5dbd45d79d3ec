"""The client's state directory: what is trusted, a file per certificate, and the locks.

    server.json           URL and pinned root
    root.pem              the root once more, for other programs; never read here
    token                 the API token, if it is kept here; written by the operator
    certificates/L.json   the record of the certificate labelled L, mode 0600: it holds the private key
    certificates/L.lock   held while L is worked on
    pairs/L/              where the pair of L goes unless --out says otherwise
    agent.lock            held by the agent

Owns these names. Must never overwrite a file it could not read: a damaged record is left for a person to look at.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from . import files, records
from .failures import Failure
from .records import Record

LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


def default_directory() -> Path:
    """/var/lib/quicklime for root; for others XDG_STATE_HOME or ~/.local/state, and quicklime below."""
    if os.geteuid() == 0:
        return Path("/var/lib/quicklime")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "quicklime"


def label_of(name: str) -> str:
    """The label that a certificate gets by its first name."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("*", "_wildcard"))[:128]


@dataclass(frozen=True)
class Trust:
    """The server and the only root that may vouch for it; `root` is PEM."""

    url: str
    root: str

    @property
    def anchor(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.root.encode())


@dataclass(frozen=True)
class Store:
    """See the module."""

    directory: Path

    @property
    def _certificates(self) -> Path:
        return self.directory / "certificates"

    def _file(self, label: str, suffix: str) -> Path:
        if not LABEL.fullmatch(label):
            raise Failure(f"the label {label!r}", "a label has 1 to 128 letters, digits, '.', '_' and '-'", "choose one with --label")
        return self._certificates / f"{label}{suffix}"

    def out(self, label: str) -> Path:
        """Where the pair goes by default."""
        return self.directory.absolute() / "pairs" / label

    # --- whom to trust

    def save_trust(self, trust: Trust) -> None:
        """Pin. root.pem first: it is only a copy, and server.json is what counts."""
        self._make(self.directory)
        with self._held(self.directory / "trust.lock", "another `quicklime trust`"):
            files.replace(self.directory / "root.pem", trust.root.encode(), files.PUBLIC)
            text = json.dumps({"url": trust.url, "root": trust.root}, indent=1) + "\n"
            files.replace(self.directory / "server.json", text.encode(), files.PUBLIC)

    def trust(self) -> Trust:
        """Raises Failure if no server is trusted yet."""
        path = self.directory / "server.json"
        try:
            values = json.loads(path.read_bytes())
            trust = Trust(str(values["url"]), str(values["root"]))
            trust.anchor  # noqa: B018  raises ValueError
        except FileNotFoundError:
            raise Failure(f"no server is trusted in {self.directory}", "there is no server.json", "run `quicklime trust` first") from None
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{path}", "it is damaged", "run `quicklime trust` again") from None
        return trust

    # --- certificates

    def labels(self) -> list[str]:
        """Of all certificates, sorted. Raises OSError where there is a directory that cannot be read."""
        try:
            names = os.listdir(self._certificates)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))

    def find(self, label: str) -> Record | None:
        """The record, or None. Raises Failure if it is damaged."""
        path = self._file(label, ".json")
        try:
            return records.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise Failure(f"{path}", f"it is damaged ({error})", "restore it, or remove it and request the certificate again") from None

    def load(self, label: str) -> Record:
        """Raises Failure if there is none, or it is damaged."""
        record = self.find(label)
        if record is None:
            known = ", ".join(self.labels()) or "none"
            raise Failure(f"no certificate {label!r} here", f"{self.directory} has: {known}", "name one of these, or --state")
        return record

    def save(self, record: Record) -> None:
        """Durable when this returns. The caller holds the label's lock."""
        files.replace(self._file(record.label, ".json"), records.to_json(record), files.PRIVATE)

    def forget(self, label: str) -> None:
        """Remove the record; nothing else. The caller holds the label's lock."""
        self._file(label, ".json").unlink(missing_ok=True)

    # --- locks

    @contextmanager
    def locked(self, label: str) -> Iterator[None]:
        """The label is ours alone. Raises Failure, at once, if it is another's."""
        path = self._file(label, ".lock")
        self._make(self.directory)
        self._make(self._certificates)
        with self._held(path, f"another quicklime, perhaps the agent, works on {label}"):
            yield

    @contextmanager
    def agent(self) -> Iterator[None]:
        """We are the agent of this state directory. Raises Failure if there is one."""
        self._make(self.directory)
        with self._held(self.directory / "agent.lock", "another `quicklime agent` runs"):
            yield

    @contextmanager
    def _held(self, path: Path, who: str) -> Iterator[None]:
        """The kernel lets go of it when the process ends, however it ends."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, files.PRIVATE)
        try:
            self._lock(descriptor, path, who)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, path: Path, who: str) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"{path} is locked", who, "wait for it to end, and try again") from None

    def _make(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
