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

_BINARY = 1  # psycopg.pq.Format.BINARY
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


def add_counts(model: type[models.Model], key: Sequence[str], column: str, counts: Iterable[tuple[Row, int]]) -> None:
    """For each (values of `key`, number): add the number to `column` of the row of that unique key, or make the row. No key twice."""
    plan, quote = _plan(model, (*key, column), connection.vendor), connection.ops.quote_name
    rows = list(plan.prepare((*values, number) for values, number in counts))
    if not rows:
        return
    place, total = ", ".join(map(quote, key)), quote(column)
    conflict = f"ON CONFLICT ({place}) DO UPDATE SET {total} = {plan.table}.{total} + excluded.{total}"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"{plan.insert_many} {conflict}", [list(values) for values in zip(*rows, strict=True)])
        else:
            cursor.executemany(f"{plan.insert} {conflict}", rows)


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


def read_rows(
    model: type[models.Model], columns: Sequence[str], tail: str, parameters: Sequence[Any] = (), binary: bool = False
) -> list[Row]:
    """`columns` of the rows that `tail` selects, SQL from WHERE on. For hot paths: a QuerySet costs more to compile than
    such a statement to run. `binary`: PostgreSQL sends bytes as they are rather than in hexadecimal; for columns that are no times."""
    plan = _reading(model, tuple(columns), connection.vendor)
    with connection.cursor() as cursor:
        if binary and connection.vendor == "postgresql":
            cursor.cursor.format = _BINARY
        cursor.execute(f"{plan.select} {tail}", parameters)
        rows: list[Row] = cursor.fetchall()
    return [plan.python(row) for row in rows] if plan.converters else rows


def among(column: str, values: Collection[Any]) -> tuple[str, list[Any]]:
    """The condition that `column` is one of `values`, of which there are many, and its parameters. PostgreSQL takes them as one:
    a thousand placeholders cost more to read than the rows."""
    if connection.vendor == "postgresql":
        return f"{column} = ANY(%b)", [list(values)]
    return f"{column} IN ({places(values)})", list(values)


def among_pairs(first: str, second: str, values: Collection[tuple[Any, Any]]) -> tuple[str, list[Any]]:
    """The same of two columns and pairs of values."""
    if connection.vendor == "postgresql":
        return f"({first}, {second}) IN (SELECT * FROM unnest(%b, %b))", [list(each) for each in zip(*values, strict=True)]  # noqa: S608 (columns)
    pairs = ", ".join(["(%s, %s)"] * len(values))
    return f"({first}, {second}) IN (VALUES {pairs})", [each for pair in values for each in pair]


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
        self.table = quote(model._meta.db_table)
        self._names = [quote(field.column or field.attname) for field in chosen]
        self.types = [(field.db_type(connection) or "").split("(")[0] for field in chosen]  # varchar(9)[] would cut, not refuse
        names = ", ".join(self._names)
        self.copy = f"COPY {self.table} ({names}) FROM STDIN (FORMAT BINARY)"
        self.insert = f"INSERT INTO {self.table} ({names}) VALUES ({places(chosen)})"  # noqa: S608 (quoted names)
        unnested = ", ".join(f"%b::{kind}[]" for kind in self.types)  # %b: in binary, a quarter of the cost of text
        self.insert_many = f"INSERT INTO {self.table} ({names}) SELECT * FROM unnest({unnested})"  # noqa: S608 (quoted names)
        self._same = [f"{quote(fields[name].column or name)} = %s" for name in same]
        self.same_adapters = [_adapter(fields[name], vendor) or (lambda value: value) for name in same]
        self.update = self._unnested(unnested) if vendor == "postgresql" else self._single()

    def _unnested(self, places: str) -> str:
        key, *names = self._names
        sets = ", ".join([*self._same, *(f"{name} = new.{name}" for name in names)])
        return f"UPDATE {self.table} AS old SET {sets} FROM unnest({places}) AS new ({', '.join(self._names)}) WHERE old.{key} = new.{key}"  # noqa: S608

    def _single(self) -> str:
        key, *names = self._names
        return f"UPDATE {self.table} SET {', '.join([*self._same, *(f'{name} = %s' for name in names)])} WHERE {key} = %s"  # noqa: S608

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
    if vendor == "postgresql":
        return _jsonb() if isinstance(field, models.JSONField) else None
    if isinstance(field, _PLAIN):
        return None
    return partial(field.get_db_prep_save, connection=connection)


def _jsonb() -> Callable[[Any], Any]:
    """As a JSONField does it, a fifth of the time."""
    from psycopg.types.json import Jsonb  # only here: psycopg is not loaded where the database is a file

    return lambda value: None if value is None else Jsonb(value)
