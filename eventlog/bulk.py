"""Many rows in one statement, without model instances.

Owns the difference between the databases: COPY and UPDATE … FROM unnest() on PostgreSQL (2 µs a row, where bulk_create
takes 32), executemany on SQLite. Sends no signals and fills no defaults: every column that has no database default
must be named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from django.db import connection, models
from django.db.backends.utils import CursorWrapper

Row = Sequence[Any]

_FEW = 3  # so many rows go in one round trip as INSERTs, where COPY takes two

# Stored as Python gives them; every other kind of field goes through its get_db_prep_save.
_PLAIN = (models.CharField, models.TextField, models.IntegerField, models.BooleanField, models.BinaryField)


def insert_rows(model: type[models.Model], columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Insert `rows`, each the values of `columns` (attnames of `model`) in that order."""
    plan = _plan(model, tuple(columns), connection.vendor)
    prepared = list(plan.prepare(rows))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and len(prepared) > _FEW:
            _copy(cursor, plan, prepared)
        else:
            cursor.executemany(plan.insert, prepared)


def insert_unless_taken(model: type[models.Model], columns: Sequence[str], rows: Iterable[Row]) -> list[bool]:
    """Insert those of `rows` that meet no other in a unique index, each the values of `columns` in that order; for each whether it
    was. Waits for other transactions that hold such a place: a deadlock, unless all come in one order."""
    plan = _plan(model, tuple(columns), connection.vendor)
    inserted = []
    with connection.cursor() as cursor:
        for row in plan.prepare(rows):
            cursor.execute(f"{plan.insert} ON CONFLICT DO NOTHING", row)
            inserted.append(cursor.rowcount == 1)
    return inserted


def update_rows(
    model: type[models.Model], key: str, columns: Sequence[str], rows: Iterable[Row], same: Mapping[str, Any] = MappingProxyType({})
) -> int:
    """Set `columns` of the row named by `key` for each of `rows` = (key value, *column values), and `same`, column → value,
    for all of them; how many rows it met."""
    plan = _plan(model, (key, *columns), connection.vendor, tuple(same))
    prepared = list(plan.prepare(rows))
    if not prepared:
        return 0
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(plan.update, [*same.values(), *(list(column) for column in zip(*prepared, strict=True))])
        else:
            shared = [adapt(value) for adapt, value in zip(plan.same_adapters, same.values(), strict=True)]
            cursor.executemany(plan.update, [(*shared, *row[1:], row[0]) for row in prepared])
        count: int = cursor.rowcount
    return count


def read_rows(model: type[models.Model], columns: Sequence[str], tail: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """`columns` of the rows that `tail` selects, SQL from WHERE on. For hot paths: a QuerySet costs more to compile than
    such a statement to run."""
    plan = _reading(model, tuple(columns), connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(f"{plan.select} {tail}", parameters)
        rows: list[Row] = cursor.fetchall()
    return [plan.python(row) for row in rows] if plan.converters else rows


def places(values: Collection[Any]) -> str:
    """The placeholders of as many parameters, for IN (…) or VALUES (…)."""
    return ", ".join(["%s"] * len(values))


class _Reading:
    """How `columns` of a model are selected on one database, and turned into what a QuerySet would give."""

    def __init__(self, model: type[models.Model], columns: tuple[str, ...], vendor: str) -> None:
        fields = {field.attname: field for field in model._meta.concrete_fields}
        cols = [fields[name].cached_col for name in columns]
        names = ", ".join(connection.ops.quote_name(col.target.column or col.target.attname) for col in cols)
        self.select = f"SELECT {names} FROM {connection.ops.quote_name(model._meta.db_table)}"  # noqa: S608 (quoted names)
        self.converters = [
            (place, col, convert)
            for place, col in enumerate(cols)
            for convert in (*connection.ops.get_db_converters(col), *col.get_db_converters(connection))
        ]

    def python(self, row: Row) -> Row:
        values = list(row)
        for place, col, convert in self.converters:
            values[place] = convert(values[place], col, connection)
        return values


_reading = cache(_Reading)


def _copy(cursor: CursorWrapper, plan: _Plan, rows: list[Row]) -> None:
    with connection.wrap_database_errors, cursor.copy(plan.copy) as copy:
        copy.set_types(plan.types)
        for row in rows:
            copy.write_row(row)


class _Plan:
    """The statements for one model and choice of columns on one database; columns[0] is the key of an update."""

    def __init__(self, model: type[models.Model], columns: tuple[str, ...], vendor: str, same: tuple[str, ...] = ()) -> None:
        fields = {field.attname: field for field in model._meta.concrete_fields}
        chosen = [fields[name] for name in columns]
        quote = connection.ops.quote_name
        self._adapters = [(place, adapt) for place, field in enumerate(chosen) if (adapt := _adapter(field, vendor))]
        self._table = quote(model._meta.db_table)
        self._names = [quote(field.column or field.attname) for field in chosen]
        self.types = [(field.db_type(connection) or "").split("(")[0] for field in chosen]  # varchar(9)[] would cut, not refuse
        names = ", ".join(self._names)
        self.copy = f"COPY {self._table} ({names}) FROM STDIN (FORMAT BINARY)"
        self.insert = f"INSERT INTO {self._table} ({names}) VALUES ({places(chosen)})"  # noqa: S608 (quoted names)
        self._same = [f"{quote(fields[name].column or name)} = %s" for name in same]
        self.same_adapters = [_adapter(fields[name], vendor) or (lambda value: value) for name in same]
        self.update = self._unnested() if vendor == "postgresql" else self._single()

    def _unnested(self) -> str:
        key, *names = self._names
        places = ", ".join(f"%b::{kind}[]" for kind in self.types)  # %b: in binary, a quarter of the cost of text
        sets = ", ".join([*self._same, *(f"{name} = new.{name}" for name in names)])
        return f"UPDATE {self._table} AS old SET {sets} FROM unnest({places}) AS new ({', '.join(self._names)}) WHERE old.{key} = new.{key}"  # noqa: S608

    def _single(self) -> str:
        key, *names = self._names
        return f"UPDATE {self._table} SET {', '.join([*self._same, *(f'{name} = %s' for name in names)])} WHERE {key} = %s"  # noqa: S608

    def prepare(self, rows: Iterable[Row]) -> Iterable[Row]:
        """The rows as the database driver takes them."""
        return map(self._adapt, rows) if self._adapters else rows

    def _adapt(self, row: Row) -> Row:
        values = list(row)
        for place, adapt in self._adapters:
            values[place] = adapt(values[place])
        return values


_plan = cache(_Plan)


def _adapter(field: models.Field[Any, Any], vendor: str) -> Callable[[Any], Any] | None:
    """What turns a Python value into the driver's; None when the driver takes it as it is. psycopg takes all but JSON."""
    if isinstance(field, _PLAIN) or (vendor == "postgresql" and not isinstance(field, models.JSONField)):
        return None
    return partial(field.get_db_prep_save, connection=connection)
