"""One installation for all tests that hurt a whole one: PostgreSQL and Redis of its own in that half of the suite, the
embedded default in the other."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.site.test_whole import free_ports

from .installation import Installation, PostgreSQL, Redis, SmallDisk


@pytest.fixture(scope="package")
def disk() -> Iterator[SmallDisk]:
    """Where the database lies, and, on the embedded default, everything else that is kept."""
    base = Path(tempfile.mkdtemp(prefix="quicklime-test-"))  # PostgreSQL may run as another user, who cannot reach pytest's own
    base.chmod(0o711)
    (base / "disk").mkdir()
    disk = SmallDisk(base / "disk")
    yield disk
    disk.unmount()
    shutil.rmtree(base)


@pytest.fixture(scope="package")
def installation(disk: SmallDisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """It runs. A test that hurts it leaves it healed."""
    made = _embedded(disk) if connection.vendor == "sqlite" else _with_services(disk, tmp_path_factory)
    made.start()
    yield made
    made.stop()
    if made.postgresql and made.redis:
        made.redis.kill()
        made.postgresql.stop()


def _embedded(disk: SmallDisk) -> Installation:
    return Installation(disk.path, *free_ports(2), {})


def _with_services(disk: SmallDisk, directories: pytest.TempPathFactory) -> Installation:
    postgresql, redis = PostgreSQL(disk.path), Redis(directories.mktemp("redis"))
    services = {"DATABASE_URL": postgresql.url, "REDIS_URL": redis.url, "QUICKLIME_KEY_PASSPHRASE": "the operator's own"}
    return Installation(directories.mktemp("up"), *free_ports(2), services, postgresql=postgresql, redis=redis)
