"""What a first start makes, and that a start killed half-way is continued, not repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.contrib.auth import authenticate, get_user_model

from ca import hierarchy, keys, tokens
from ca.models import Activation, Issuer, Token
from ca.profiles import LEAF
from eventlog import append, notes
from quicklime_site import files, first_start

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _state(settings: Any, tmp_path: Path) -> None:
    settings.KEYS_DIR, settings.STATE, settings.CHECKPOINT_DIR = tmp_path / "keys", tmp_path, tmp_path / "checkpoints"
    settings.REVOCATION_KEY_FILE = tmp_path / "revocation.key"
    keys.forget()


def quiet(_: str) -> None:
    pass


def test_the_hierarchy_is_made_once() -> None:
    for _ in range(2):
        first_start.make_hierarchy(NOW, quiet)
    assert [(issuer.name, issuer.parent) for issuer in Issuer.objects.order_by("position")] == [("root", None), ("issuing-1", "root")]
    assert dict(Activation.objects.values_list("profile", "issuer")) == dict.fromkeys(LEAF, "issuing-1")
    assert hierarchy.check(NOW) == []


@pytest.mark.parametrize("dies_after", range(2 + len(LEAF)))
def test_a_hierarchy_that_was_begun_is_finished(monkeypatch: pytest.MonkeyPatch, dies_after: int) -> None:
    class Killed(BaseException):
        pass

    done = 0
    real = append.append

    def mortal(*args: Any, **named: Any) -> Any:
        nonlocal done
        if done == dies_after:
            raise Killed
        done += 1
        return real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(hierarchy, "append", mortal)
        with pytest.raises(Killed):
            first_start.make_hierarchy(NOW, quiet)
    first_start.make_hierarchy(NOW, quiet)
    assert Issuer.objects.count() == 2
    assert Activation.objects.count() == len(LEAF)
    assert hierarchy.check(NOW) == []


def test_a_hierarchy_from_elsewhere_is_left_alone() -> None:
    hierarchy.init_root("our-root", NOW)
    hierarchy.add_intermediate("datacentre-1", "our-root", NOW)
    first_start.make_hierarchy(NOW, quiet)
    assert Issuer.objects.count() == 2
    assert not Activation.objects.exists()


def test_the_token_is_made_once_private_and_works(tmp_path: Path) -> None:
    for _ in range(2):
        first_start.make_token(tmp_path / "token", NOW)
    assert Token.objects.count() == 1
    found = tokens.recognise((tmp_path / "token").read_text().strip())
    assert found is not None
    assert found.owner == "operator"
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_a_token_that_was_taken_away_does_not_come_back(tmp_path: Path) -> None:
    first_start.make_token(tmp_path / "token", NOW)
    tokens.revoke(Token.objects.get().id, NOW, by="alice", why="left")
    (tmp_path / "token").unlink()
    first_start.make_token(tmp_path / "token", NOW)
    assert not (tmp_path / "token").exists()


def test_no_token_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        first_start.make_token(tmp_path / "nowhere" / "token", NOW)
    assert Token.objects.count() == 0


def test_the_operator_can_log_in(tmp_path: Path) -> None:
    for _ in range(2):
        first_start.make_operator(tmp_path / "operator", NOW)
    (_, name), (_, password) = (line.split(" ", 1) for line in (tmp_path / "operator").read_text().splitlines())
    assert authenticate(username=name, password=password) is not None
    assert get_user_model().objects.count() == 1
    assert (tmp_path / "operator").stat().st_mode & 0o777 == 0o600


def test_what_clients_need_to_know(tmp_path: Path) -> None:
    first_start.make_hierarchy(NOW, quiet)
    roots = first_start.write_roots(tmp_path / "root.pem")
    assert x509.load_pem_x509_certificates((tmp_path / "root.pem").read_bytes()) == roots
    assert len(roots) == 1
    first_start.write_log_key(tmp_path / "log.vkey")
    assert (tmp_path / "log.vkey").read_text().strip() == notes.vkey_of(keys.log_signer())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    files.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]
