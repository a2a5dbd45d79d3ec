"""Fixtures of the whole suite. The services themselves are started by tests/services.py, before Django's settings load."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.core.management.commands import flush as flush_command
from django.db import connection
from django.db.backends.base.operations import BaseDatabaseOperations


@pytest.fixture(autouse=True, scope="session")
def _flush_past_triggers() -> Iterator[None]:
    """Between transactional tests Django empties every table; the log's triggers refuse that, as they must. Only here
    they stand aside: as a replica on PostgreSQL, dropped and made again on SQLite. TRUNCATE leaves nothing of tests that were rolled
    back, thousands of dead rows of which would slow down a worker. What Django would make again each time, _MADE_ONCE, stays."""
    plain, statements_for = BaseDatabaseOperations.execute_sql_flush, type(connection.ops).sql_flush

    def without_what_stays(operations: BaseDatabaseOperations, style: Any, tables: Sequence[str], **options: Any) -> list[str]:
        return statements_for(operations, style, [table for table in tables if table not in _MADE_ONCE], **options)

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
    patch.setattr(type(connection.ops), "sql_flush", without_what_stays)
    patch.setattr(flush_command, "emit_post_migrate_signal", lambda *_: None)
    yield
    patch.undo()


_MADE_ONCE = ("django_content_type", "auth_permission")


@pytest.fixture(autouse=True, scope="session")
def _cheap_passphrases() -> Iterator[None]:
    """To try a passphrase on a sealed key, or a password, costs 50 ms and more, on purpose; so would every key that a test makes
    or opens, and every account."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    from ca.pki import pkcs8

    patch = pytest.MonkeyPatch()
    patch.setattr(pkcs8, "COST", 2)
    patch.setattr(PBKDF2PasswordHasher, "iterations", 2)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """pytest-django's, and the end of sessions that would keep the test database from being dropped: one of a thread or an event
    loop that is gone, or of a process that was killed and whose backend has not noticed yet."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


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


@pytest.fixture(scope="session")
def linted() -> list[str]:
    """Kinds of CA certificates of `hierarchy` that pkilint has passed: they differ in keys and times alone, and it takes as long as
    the rest of making them."""
    return []


@pytest.fixture
def hierarchy(db: Any, settings: Any, tmp_path: Any, now: datetime, linted: list[str]) -> None:
    """A root and one issuing intermediate, active for every leaf profile, with keys of this test's own."""
    from ca import hierarchy as ca_hierarchy
    from ca import issuance, keys
    from ca.api import representations
    from ca.pki import authority
    from ca.profiles import PROFILES

    settings.KEYS_DIR, settings.STATE, settings.CHECKPOINT_DIR = tmp_path / "keys", tmp_path, tmp_path / "checkpoints"
    settings.REVOCATION_KEY_FILE = tmp_path / "revocation.key"
    keys.forget()
    issuance.issuer_facts.cache_clear()
    representations.chain.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        if linted:
            patch.setattr(authority, "pkilint_findings", lambda *_: [])
        ca_hierarchy.init_root("root", now)
        ca_hierarchy.add_intermediate("issuing-1", "root", now)
    linted[:] = ["root", "intermediate"]
    for profile in PROFILES:
        ca_hierarchy.activate("issuing-1", profile, now)


@pytest.fixture(autouse=True)
def _judged(request: pytest.FixtureRequest) -> Iterator[None]:
    """The oracle's word after every test of ca, its API, its faults, ocsp and dashboard that writes. `@pytest.mark.unjudged(why)`
    is for tests that break an invariant by hand."""
    judged = (
        request.path.parent.name in ("ca", "api", "faults", "ocsp", "dashboard") and request.node.get_closest_marker("unjudged") is None
    )
    if not judged or request.node.get_closest_marker("django_db") is None:
        yield
        return
    request.getfixturevalue("_django_db_helper")
    yield
    if request.node.stash.get(_WROTE, True):
        from tests import oracle

        oracle.check()


_WROTE = pytest.StashKey[bool]()
_READS = ("SELECT", "DECLARE", "FETCH", "CLOSE", "SHOW", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Notice whether a test writes. One with other connections, so with threads or processes, counts as one that does."""
    marker = item.get_closest_marker("django_db")
    wrote = marker is not None and bool(marker.kwargs.get("transaction"))

    def notice(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal wrote
        wrote |= not sql.lstrip().upper().startswith(_READS)
        return execute(sql, *rest)

    with connection.execute_wrapper(notice):
        result = yield
    item.stash[_WROTE] = wrote or "transactional_db" in getattr(item, "fixturenames", ())
    return result
