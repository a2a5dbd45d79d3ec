"""The environment `quicklime up` gives its processes, the machine it finds, and what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from quicklime_site import env, machine, up
from quicklime_site.machine import CannotStart, Ports

NO_FLAGS = (None, (), Ports())


def test_flags_beat_the_environment(tmp_path: Path) -> None:
    base = {"QUICKLIME_STATE": "/elsewhere", "QUICKLIME_ZONES": "old.internal"}
    environ = up.environment(base, tmp_path, ["fleet.internal"], Ports())
    assert environ["QUICKLIME_STATE"] == str(tmp_path)
    assert environ["QUICKLIME_ZONES"] == "fleet.internal,localhost"


def test_the_environment_beats_the_defaults() -> None:
    environ = up.environment({"QUICKLIME_STATE": "/srv/q", "QUICKLIME_ZONES": "a.internal localhost"}, *NO_FLAGS)
    assert environ["QUICKLIME_STATE"] == "/srv/q"
    assert environ["QUICKLIME_ZONES"] == "a.internal,localhost"


def test_the_defaults_of_an_empty_environment() -> None:
    environ = up.environment({}, *NO_FLAGS)
    assert environ["QUICKLIME_STATE"] == str(Path("var").absolute())
    assert environ["QUICKLIME_ZONES"] == "internal,localhost"
    assert environ["QUICKLIME_PUBLIC_URL"] == "https://localhost:8443"
    assert environ["QUICKLIME_AIA_URL"] == "http://localhost:8080"
    assert environ["QUICKLIME_OCSP_URL"] == "http://localhost:8080/ocsp"
    assert environ["QUICKLIME_CRL_URL"] == "http://localhost:8080/crl"


@pytest.mark.parametrize(("terminal", "base", "form"), [
    (True, {}, "console"), (False, {}, "json"), (True, {"QUICKLIME_LOG_FORMAT": "json"}, "json"),
])  # fmt: skip
def test_people_read_text_and_programs_json(terminal: bool, base: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert up.environment(base, *NO_FLAGS)["QUICKLIME_LOG_FORMAT"] == form


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "https://localhost:9"),
        ("0.0.0.0", "https://localhost:9"),
        ("::1", "https://localhost:9"),
        ("10.1.2.3", "https://10.1.2.3:9"),
        ("fd00::1", "https://[fd00::1]:9"),
        ("ca.internal", "https://ca.internal:9"),
    ],
)
def test_the_public_url_follows_host_and_port(host: str, url: str) -> None:
    assert up.environment({}, None, (), Ports(host, 9, 10))["QUICKLIME_PUBLIC_URL"] == url


def test_a_wrong_flag_is_named_like_the_variable() -> None:
    with pytest.raises(env.SettingError, match="QUICKLIME_ZONES"):
        up.environment({}, None, ["Fleet!"], Ports())


@pytest.mark.parametrize("name", ["QUICKLIME_KEY_PASSPHRASE", "QUICKLIME_KEY_PASSPHRASE_FILE"])
def test_only_who_signs_is_told_the_passphrase(name: str) -> None:
    signing = up.environment({name: "/hunter2"}, *NO_FLAGS)
    assert signing[name] == "/hunter2"
    assert signing["QUICKLIME_ROLE"] == "worker"
    keyless = up.keyless_environment(signing)
    assert "/hunter2" not in keyless.values()
    assert keyless["QUICKLIME_ROLE"] == "web"


def test_two_starts_on_one_state_directory_do_not_meet(tmp_path: Path) -> None:
    state, refused = tmp_path / "state", pytest.raises(CannotStart, match="another `quicklime up` runs")
    with machine.locked(state), refused, machine.locked(state):
        pass
    with machine.locked(tmp_path / "state"):  # the lock went with its holder
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_impossible_state_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="QUICKLIME_STATE"), machine.locked(tmp_path / "file" / "state"):
        pass


def taken() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_an_occupied_port_is_named_with_its_flag() -> None:
    with taken() as listener:
        port = listener.getsockname()[1]
        with pytest.raises(CannotStart, match=f"--http-port: cannot listen on 127.0.0.1 port {port}: Address already in use"):
            Ports("127.0.0.1", free_port(), port).check()


def free_port() -> int:
    with taken() as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(("host", "reason"), [("no-such-host.invalid", "is not an address"), ("192.0.2.1", "Cannot assign")])
def test_a_host_of_another_machine_is_named(host: str, reason: str) -> None:
    with pytest.raises(CannotStart, match=reason):
        Ports(host, 1, 1).check()


def run_up(*flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from quicklime_client.cli import main; main()", "up", *flags]
    return subprocess.run(command, env={"PATH": os.environ["PATH"], **more}, capture_output=True, text=True, timeout=60)


def test_the_command_says_what_is_wrong_and_ends_with_status_1(tmp_path: Path) -> None:
    done = run_up("--state", str(tmp_path / "s"), QUICKLIME_DB_POOL="many", REDIS_URL="redis://:hunter2@h:x")
    assert done.returncode == 1
    assert "QUICKLIME_DB_POOL: give a whole number" in done.stderr
    assert "REDIS_URL: " in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_the_command_refuses_an_occupied_port_before_it_starts_anything(tmp_path: Path) -> None:
    with taken() as listener:
        done = run_up("--state", str(tmp_path / "s"), "--https-port", str(listener.getsockname()[1]))
    assert done.returncode == 1
    assert "--https-port: cannot listen" in done.stderr
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"up.lock"}
