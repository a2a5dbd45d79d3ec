"""The start refuses, in words, what does not fit; and says which settings mend it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from django.core.management import call_command
from django.db import OperationalError

from ca import keys
from ca.models import Issuer
from eventlog import checkpoints
from quicklime_site import private_redis, schedule, start
from quicklime_site.machine import CannotStart, Ports
from quicklime_site.own_tls import OwnTLS, Refused
from quicklime_site.supervisor import Child, Supervisor

db = pytest.mark.django_db
hierarchy = pytest.mark.usefixtures("hierarchy")


def prepare() -> Any:
    keys.forget()
    return start._prepare(lambda _: None)


@db
@hierarchy
def test_a_sound_installation_gives_its_roots_and_files(tmp_path: Path) -> None:
    (root,) = prepare()
    assert root.fingerprint(root.signature_hash_algorithm).hex() == Issuer.objects.get(kind="root").fingerprint
    assert {"token", "operator", "root.pem", "log.vkey"} <= {path.name for path in tmp_path.iterdir()}


@db
@hierarchy
def test_a_missing_key_stops_it(tmp_path: Path) -> None:
    (tmp_path / "keys" / "issuing-1.key").unlink()
    with pytest.raises(CannotStart, match=r"the keys do not fit\n.*issuing-1\.key is missing"):
        prepare()


@db
@hierarchy
def test_a_wrong_passphrase_stops_it(settings: Any) -> None:
    settings.KEY_PASSPHRASE = "another"
    with pytest.raises(CannotStart, match="wrong passphrase"):
        prepare()


@db
@hierarchy
def test_a_key_that_others_may_read_stops_it(tmp_path: Path) -> None:
    (tmp_path / "keys" / "issuing-1.key").chmod(0o644)
    with pytest.raises(CannotStart, match="open to others"):
        prepare()


@db
@hierarchy
def test_the_key_of_another_installation_stops_it(tmp_path: Path) -> None:
    shutil.copyfile(tmp_path / "keys" / "root.key", tmp_path / "keys" / "issuing-1.key")
    with pytest.raises(CannotStart, match="is not the key of the certificate"):
        prepare()


@pytest.mark.django_db(transaction=True)
@hierarchy
def test_a_log_behind_its_checkpoint_stops_it_and_names_the_way_on(tmp_path: Path, settings: Any) -> None:
    checkpoints.sign_pending(keys.log_signer(), datetime.now(UTC))
    assert list((tmp_path / "checkpoints").rglob("*")), "the checkpoint lies outside the database"
    call_command("flush", interactive=False, verbosity=0)  # as a database restored from before the first event
    with pytest.raises(CannotStart, match="accept_log_loss"):
        prepare()


def test_the_database_away_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(start, "call_command", away)
    with pytest.raises(CannotStart, match="DATABASE_URL: the database cannot be used: connection refused"):
        prepare()


def test_redis_away_is_told_by_its_variable() -> None:
    with pytest.raises(private_redis.RedisMissing, match="REDIS_URL"):
        private_redis.wait("redis://127.0.0.1:1/0", lambda: True, seconds=0.2)


def test_no_redis_to_run_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(private_redis, "_from_wheel", lambda: None)
    with pytest.raises(private_redis.RedisMissing, match="install redis"):
        private_redis.binary()


def test_the_wheels_redis_is_found_when_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(private_redis.binary()).name == "valkey-server"


def test_a_runtime_directory_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    with pytest.raises(private_redis.RedisMissing, match="belongs to somebody else"):
        private_redis.command(tmp_path / "ours" / "redis.sock", tmp_path / "data")


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("https://localhost:8443", "127.0.0.1", ("localhost", "127.0.0.1")),
        ("https://ca.internal", "0.0.0.0", ("ca.internal", "localhost", "127.0.0.1")),
        ("https://10.1.2.3:8443", "10.1.2.3", ("10.1.2.3", "localhost", "127.0.0.1")),
        ("https://[::1]:8443", "::1", ("::1", "localhost", "127.0.0.1")),
    ],
)
def test_the_web_servers_own_names(settings: Any, url: str, host: str, expected: tuple[str, ...]) -> None:
    settings.PUBLIC_URL = url
    assert start.own_hosts(Ports(host)) == expected


@pytest.mark.parametrize("url", ["https://www.example.com", "https://notinternal", "https://192.0.2.1:8443"])
def test_a_public_url_that_cannot_be_certified_is_named(settings: Any, url: str) -> None:
    settings.PUBLIC_URL = url
    with pytest.raises(CannotStart, match="QUICKLIME_PUBLIC_URL"):
        start.own_hosts(Ports())


def test_a_failing_renewal_is_said_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[datetime] = []

    def tend(_: OwnTLS, now: datetime) -> bool:
        tries.append(now)
        raise (Refused("no zone"), OperationalError("away"), OSError("No space left on device"))[len(tries) - 1]

    said: list[str] = []
    monkeypatch.setattr(OwnTLS, "tend", tend)
    monkeypatch.setattr(start, "_LOOK", 0)
    renewal = start._Renewal(OwnTLS(tmp_path / "web.pem", ()), said.append)
    for _ in range(3):
        renewal()
    assert [line.rsplit(": ", 1)[1] for line in said] == ["no zone", "away", "No space left on device"]


class Boss:
    """Takes note of the children instead of starting them."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}

    def start(self, child: Child) -> int:
        self.children[child.name] = child
        return 0


def test_what_waits_for_others_is_done_by_a_worker_that_holds_no_key() -> None:
    """A mail server that hangs, hangs nobody who signs."""
    boss = Boss()
    start._start_workers(cast(Supervisor, boss), {"IS": "signing"}, {"IS": "keyless"})
    queues = {
        name: child.command[child.command.index("-Q") + 1].split(",") for name, child in boss.children.items() if "-Q" in child.command
    }
    assert queues == {"worker": list(schedule.QUEUES), "mail worker": ["mail"]}
    assert {name: child.environ["IS"] for name, child in boss.children.items()} == {
        "worker": "signing", "mail worker": "keyless", "beat": "keyless"
    }  # fmt: skip
    assert "mail" not in schedule.QUEUES
    assert [task for task, route in schedule.ROUTES.items() if route["queue"] == "mail"] == ["dashboard.remind"]
