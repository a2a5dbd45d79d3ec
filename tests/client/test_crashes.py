"""The client killed by SIGKILL at every single step that changes the disk: what is in place is a pair that fits, and going
on ends where it would have ended. After each crash openssl has a look."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from . import crashing
from .conftest import LABEL, REQUEST, Node, check_key, check_pair, openssl
from .fake import Fake, serving

START = datetime(2030, 1, 1, tzinfo=UTC)
LATE = START + timedelta(days=66)
pytestmark = pytest.mark.timeout(240)


def nodes(directory: Path, stride: int = 1, ready: Callable[[Node], object] = lambda node: None) -> Iterator[tuple[int, Node]]:
    """A node and its server, for each number from 1 on, or for every `stride`-th: always as they were after `ready`."""
    home, kept = directory / "home", directory / "kept"
    home.mkdir()
    with serving(Fake(now=START), directory) as fake:
        node = Node(home, fake)
        node.trust()
        ready(node)
        shutil.copytree(home, kept, symlinks=True)
        made = [replace(each) for each in fake.certificates.values()]
        for number in count(1, stride):
            shutil.rmtree(home)
            shutil.copytree(kept, home, symlinks=True)
            fake.now, fake.certificates, fake.requests, fake.keyed = START, {each.serial: replace(each) for each in made}, {}, {}
            yield number, node


def pair(layout: str) -> Callable[[Node], int]:
    """How to have the pair of a layout checked; gives its serial."""

    def nginx(node: Node) -> int:
        return check_pair(node.current(), node.state / "root.pem")

    def haproxy(node: Node) -> int:
        combined = node.current() / "combined.pem"
        return check_key(openssl("pkey", "-in", combined, "-pubout"), combined.read_bytes())

    def pkcs12(node: Node) -> int:
        store, password = node.current() / "keystore.p12", node.current().parent / "keystore.password"
        opened = openssl("pkcs12", "-in", store, "-passin", f"file:{password}", "-nodes").encode()
        return check_key(openssl("pkey", "-pubout", stdin=opened), opened)

    return {"nginx": nginx, "haproxy": haproxy, "pkcs12": pkcs12}[layout]


@pytest.mark.parametrize(("layout", "stride"), [("nginx", 1), ("haproxy", 4), ("pkcs12", 4)])
def test_a_renewal_killed_at_every_step(tmp_path: Path, layout: str, stride: int) -> None:
    check, at = pair(layout), set[int]()
    told = tmp_path / "home/told"
    more = ("--layout", layout, "--reload", f'echo "$QUICKLIME_SERIAL" >> {told}')
    for number, node in nodes(tmp_path, stride, lambda node: node.request(*more)):
        (first,) = (int(serial, 16) for serial in node.fake.certificates)
        node.fake.now = LATE
        killed = crashing.killed(crashing.one_pass, node.state, LATE, number)
        found = check(node)
        at.add(len(node.fake.certificates) * 10 + (found != first))

        node.pass_at(LATE + timedelta(minutes=1))  # no trouble was noted, so it goes on at once
        record = node.record()
        assert record.current
        assert (record.current.generation, record.pending, record.reload_due, record.trouble) == (2, None, False, None)
        assert check(node) == int(record.current.serial, 16) != first
        assert len(node.fake.certificates) == 2
        assert told.read_text().split()[-1] == record.current.serial
        if not killed:
            break
    assert at == {10, 20, 21}  # it was killed before the renewal, between the answer and the switch, and after the switch
    assert number > 30


def test_a_first_request_killed_at_every_step(tmp_path: Path) -> None:
    for number, node in nodes(tmp_path):
        killed = crashing.killed(crashing.command, node.state, REQUEST, number)
        current = node.state / "pairs" / LABEL / "current"
        if current.exists():
            check_pair(current, node.state / "root.pem")
        node.request()
        assert len(node.fake.certificates) == 1
        record = node.record()
        assert record.current
        assert check_pair(current, node.state / "root.pem") == int(record.current.serial, 16)
        if not killed:
            break
    assert number > 20


def test_a_revocation_killed_at_every_step(tmp_path: Path) -> None:
    for number, node in nodes(tmp_path, ready=Node.request):
        killed = crashing.killed(crashing.command, node.state, ("revoke", LABEL, "--yes"), number)
        node.run("revoke", LABEL, "--yes")
        assert node.record().revoked_at
        assert [made.reason for made in node.fake.certificates.values()] == ["unspecified"]
        if not killed:
            break


def test_trust_killed_at_every_step(tmp_path: Path) -> None:
    """Changing from one server to another: the old one or the new one is trusted, whole."""
    (tmp_path / "other").mkdir()
    with serving(Fake(), tmp_path / "other") as other:
        for number, node in nodes(tmp_path):
            arguments = ("trust", other.url, "--fingerprint", other.fingerprint)
            killed = crashing.killed(crashing.command, node.state, arguments, number)
            trust = node.store.trust()
            assert (trust.url, trust.anchor) in [(fake.url, fake.authority.root) for fake in (node.fake, other)]
            node.run(*arguments)
            assert node.store.trust().url == other.url
            if not killed:
                break
