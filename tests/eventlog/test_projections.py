from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from eventlog import events, head, projections, schemas, staging
from eventlog.append import NewEvent, StoredEvent, append
from eventlog.bulk import insert_rows, insert_unless_taken
from eventlog.models import Cursor, Event
from eventlog.projections import Projection

from .support import ENDED, NOW, add, execute, happened, rolled_back, rows, unguarded

pytestmark = pytest.mark.django_db
transactional = pytest.mark.django_db(transaction=True)


def write(run: Sequence[StoredEvent]) -> None:
    """A projection needs a table; the tests borrow auth's Group for one row per event."""
    insert_rows(Group, ("name",), [(f"{event.position}:{event.data['number']}",) for event in run])


def follower(inline: bool = False, **handlers: Any) -> Projection:
    projection = Projection("follower", handlers or {"test.happened": write}, (Group,), inline)
    projections.register(projection)
    return projection


def insert_keyed(found: Sequence[tuple[int, int]]) -> None:
    insert_unless_taken(Session, ("session_key", "session_data", "expire_date"), [(str(key), str(data), NOW) for key, data in found])


def keyed(handler: Any = None) -> None:
    """A projection whose rows have keys of their own: they are sessions."""

    def write_keyed(run: Sequence[StoredEvent]) -> None:
        insert_keyed([(event.position, event.data["number"]) for event in run])

    projections.register(Projection("keyed", dict.fromkeys(("test.happened", "test.ended"), handler or write_keyed), (Session,)))


SEVERAL = ("follower", "keyed")


