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
    https, http, mail = free_ports(3)
    return Installation(disk.path, https, http, _mail(mail), mail=mail)


def _with_services(disk: SmallDisk, directories: pytest.TempPathFactory) -> Installation:
    postgresql, redis = PostgreSQL(disk.path), Redis(directories.mktemp("redis"))
    https, http, mail = free_ports(3)
    services = {"DATABASE_URL": postgresql.url, "REDIS_URL": redis.url, "QUICKLIME_KEY_PASSPHRASE": "the operator's own"}
    services["QUICKLIME_OCSP_SIGNER"] = "delegated"  # in the other half the issuer signs
    return Installation(directories.mktemp("up"), https, http, services | _mail(mail), postgresql=postgresql, redis=redis, mail=mail)


def _mail(port: int) -> dict[str, str]:
    return {"EMAIL_URL": f"smtp://127.0.0.1:{port}", "QUICKLIME_MAIL_TO": "ops@example.org"}
