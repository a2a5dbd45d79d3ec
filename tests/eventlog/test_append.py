from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from django.db import connection, transaction

from eventlog import head, schemas
from eventlog.append import NewEvent, append, last_time
from eventlog.canonical import NotCanonical
from eventlog.events import MAX_BODY
from eventlog.models import Event

from .support import ENDED, HAPPENED, NOW, add, happened, naive_root, rolled_back

pytestmark = pytest.mark.django_db


def positions() -> list[int]:
    return list(Event.objects.order_by("position").values_list("position", flat=True))


def test_positions_count_from_one_in_the_order_given():
    assert [event.position for event in add(10, 11)] == [1, 2]
    assert [event.position for event in add(12)] == [3]
    assert positions() == [1, 2, 3]


def test_what_is_stored_is_canonical_json_with_its_leaf_hash():
    (event,) = add(7)
    row = Event.objects.get()
    assert (
        bytes(row.body)
        == b'{"data":{"number":7},"schema":"quicklime/test.happened/1-0-0","subject":"alice","time":"2026-01-31T08:00:00.000000Z"}'
    )
    assert bytes(row.leaf_hash) == sha256(b"\x00" + bytes(row.body)).digest()
    assert (row.time, row.type, row.subject) == (NOW, "test.happened", "alice")
    assert (event.body, event.leaf_hash, event.type) == (bytes(row.body), bytes(row.leaf_hash), "test.happened")


def test_the_data_given_is_the_data_returned():
    data = {"number": 1}
    with transaction.atomic():
        (event,) = append([NewEvent(HAPPENED, "alice", data)], NOW)
    assert event.data is data


def test_the_head_is_the_merkle_tree_over_all_leaves():
    for count in (1, 2, 300, 5):
        add(*range(count), sign=None)
    leaves = [bytes(leaf) for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True)]
    assert head.read().root() == naive_root(leaves)
    assert head.size() == 308


def test_nothing_to_append_is_nothing_done():
    with transaction.atomic():
        assert append([], NOW) == []
    assert head.size() == 0


def test_last_time():
    assert last_time() is None
    add(1)
    add(2, now=NOW + timedelta(hours=1))
    assert last_time() == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    "event",
    [
        NewEvent("quicklime/test.unheard_of/1-0-0", "alice", {}),
        NewEvent("quicklime/test.happened/2-0-0", "alice", {}),
        NewEvent("test.happened", "alice", {}),
        NewEvent(HAPPENED, "a" * 201, {}),
        NewEvent(HAPPENED, "a\x00", {}),
        NewEvent(HAPPENED, "\ud800", {}),
        NewEvent(HAPPENED, "alice", {"number": 1.5}),
        NewEvent(HAPPENED, "alice", {"number": 2**53}),
        NewEvent(HAPPENED, "alice", {"text": "x" * MAX_BODY}),
    ],
)
def test_what_may_not_be_logged_is_refused_and_leaves_nothing(event: NewEvent):
    with pytest.raises(ValueError, match=r"."), transaction.atomic():
        append([happened(1), event], NOW)
    assert positions() == []
    assert head.size() == 0


def test_the_largest_event_fits_and_one_byte_more_does_not():
    overhead = len(add(0)[0].body) - len('"number":0') + len('"text":""')
    with transaction.atomic():
        (event,) = append([NewEvent(HAPPENED, "alice", {"text": "x" * (MAX_BODY - overhead)})], NOW)
    assert len(event.body) == 65_535
    with pytest.raises(ValueError, match="65536 bytes"), transaction.atomic():
        append([NewEvent(HAPPENED, "alice", {"text": "x" * (MAX_BODY - overhead + 1)})], NOW)


@pytest.mark.parametrize("now", [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))])
def test_time_is_utc(now: datetime):
    with pytest.raises(ValueError, match="2026"), transaction.atomic():
        append([happened(1)], now)


def test_any_text_survives():
    data = {"text": '\x00\x1f"\\\u2028é漢\U0001f511', "empty": "", "list": [True, None, -1, {}]}
    with transaction.atomic():
        append([NewEvent(HAPPENED, "ü\n", data)], NOW)
    assert json.loads(bytes(Event.objects.get().body))["data"] == data


@pytest.mark.django_db(transaction=True)
def test_append_needs_a_transaction():
    with pytest.raises(transaction.TransactionManagementError):
        append([happened(1)], NOW)


@pytest.mark.django_db(transaction=True)
def test_a_rollback_leaves_no_hole():
    add(1)
    rolled_back(lambda: append([happened(2), happened(3)], NOW))
    add(4)
    assert [(event.position, json.loads(bytes(event.body))["data"]["number"]) for event in Event.objects.order_by("position")] == [
        (1, 1),
        (2, 4),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_refused_event_inside_a_savepoint_leaves_no_hole():
    with transaction.atomic():
        with pytest.raises(NotCanonical), transaction.atomic():
            append([NewEvent(HAPPENED, "alice", {"number": 0.5})], NOW)
        append([happened(1)], NOW)
    add(2)
    assert positions() == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_eight_writers_at_once_leave_no_gap_and_commit_in_order():
    """Each writer notes its position right after its commit; while it looks, everything before must be visible."""
    seen: list[tuple[int, list[int]]] = []
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            for number in range(12):
                last = add(*range(number % 3 + 1), now=datetime.now(UTC))[-1].position
                seen.append((last, positions()))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert positions() == list(range(1, 8 * 24 + 1))
    for last, visible in seen:
        assert visible == list(range(1, len(visible) + 1))
        assert len(visible) >= last
    leaves = [bytes(leaf) for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True)]
    assert head.read().root() == naive_root(leaves)


@pytest.mark.django_db(transaction=True)
def test_an_uncommitted_append_holds_back_the_next():
    """What commits second has the larger position, although it began first to do everything but append."""
    order: list[str] = []
    first_appended, may_commit = threading.Event(), threading.Event()

    def first() -> None:
        with transaction.atomic():
            append([happened(1)], NOW)
            first_appended.set()
            assert may_commit.wait(10)
            order.append("first")
        connection.close()

    def second() -> None:
        with transaction.atomic():
            (event,) = append([happened(2)], NOW)
            order.append(f"second at {event.position}")
        connection.close()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert first_appended.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert order == []
    may_commit.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second at 2"]


def test_only_the_newest_version_is_written(tmp_path: Any):
    for version in ("1-0-0", "1-1-0"):
        (tmp_path / f"test.grown-{version}.json").write_text("{}")
    schemas.register_directory(tmp_path, {"quicklime/test.grown/1-0-0": lambda data: data})
    with transaction.atomic():
        append([NewEvent("quicklime/test.grown/1-1-0", "x", {}), NewEvent(ENDED, "x", {})], NOW)
    with pytest.raises(schemas.UnknownSchema), transaction.atomic():
        append([NewEvent("quicklime/test.grown/1-0-0", "x", {})], NOW)
