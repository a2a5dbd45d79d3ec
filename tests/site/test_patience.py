"""A PostgreSQL that does not answer: who waits for how long, and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from eventlog import patience
from quicklime_site import env

only_postgresql = pytest.mark.skipif(connection.vendor == "sqlite", reason="a file answers or fails")
pytestmark = [only_postgresql, pytest.mark.django_db]
FOR_EVER = "SELECT pg_sleep(3600)"


@contextmanager
def stopped(backend: int) -> Iterator[None]:
    """It holds its socket, and answers nothing."""
    os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)


@contextmanager
def connected(kind: type[psycopg.Connection[Any]], **options: Any) -> Iterator[psycopg.Connection[Any]]:
    settings = connection.settings_dict
    who = {"dbname": settings["NAME"], "user": settings["USER"], "host": settings["HOST"], "port": settings["PORT"] or None}
    with closing(kind.connect(**who, autocommit=True, **options)) as made:
        yield made


def test_the_client_gives_up_a_backend_that_is_stopped() -> None:
    with connected(patience.bounded(0.3)) as hung:
        with stopped(hung.info.backend_pid), pytest.raises(psycopg.OperationalError):
            hung.execute("SELECT 1")
        assert hung.closed, "the answer that comes yet must not be taken for the next one's"


def test_a_transaction_ends_too() -> None:
    with connected(patience.bounded(0.3)) as hung:
        with stopped(hung.info.backend_pid), pytest.raises(psycopg.OperationalError), hung.transaction():
            hung.execute("SELECT 1")
        assert hung.closed


def test_what_the_server_ends_itself_costs_no_connection() -> None:
    options: dict[str, Any] = {"pool": {}}
    patience.limit(options, 1)
    with connected(options["pool"]["connection_class"], options=options["options"]) as patient:
        with pytest.raises(psycopg.errors.QueryCanceled):
            patient.execute(FOR_EVER)
        assert patient.execute("SELECT 1").fetchone() == (1,)


def test_a_short_wait_of_the_callers_own_closes_nothing() -> None:
    with connected(patience.bounded(30)) as patient:
        assert list(patient.notifies(timeout=0.05)) == []
        assert not patient.closed


@pytest.mark.parametrize(("role", "seconds"), [("web", "10s"), ("worker", "1min"), ("manage", "0")])
def test_each_role_has_its_limit(role: str, seconds: str) -> None:
    found = env.database("postgresql://quicklime@/quicklime", Path("/s"), 4, role)["OPTIONS"]
    kind = found["pool"].get("connection_class", psycopg.Connection)
    options = {name: found[name] for name in ("options",) if name in found}
    with connected(kind, **options) as made:
        assert made.execute("SHOW statement_timeout").fetchone() == (seconds,)
    assert (kind is psycopg.Connection) == (role == "manage")


def test_a_new_limit_leaves_what_else_a_session_is_set_to() -> None:
    options = env.database("postgresql://quicklime@/quicklime", Path("/s"), 4, "web")["OPTIONS"]
    patience.limit(options, 3)
    with connected(options["pool"]["connection_class"], options=options["options"]) as made:
        assert made.execute("SHOW statement_timeout").fetchone() == ("3s",)
        assert made.execute("SHOW plan_cache_mode").fetchone() == ("force_custom_plan",)


@pytest.mark.parametrize(("role", "kept"), [("web", 1), ("worker", 1), ("manage", 0)])
def test_what_is_repeated_is_kept_read_but_not_by_commands(role: str, kept: int) -> None:
    """A rebuild has temporary tables of the names of others, which a statement that was read before would miss."""
    options = env.database("postgresql://quicklime@/quicklime", Path("/s"), 4, role)["OPTIONS"]
    with connected(psycopg.Connection, prepare_threshold=options.get("prepare_threshold")) as made:
        for number in range(10):
            made.execute("SELECT %s::int", [number])
        assert made.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (kept,)


def test_a_statement_that_a_migration_outdates_fails_once() -> None:
    with connected(patience.bounded(30), prepare_threshold=0) as made, connected(psycopg.Connection) as migrating:
        migrating.execute("CREATE TABLE migrated (value integer)")
        try:
            made.execute("SELECT value FROM migrated")
            migrating.execute("ALTER TABLE migrated ALTER value TYPE text")
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                made.execute("SELECT value FROM migrated")
            assert made.execute("SELECT value FROM migrated").fetchall() == []
        finally:
            migrating.execute("DROP TABLE migrated")
