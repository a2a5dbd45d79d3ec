"""`demo/data.py DIRECTORY`: make the state of an installation in which 50 services have lived with Quicklime for half a year."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main(directory: Path) -> None:
    """Fill `directory`, which must not exist."""
    if directory.exists():
        sys.exit(f"{directory} exists: remove it, or name another")
    open_state(directory)
    with _redis():
        _fill(directory)
    print(f"\nmake up ARGS='--state {directory}'   then https://localhost:8443/, as {directory}/operator says")


def open_state(directory: Path) -> None:
    """Have Django use it in this process."""
    from quicklime_site import up
    from quicklime_site.machine import Ports

    os.environ.setdefault("QUICKLIME_LOG_LEVEL", "ERROR")  # that a mailbox is gone is part of the story
    os.environ.update(up.environment(os.environ, directory, (), Ports()))
    import django

    django.setup()


@contextmanager
def _redis():
    """The one that the installation will have, for as long as this runs."""
    from django.conf import settings

    from quicklime_site import env, private_redis

    process = subprocess.Popen(private_redis.command(env.redis_socket(settings.STATE), settings.STATE / "redis"))
    try:
        private_redis.wait(settings.REDIS_URL, lambda: process.poll() is None)
        yield
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(settings.STATE / "redis")  # wake-ups for work that is done


def _fill(directory: Path) -> None:
    from django.core.management import call_command
    from django.db import connection

    from demo.fleet import Fleet
    from quicklime_site import first_start

    now = datetime.now(UTC).replace(microsecond=0)
    begins = now - timedelta(days=182)
    call_command("migrate", verbosity=0, interactive=False)
    connection.cursor().execute("PRAGMA synchronous = OFF")  # a demonstration may be lost; half a year of commits would take minutes
    first_start.make_hierarchy(begins, print)
    first_start.make_token(directory / "token", begins)
    first_start.make_operator(directory / "operator", begins)
    Fleet(begins, now, services=50, places=640).live(say=print)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