def several() -> None:
    follower()
    keyed()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each reading of a chunk was to have at most, as it comes."""
    seen: list[int] = []
    read = events.chunk_after

    def note(position: int, limit: int, *more: Any) -> list[events.Row]:
        seen.append(limit)
        return read(position, limit, *more)

    monkeypatch.setattr(events, "chunk_after", note)
    return seen


def names() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True), key=lambda name: int(name.split(":")[0]))


def cursor() -> tuple[int, str]:
    row = Cursor.objects.get(name="follower")
    return row.position, row.error


def end(number: int) -> None:
    with transaction.atomic():
        append([NewEvent(ENDED, "alice", {"number": number})], NOW)


def test_catch_up_applies_everything_once():
    follower()
    add(10, 11)
    assert projections.catch_up("follower") == 2
    add(12)
    assert projections.catch_up("follower") == 1
    assert projections.catch_up("follower") == 0
    assert names() == ["1:10", "2:11", "3:12"]
    assert cursor() == (3, "")


def test_a_handler_gets_runs_of_its_types_in_order():
    runs: list[list[int]] = []

    def note(run: Sequence[StoredEvent]) -> None:
        runs.append([event.position for event in run])

    def note_too(run: Sequence[StoredEvent]) -> None:
        note(run)

    projections.register(Projection("both", {"test.happened": note, "test.ended": note_too}, ()))
    projections.register(Projection("one", {"test.ended": note}, ()))
    projections.register(Projection("by one", {"test.happened": note, "test.ended": note}, ()))
    add(1, 2)
    end(3)
    end(4)
    add(5)
    end(6)
    projections.catch_up("both")
    assert runs == [[1, 2], [3, 4], [5], [6]]
    runs.clear()
    projections.catch_up("one")
    assert runs == [[3, 4, 6]]
    runs.clear()
    projections.catch_up("by one")
    assert runs == [[1, 2, 3, 4, 5, 6]]


def test_more_than_one_chunk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK", 4)
    follower()
    add(*range(10))
    assert projections.catch_up("follower") == 10
    assert names() == [f"{n + 1}:{n}" for n in range(10)]


def test_inline_shares_the_appends_transaction():
    follower(inline=True)
    seen: list[list[str]] = []
    rolled_back(lambda: append([happened(1)], NOW) and seen.append(names()))
    assert seen == [["1:1"]]
    assert names() == []
    add(2, 3)
    assert names() == ["1:2", "2:3"]
    assert cursor() == (2, "")


def test_an_inline_failure_stops_the_append():
    def fail(run: Sequence[StoredEvent]) -> None:
        raise ZeroDivisionError

    follower(inline=True, **{"test.happened": fail})
    with pytest.raises(ZeroDivisionError):
        add(1)
    assert Event.objects.count() == head.size() == 0


def test_an_inline_projection_younger_than_the_log_reads_what_it_missed():
    add(1, 2, 3)
    follower(inline=True)
    add(4, 5)
    assert names() == ["1:1", "2:2", "3:3", "4:4", "5:5"]
    add(6)
    assert names()[-1] == "6:6"
    assert cursor() == (6, "")


@transactional
@pytest.mark.skipif(connection.vendor == "sqlite", reason="writers queue")
@pytest.mark.parametrize("wait", [True, False])
def test_who_does_not_wait_leaves_while_another_reads_on(wait: bool):
    follower()
    add(1)
    projections.catch_up("follower")
    add(2)
    held, over, done = threading.Event(), threading.Event(), threading.Event()

    def rebuild() -> None:
        def progress(*_: int) -> None:
            held.set()
            over.wait(10)

        projections.rebuild("follower", progress)
        connection.close()

    def read_on() -> None:
        with suppress(projections.CursorHeld):
            projections.catch_up("follower", wait=wait)
        connection.close()
        done.set()

    threads = [threading.Thread(target=rebuild), threading.Thread(target=read_on)]
    threads[0].start()
    assert held.wait(10)
    threads[1].start()
    assert done.wait(1 if wait else 10) is not wait
    over.set()
    for thread in threads:
        thread.join()
    projections.catch_up("follower", wait=False)
    assert names() == ["1:1", "2:2"]
    assert cursor() == (2, "")


@transactional
def test_a_failing_handler_stops_right_before_the_event_and_says_why(monkeypatch: pytest.MonkeyPatch):
    broken = True

    def picky(run: Sequence[StoredEvent]) -> None:
        if broken and any(event.data["number"] == 13 for event in run):
            raise ValueError("thirteen")
        write(run)

    follower(**{"test.happened": picky})
    add(*range(5, 20))
    for _ in range(2):
        with pytest.raises(ValueError, match="thirteen"):
            projections.catch_up("follower")
        assert cursor() == (8, "ValueError: thirteen")
        assert names()[-1] == "8:12"
    assert projections.status() == [("follower", 8, 15, "ValueError: thirteen")]
    broken = False
    assert projections.catch_up("follower") == 7
    assert cursor() == (15, "")
    assert len(names()) == 15


@transactional
def test_a_handler_that_fails_once_loses_and_doubles_nothing():
    attempts = 0

    def shaky(run: Sequence[StoredEvent]) -> None:
        nonlocal attempts
        attempts += 1
        write(run)
        if attempts == 1:
            raise OSError("once")

    follower(**{"test.happened": shaky})
    add(*range(6))
    assert projections.catch_up("follower") == 6
    assert len(names()) == 6
    assert cursor() == (6, "")


def test_an_event_of_newer_code_stops_the_cursor(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    follower()
    add(1)
    with monkeypatch.context() as newer:
        newer.setattr(schemas, "_types", dict(schemas._types))
        newer.setattr(schemas, "_newest", dict(schemas._newest))
        (tmp_path / "test.invented-1-0-0.json").write_text("{}")
        (tmp_path / "test.happened-2-0-0.json").write_text("{}")
        schemas.register_directory(tmp_path)
        with transaction.atomic():
            append([NewEvent("quicklime/test.invented/1-0-0", "x", {}), happened(2, schema="quicklime/test.happened/2-0-0")], NOW)
    for type_or_model in ("test.invented", "test.happened/2-0-0"):
        with pytest.raises(schemas.UnknownSchema, match=type_or_model):
            projections.catch_up("follower")
        assert names() == ["1:1"]
        assert type_or_model in cursor()[1]
        Cursor.objects.update(position=2)


def test_rebuild_equals_the_live_table():
    follower()
    add(*range(7))
    projections.catch_up("follower")
    live = names()
    Group.objects.filter(name="3:2").delete()
    Group.objects.create(name="99:forged")
    assert projections.rebuild("follower") == 7
    assert names() == live
    assert cursor() == (7, "")


def test_rebuild_puts_right_what_is_wrong_and_leaves_the_rest_as_it_is():
    """On PostgreSQL not even a new version of a row that is right: people read it meanwhile."""
    keyed()
    add(*range(4))
    projections.catch_up("keyed")
    right = list(Session.objects.order_by("session_key").values())
    version = "xmin::text" if connection.vendor == "postgresql" else "rowid"
    before = rows(f"SELECT {version} FROM django_session WHERE session_key IN ('1', '4') ORDER BY session_key")
    Session.objects.filter(session_key="2").update(session_data="wrong")
    Session.objects.filter(session_key="3").delete()
    Session.objects.create(session_key="9", session_data="forged", expire_date=NOW)
    with transaction.atomic():
        for _ in range(2):  # the second one in the same transaction, too
            assert projections.rebuild("keyed") == 4
    assert list(Session.objects.order_by("session_key").values()) == right
    if connection.vendor == "postgresql":
        assert rows(f"SELECT {version} FROM django_session WHERE session_key IN ('1', '4') ORDER BY session_key") == before
    add(4)
    projections.catch_up("keyed")
    assert Session.objects.count() == 5


@transactional
@pytest.mark.skipif(connection.vendor == "sqlite", reason="writers queue")
def test_what_is_written_with_its_event_during_a_rebuild_is_kept(monkeypatch: pytest.MonkeyPatch):
    """As the flags of certificates are, by who is no reader of the log."""
    keyed()
    add(1, 2)
    hold_writers = staging.Staging.hold_writers

    def write_and_append() -> None:
        with transaction.atomic():
            insert_keyed([(3, 30)])
            add(30)
        connection.close()

    def after_a_write(made: staging.Staging) -> None:
        writer = threading.Thread(target=write_and_append)
        writer.start()
        writer.join()
        hold_writers(made)

    monkeypatch.setattr(staging.Staging, "hold_writers", after_a_write)
    assert projections.rebuild("keyed") == 3
    assert sorted(Session.objects.values_list("session_key", "session_data")) == [("1", "1"), ("2", "2"), ("3", "30")]


def test_several_read_each_chunk_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK", 3)
    reads = counted(monkeypatch)
    several()
    add(*range(4))
    end(4)
    for name in SEVERAL:
        projections.catch_up(name, most=1)
    reads.clear()
    assert projections.catch_up_together(SEVERAL) == 2
    assert reads == [3]
    assert names() == ["1:0", "2:1", "3:2", "4:3"]
    assert Session.objects.count() == 5
    assert list(Cursor.objects.order_by("name").values_list("name", "position", "error")) == [("follower", 5, ""), ("keyed", 5, "")]
    assert projections.catch_up_together(SEVERAL) == 0


def test_several_end_where_they_were_told_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK", 2)
    several()
    add(*range(7))
    for name in SEVERAL:
        projections.catch_up(name, most=1)
    assert projections.catch_up_together(SEVERAL, most=2) == 2
    assert {row.position for row in Cursor.objects.all()} == {4}


def test_several_that_stand_apart_do_not_read_together():
    several()
    add(1)
    assert projections.catch_up_together(SEVERAL) == 0  # neither has a cursor
    projections.catch_up("follower")
    add(2)
    assert projections.catch_up_together(SEVERAL) == 0
    projections.catch_up("keyed")
    assert cursor() == (1, "")
    assert Session.objects.count() == 2


@transactional
def test_several_of_which_one_fails_are_left_where_they_were():
    def fail(run: Sequence[StoredEvent]) -> None:
        raise ZeroDivisionError

    several()
    add(1)
    for name in SEVERAL:
        projections.catch_up(name)
    add(2)
    keyed(fail)
    assert projections.catch_up_together(SEVERAL) == 0
    assert cursor() == (1, "")
    assert names() == ["1:1"]


@transactional
@pytest.mark.skipif(connection.vendor == "sqlite", reason="writers queue")
def test_several_of_which_one_is_being_read_are_left_at_once():
    several()
    add(1)
    for name in SEVERAL:
        projections.catch_up(name)
    add(2)
    found: list[int] = []

    def read() -> None:
        found.append(projections.catch_up_together(SEVERAL))
        connection.close()

    with transaction.atomic():
        list(Cursor.objects.select_for_update().filter(name="keyed"))
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(10)
    assert found == [0]
    assert cursor() == (1, "")


def test_rebuild_reports_progress_and_clears_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK", 3)
    follower()
    add(*range(7))
    Cursor.objects.create(name="follower", position=2, error="old trouble")
    seen: list[tuple[int, int]] = []
    projections.rebuild("follower", lambda *progress: seen.append(progress))
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert cursor() == (7, "")


@transactional
def test_a_rebuild_that_fails_leaves_the_old_rows():
    fail = False

    def handler(run: Sequence[StoredEvent]) -> None:
        if fail:
            raise ZeroDivisionError
        write(run)

    follower(**{"test.happened": handler})
    add(1, 2)
    projections.catch_up("follower")
    fail = True
    with pytest.raises(ZeroDivisionError):
        projections.rebuild("follower")
    assert names() == ["1:1", "2:2"]
    assert cursor() == (2, "")


@transactional
@pytest.mark.parametrize("inline", [False, True])
def test_catch_up_and_rebuild_while_appends_go_on(inline: bool, monkeypatch: pytest.MonkeyPatch):
    """No event is lost or applied twice at the moving end, however many readers there are."""
    monkeypatch.setattr(events, "CHUNK", 5)
    follower(inline)
    failures: list[BaseException] = []
    done = threading.Event()

    def write_on() -> None:
        for number in range(25):
            add(*range(number % 4 + 1))

    def until_done(work: Callable[[str], int], pause: float) -> Callable[[], None]:
        def repeat() -> None:
            while not done.wait(pause):  # SQLite's writers queue, but without a queue's fairness
                work("follower")

        return repeat

    writers = [threading.Thread(target=noting, args=(write_on, failures)) for _ in range(2)]
    works = (until_done(projections.catch_up, 0.005), until_done(projections.catch_up, 0.005), until_done(projections.rebuild, 0.02))
    readers = [threading.Thread(target=noting, args=(work, failures)) for work in works]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert not failures
    projections.catch_up("follower")
    assert [int(name.split(":")[0]) for name in names()] == list(range(1, head.size() + 1))
    assert cursor() == (head.size(), "")


def noting(work: Callable[[], None], failures: list[BaseException]) -> None:
    """A thread's work; its failure is kept for the test to see."""
    try:
        work()
    except BaseException as error:
        failures.append(error)
        raise
    finally:
        connection.close()


def test_status_of_one_that_never_ran():
    follower()
    add(1)
    assert projections.status() == [("follower", 0, 1, "")]


def test_the_rebuild_command():
    follower()
    add(1, 2)
    out = StringIO()
    call_command("rebuild", stdout=out)
    assert out.getvalue() == "follower: 2 events\n"
    call_command("rebuild", "follower", stdout=out)
    with pytest.raises(CommandError, match="there is no projection 'other'"):
        call_command("rebuild", "other")


def test_a_read_row_equals_the_appended_event():
    (appended,) = add(5)
    assert events.stored(next(events.rows_after(0))) == appended


def test_a_hole_made_by_force_does_not_end_the_reading():
    """verify names it; a projection simply reads what there is."""
    add(1, 2, 3)
    with unguarded():
        execute("DELETE FROM eventlog_event WHERE position = 2")
    assert [row[0] for row in events.rows_after(0)] == [1, 3]
