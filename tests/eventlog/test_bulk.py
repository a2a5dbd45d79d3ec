from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError, IntegrityError, connection, models, transaction
from django.test.utils import isolate_apps

from eventlog.bulk import add_counts, insert_rows, insert_unless_taken, update_rows

from .support import execute

AT = datetime(2026, 1, 31, 8, 0, 0, 123456, tzinfo=UTC)
COLUMNS = ("id", "text", "short", "count", "flag", "at", "raw", "data")
ALL = [
    (UUID(int=1), "tab\t line\n back\\slash \\N ü \U0001f511", "abc", 2**62, True, AT, bytes(range(256)), {"a": [1, None, "\\x"]}),
    (UUID(int=2), "", None, -1, False, None, b"", []),
    (UUID(int=3), "\\.", "", 0, True, AT, b"\\x00", None),
    (UUID(int=4), "NULL", "nul", 1, True, AT, b"\x00", {"k": "ü"}),
    (UUID(int=5), '"', "'", 5, True, AT, b"%s", "text"),
]


TABLE = {  # as the schema editor makes it, which SQLite does not let run inside a transaction
    "postgresql": "CREATE TABLE eventlog_thing (id uuid PRIMARY KEY, text text NOT NULL, short varchar(3), count bigint NOT NULL,"
    " flag boolean NOT NULL, at timestamptz, raw bytea NOT NULL, data jsonb)",
    "sqlite": "CREATE TABLE eventlog_thing (id char(32) PRIMARY KEY, text text NOT NULL, short varchar(3), count bigint NOT NULL,"
    " flag bool NOT NULL, at datetime, raw BLOB NOT NULL, data text)",
}


@pytest.fixture
def thing(db: None) -> Any:
    """A table with a column of every kind that the project uses."""
    with isolate_apps("eventlog"):

        class Thing(models.Model):
            id = models.UUIDField(primary_key=True)
            text = models.TextField()
            short = models.CharField(max_length=3, null=True)
            count = models.BigIntegerField()
            flag = models.BooleanField()
            at = models.DateTimeField(null=True)
            raw = models.BinaryField()
            data = models.JSONField(null=True)

            class Meta:
                app_label = "eventlog"

    execute(TABLE[connection.vendor])
    return Thing


def stored(thing: Any) -> list[tuple[Any, ...]]:
    return [(*row[:6], bytes(row[6]), row[7]) for row in thing.objects.order_by("id").values_list(*COLUMNS)]


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_every_kind_of_value_comes_back(thing: Any, count: int):
    insert_rows(thing, COLUMNS, ALL[:count])
    assert stored(thing) == ALL[:count]


def test_an_iterator_will_do(thing: Any):
    insert_rows(thing, COLUMNS, (row for row in ALL))
    assert len(stored(thing)) == 5


def test_a_duplicate_key_is_an_integrity_error_and_inserts_nothing(thing: Any):
    for rows in (ALL + ALL[:1], [ALL[0], ALL[0]]):
        with pytest.raises(IntegrityError), transaction.atomic():
            insert_rows(thing, COLUMNS, rows)
    assert stored(thing) == []


def test_what_is_taken_is_left_out_and_told(thing: Any):
    insert_rows(thing, COLUMNS, ALL[1:2])
    changed = (ALL[1][0], "another", *ALL[1][2:])
    assert insert_unless_taken(thing, COLUMNS, [ALL[0], changed, ALL[2], ALL[2]]) == [True, False, True, False]
    assert stored(thing) == ALL[:3]


def test_update_sets_each_row_its_own_values(thing: Any):
    insert_rows(thing, COLUMNS, ALL)
    changed = [(key, text, short, at, raw, data, flag) for key, text, short, _, flag, at, raw, data in ALL]
    rotated = [(row[0], *changed[place - 1][1:]) for place, row in enumerate(changed)]
    assert update_rows(thing, "id", ("text", "short", "at", "raw", "data", "flag"), rotated[:4]) == 4
    after = stored(thing)
    for place, row in enumerate(after[:4]):
        source = ALL[place - 1]
        assert row == (ALL[place][0], source[1], source[2], ALL[place][3], source[4], source[5], source[6], source[7])
    assert after[4] == ALL[4]


def test_update_says_how_many_rows_it_met(thing: Any):
    insert_rows(thing, COLUMNS, ALL[:2])
    assert update_rows(thing, "id", ("count",), [(UUID(int=1), 5), (UUID(int=99), 6)]) == 1
    assert update_rows(thing, "id", ("count",), []) == 0


@isolate_apps("eventlog")
def test_counts_are_added_up(db: None):
    class Tally(models.Model):
        pk = models.CompositePrimaryKey("at", "kind")
        at = models.DateTimeField()
        kind = models.TextField()
        count = models.BigIntegerField()

        class Meta:
            app_label = "eventlog"

    kinds = "at timestamptz, kind text" if connection.vendor == "postgresql" else "at datetime, kind text"
    execute(f"CREATE TABLE eventlog_tally ({kinds}, count bigint, PRIMARY KEY (at, kind))")
    for counts in ([((AT, "a"), 5), ((AT, "b"), 1)], [], [((AT, "a"), 2), ((AT, "b"), -1), ((AT, "c"), 2**40)]):
        add_counts(Tally, ("at", "kind"), "count", counts)
    assert dict(Tally.objects.values_list("kind", "count")) == {"a": 7, "b": 0, "c": 2**40}
    assert set(Tally.objects.values_list("at", flat=True)) == {AT}


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite does not limit text")
def test_too_long_a_text_is_refused_not_cut(thing: Any):
    insert_rows(thing, COLUMNS, ALL)
    with pytest.raises(DataError), transaction.atomic():
        update_rows(thing, "id", ("short",), [(UUID(int=1), "abcd")])
    with pytest.raises(DataError), transaction.atomic():
        insert_rows(thing, COLUMNS, [(UUID(int=9 + n), "", "abcd", 1, True, None, b"", None) for n in range(9)])


def test_an_unknown_column_is_the_programmers_error(thing: Any):
    with pytest.raises(KeyError):
        insert_rows(thing, ("nothing",), [(1,)])
