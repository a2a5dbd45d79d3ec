"""A fake server, a node whose state directory trusts it, and second opinions by openssl."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quicklime_client import agent, api, cli
from quicklime_client.records import Record
from quicklime_client.store import Store

from .fake import TOKEN, Fake, serving

LABEL = "payroll.internal"
REQUEST = ("request", "--service", "payroll", "--node", "payroll-1", "--name", LABEL)


@dataclass
class Node:
    """A machine with the client on it; `said` is what its agent has printed."""

    directory: Path
    fake: Fake
    said: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def store(self) -> Store:
        return Store(self.state)

    def run(self, *arguments: str, code: int = 0) -> str:
        """The command line in this process, with its exit status checked; what it said."""
        result = CliRunner().invoke(cli.app, [*arguments], env={"QUICKLIME_CLIENT_STATE": str(self.state)})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result.output

    def trust(self) -> None:
        self.run("trust", self.fake.url, "--fingerprint", self.fake.fingerprint)
        (self.state / "token").write_text(TOKEN + "\n")

    def request(self, *more: str, code: int = 0) -> str:
        return self.run(*REQUEST, *more, code=code)

    def pass_at(self, now: datetime) -> datetime:
        """One pass of the agent at the time `now`, which is the server's as well; when it wants the next."""
        self.fake.now = now
        return agent.look_after_all(self.store, lambda trust: api.Server(trust, TOKEN), now, self.said.append)

    def record(self, label: str = LABEL) -> Record:
        return self.store.load(label)

    def current(self, label: str = LABEL) -> Path:
        return Path(self.record(label).place.out) / "current"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    with serving(Fake(), tmp_path) as served:
        yield served


@pytest.fixture
def stranger(tmp_path: Path, fake: Fake) -> Node:
    """A node that trusts nobody yet."""
    return Node(tmp_path, fake)


@pytest.fixture
def node(stranger: Node) -> Node:
    """A node that trusts the fake server and has a token for it."""
    stranger.trust()
    return stranger


def openssl(*arguments: str | Path, stdin: bytes = b"") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def check_pair(directory: Path, root: Path) -> int:
    """openssl's word that key.pem and fullchain.pem fit and lead to the root; the certificate's serial."""
    leaf = directory / "fullchain.pem"
    openssl("verify", "-no_check_time", "-CAfile", root, "-untrusted", leaf, leaf)
    return check_key(openssl("pkey", "-in", directory / "key.pem", "-pubout"), leaf.read_bytes())


def check_key(public: str, leaf: bytes) -> int:
    """openssl's word that `public` is the certificate's key; the certificate's serial."""
    serial, _, key = openssl("x509", "-noout", "-serial", "-pubkey", stdin=leaf).partition("\n")
    assert key == public
    return int(serial.removeprefix("serial="), 16)
