"""Tables that are made anew beside those that people read.

Owns how a rebuild's rows come into their tables. Each insertion into a large table finds its place in every index of it, and meets
there the rows that it is to replace; so on PostgreSQL a rebuild writes to temporary tables, which go by the same names in its
session, are in no write-ahead log and have the unique indexes alone, which handlers rely on. At the end only what differs is written
to the tables themselves. A statement prepared before would go on to name those, so that this session uses none any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection, models

WORTH = 10_000  # events of a log, below which temporary tables cost more than they save


class Staging:
    """Temporary tables in place of those of `models`, empty; until the end of the transaction, or merge()."""

    def __init__(self, models: Sequence[type[models.Model]]) -> None:
        self._tables = {_table(model): [_quote(field.column) for field in model._meta.pk_fields] for model in models}
        connection.connection.prepare_threshold = None
        with connection.cursor() as cursor:
            for name in self._tables:
                cursor.execute(f"CREATE TEMPORARY TABLE {_local(name)} (LIKE {name} INCLUDING ALL) ON COMMIT DROP")
                cursor.execute(_OTHER_INDEXES, [_local(name)])
                for (index,) in cursor.fetchall():
                    cursor.execute(f"DROP INDEX {index}")

    def hold_writers(self) -> None:
        """Wait for whoever else writes to the tables, and keep such writers, not readers, waiting until the transaction ends. In the
        order of the models: who locks rows of several comes in that order too."""
        with connection.cursor() as cursor:
            for name in self._tables:
                cursor.execute(f"LOCK TABLE {name} IN EXCLUSIVE MODE")

    def merge(self) -> None:
        """Give the tables the rows of the temporary ones, and drop these. Rows of equal bytes stay as they are."""
        with connection.cursor() as cursor:
            for name, key in self._tables.items():
                same = " AND ".join(f"old.{column} = new.{column}" for column in key)
                cursor.execute(f"ANALYZE {_local(name)}")
                cursor.execute(f"DELETE FROM {name} old WHERE NOT EXISTS (SELECT FROM {_local(name)} new WHERE {same} AND old *= new)")  # noqa: S608
                missing = f"NOT EXISTS (SELECT FROM {name} old WHERE {same})"
                cursor.execute(f"INSERT INTO {name} SELECT * FROM {_local(name)} new WHERE {missing}")  # noqa: S608 (names that are quoted)
                cursor.execute(f"DROP TABLE {_local(name)}")


def possible(model: type[models.Model]) -> bool:
    """Whether the table of this model can be made beside itself: PostgreSQL's, of rows that no sequence numbers."""
    return connection.vendor == "postgresql" and not model._meta.auto_field


_OTHER_INDEXES = "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND NOT indisunique"


def _table(model: type[models.Model]) -> str:
    """Its name with the schema, so that no temporary table is meant."""
    with connection.cursor() as cursor:
        find = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = %s::regclass"
        cursor.execute(find, [_quote(model._meta.db_table)])
        (schema,) = cursor.fetchone()
    return f"{schema}.{_quote(model._meta.db_table)}"


def _local(name: str) -> str:
    return f"pg_temp.{name.partition('.')[2]}"


def _quote(name: str | None) -> str:
    return connection.ops.quote_name(name or "")
