"""Fixtures of the whole suite. The services themselves are started by tests/services.py, before Django's settings load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations


@pytest.fixture(autouse=True, scope="session")
def _flush_past_triggers() -> Iterator[None]:
    """Between transactional tests Django empties every table; the log's triggers refuse that, as they must. Only here
    they stand aside: as a replica on PostgreSQL, dropped and made again on SQLite."""
    plain = BaseDatabaseOperations.execute_sql_flush

    def flush(operations: BaseDatabaseOperations, statements: list[str]) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET session_replication_role = replica")
                plain(operations, statements)
                cursor.execute("SET session_replication_role = DEFAULT")
                return
            cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
            triggers = cursor.fetchall()
            for name, _ in triggers:
                cursor.execute(f'DROP TRIGGER "{name}"')
            plain(operations, statements)
            for _, sql in triggers:
                cursor.execute(sql)

    patch = pytest.MonkeyPatch()
    patch.setattr(BaseDatabaseOperations, "execute_sql_flush", flush)
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def _cheap_passphrases() -> Iterator[None]:
    """To try a passphrase on a sealed key costs 50 ms, on purpose; so would every key that a test makes or opens."""
    from ca.pki import pkcs8

    patch = pytest.MonkeyPatch()
    patch.setattr(pkcs8, "COST", 2)
    yield
    patch.undo()


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def other_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test moves the time; the database server's clock is not asked whether it moved along."""
    from eventlog import clock

    monkeypatch.setattr(clock, "check", lambda now: None)


@pytest.fixture
def run_pipeline() -> Callable[[], None]:
    """Run the four steps over everything that waits, in this process, until nothing does. For tests of what comes before
    and after the pipeline; the pipeline's own tests use a real worker."""
    from ca import issuance

    def run() -> None:
        batch = uuid4()
        while issuance.validate(batch, datetime.now(UTC)):
            for step in issuance.STEPS.values():
                step(batch, datetime.now(UTC))
            batch = uuid4()

    return run


@pytest.fixture
def hierarchy(db: Any, settings: Any, tmp_path: Any, now: datetime) -> None:
    """A root and one issuing intermediate, active for every leaf profile, with keys of this test's own."""
    from ca import hierarchy as ca_hierarchy
    from ca import issuance, keys
    from ca.api import representations
    from ca.profiles import PROFILES

    settings.KEYS_DIR, settings.STATE, settings.CHECKPOINT_DIR = tmp_path / "keys", tmp_path, tmp_path / "checkpoints"
    settings.REVOCATION_KEY_FILE = tmp_path / "revocation.key"
    keys.forget()
    issuance.issuer_facts.cache_clear()
    representations.chain.cache_clear()
    ca_hierarchy.init_root("root", now)
    ca_hierarchy.add_intermediate("issuing-1", "root", now)
    for profile in PROFILES:
        ca_hierarchy.activate("issuing-1", profile, now)


@pytest.fixture(autouse=True)
def _judged(request: pytest.FixtureRequest) -> Iterator[None]:
    """The oracle's word after every test of ca, its API, its faults, ocsp and dashboard that has a database. `@pytest.mark.unjudged(why)`
    is for tests that break an invariant by hand."""
    judged = (
        request.path.parent.name in ("ca", "api", "faults", "ocsp", "dashboard") and request.node.get_closest_marker("unjudged") is None
    )
    if not judged or request.node.get_closest_marker("django_db") is None:
        yield
        return
    request.getfixturevalue("_django_db_helper")
    yield
    from tests import oracle

    oracle.check()
