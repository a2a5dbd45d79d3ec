"""Real processes over the test database: Celery workers that can be killed, and single submissions that die half-way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection

ROOT = Path(__file__).parent.parent


def environment(**more: str) -> dict[str, str]:
    """The environment in which another process sees this test's database, Redis and keys."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = f"postgresql://quicklime@/{name}?host={connection.settings_dict['HOST']}"
    paths = {
        "QUICKLIME_KEYS": settings.KEYS_DIR,
        "QUICKLIME_CHECKPOINT_DIR": settings.CHECKPOINT_DIR,
        "QUICKLIME_REVOCATION_KEY_FILE": settings.REVOCATION_KEY_FILE,
    }
    return {**os.environ, "DATABASE_URL": url, **{key: str(path) for key, path in paths.items()}, **more}


@contextmanager
def worker(log: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker as in production, ended at the latest when the block ends."""
    command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "quicklime_site", "worker", "-P", "solo", "-c", "1", "-l", "warning"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment(**more), cwd=ROOT, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, Django set up."""
    code = "import django; django.setup()\n" + code
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment(**more), cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def eventually(question: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true answer; fails with the last one after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(0.02)
    return answer
