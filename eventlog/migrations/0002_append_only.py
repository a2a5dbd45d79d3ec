"""Triggers that keep Event and Checkpoint append-only against every client of the database.

They stop mistakes and applications, not whoever owns the database: against the latter stand the Merkle tree and the
checkpoints kept elsewhere.
"""

from typing import ClassVar

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

TABLES = ("eventlog_event", "eventlog_checkpoint", "eventlog_tilehash")

# One statement trigger answers UPDATE, DELETE, TRUNCATE and INSERT … ON CONFLICT DO UPDATE.
# Consecutive positions are checked once per statement, over all its rows: a trigger per row would double an append's cost.
POSTGRESQL = [
    """
    CREATE FUNCTION eventlog_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE FUNCTION eventlog_consecutive() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        lowest bigint; highest bigint; many bigint;
    BEGIN
        SELECT min(position), max(position), count(*) INTO lowest, highest, many FROM added;
        IF highest - lowest + 1 <> many
            OR lowest <> 1 AND NOT EXISTS (SELECT FROM eventlog_event WHERE position = lowest - 1)
        THEN
            RAISE EXCEPTION 'eventlog_event: position % does not follow the last', lowest USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION eventlog_growing() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM eventlog_checkpoint WHERE size >= NEW.size) THEN
            RAISE EXCEPTION 'eventlog_checkpoint: size % is not beyond the last', NEW.size USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    *(
        f"""
        CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION eventlog_refuse()
        """
        for table in TABLES
    ),
    """
    CREATE TRIGGER eventlog_event_consecutive AFTER INSERT ON eventlog_event REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION eventlog_consecutive()
    """,
    """
    CREATE TRIGGER eventlog_checkpoint_growing BEFORE INSERT ON eventlog_checkpoint
    FOR EACH ROW EXECUTE FUNCTION eventlog_growing()
    """,
]
POSTGRESQL_UNDO = [
    *(f"DROP TRIGGER {table}_refuse ON {table}" for table in TABLES),
    "DROP TRIGGER eventlog_event_consecutive ON eventlog_event",
    "DROP TRIGGER eventlog_checkpoint_growing ON eventlog_checkpoint",
    "DROP FUNCTION eventlog_refuse(), eventlog_consecutive(), eventlog_growing()",
]

# REPLACE fires no DELETE trigger on a connection without recursive_triggers, so the INSERT triggers, which always fire,
# refuse a key that exists. SQLite has no TRUNCATE: DELETE without WHERE fires the row triggers all the same.
SQLITE = [
    *(
        f"""
        CREATE TRIGGER {table}_{action} BEFORE {action} ON {table}
        BEGIN SELECT RAISE(ABORT, '{table} is append-only: {action} refused'); END
        """
        for table in TABLES
        for action in ("UPDATE", "DELETE")
    ),
    """
    CREATE TRIGGER eventlog_event_consecutive BEFORE INSERT ON eventlog_event
    WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM eventlog_event)
    BEGIN SELECT RAISE(ABORT, 'eventlog_event: position does not follow the last'); END
    """,
    """
    CREATE TRIGGER eventlog_checkpoint_growing BEFORE INSERT ON eventlog_checkpoint
    WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM eventlog_checkpoint)
    BEGIN SELECT RAISE(ABORT, 'eventlog_checkpoint: size is not beyond the last'); END
    """,
    """
    CREATE TRIGGER eventlog_tilehash_new BEFORE INSERT ON eventlog_tilehash
    WHEN EXISTS (SELECT 1 FROM eventlog_tilehash WHERE rowid = NEW.rowid OR level = NEW.level AND "index" = NEW."index")
    BEGIN SELECT RAISE(ABORT, 'eventlog_tilehash: the hash exists'); END
    """,
]
SQLITE_UNDO = [
    *(f"DROP TRIGGER {table}_{action}" for table in TABLES for action in ("UPDATE", "DELETE")),
    "DROP TRIGGER eventlog_event_consecutive",
    "DROP TRIGGER eventlog_checkpoint_growing",
    "DROP TRIGGER eventlog_tilehash_new",
]


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[schema_editor.connection.vendor]:
        schema_editor.execute(statement, params=None)


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    for statement in {"postgresql": POSTGRESQL_UNDO, "sqlite": SQLITE_UNDO}[schema_editor.connection.vendor]:
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("eventlog", "0001_initial")]
    operations: ClassVar[list[migrations.RunPython]] = [migrations.RunPython(create, drop)]
