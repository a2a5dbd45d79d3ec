"""status: what people and monitoring are told, and served: issued is not yet deployed."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quicklime_client import health, records
from quicklime_client.health import Level
from quicklime_client.records import Reported, Served, Trouble

from .conftest import LABEL, Node
from .fake import Drop

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def aged(node: Node) -> Node:
    node.fake.now = START
    node.request()
    return node


def judged(node: Node, now: datetime) -> tuple[Level, list[str]]:
    (finding,) = health.judged(node.store, now)
    return finding.level, list(finding.remarks)


@pytest.mark.parametrize(
    ("days", "level", "remark"),
    [(1, Level.OK, ""), (70, Level.WARNING, "overdue"), (76, Level.CRITICAL, "long ago"), (91, Level.CRITICAL, "expired")],
)
def test_life_is_judged_by_its_length(aged: Node, days: int, level: Level, remark: str) -> None:
    found, remarks = judged(aged, START + days * DAY)
    assert found == level
    assert remark in " ".join(remarks)


def test_a_day_long_certificate_rings_only_when_a_renewal_was_missed(node: Node) -> None:
    node.fake.now, node.fake.life = START, DAY
    node.request()
    assert judged(node, START + DAY / 2)[0] == Level.OK
    assert judged(node, START + DAY * 0.8)[0] == Level.WARNING
    assert judged(node, START + DAY * 0.9)[0] == Level.CRITICAL


def test_troubles_are_warnings(aged: Node) -> None:
    record = aged.record()
    now = START + DAY
    for changed, remark in [
        (replace(record, trouble=Trouble("no way", now, 1, now)), "no way"),
        (replace(record, reload_due=True), "not yet told"),
        (replace(record, served=Served("abc", None, now)), "issued but not deployed"),
        (replace(record, served=Served(None, "refused", now)), "nothing is served"),
    ]:
        aged.store.save(changed)
        assert judged(aged, now)[0] == Level.WARNING
        assert remark in judged(aged, now)[1][0]


def test_what_is_missing_or_revoked_is_critical(aged: Node) -> None:
    record = aged.record()
    aged.store.save(replace(record, current=None))
    assert judged(aged, START)[0] == Level.CRITICAL
    aged.store.save(replace(record, revoked_at=START))
    assert judged(aged, START)[0] == Level.CRITICAL
    aged.store.save(record)
    assert judged(aged, START)[0] == Level.OK
    shutil.rmtree(aged.current().parent)
    assert judged(aged, START) == (Level.CRITICAL, [f"not in place below {record.place.out}"])


def test_the_gravest_counts_and_certainty_before_ignorance(node: Node) -> None:
    levels = [health.Finding("x", None, level, ()) for level in Level]
    assert health.worst(levels) == Level.CRITICAL
    assert health.worst([each for each in levels if each.level != Level.CRITICAL]) == Level.UNKNOWN
    assert health.worst(levels[:2]) == Level.WARNING
    assert health.worst(levels[:1]) == Level.OK
    assert health.worst([]) == Level.UNKNOWN


def test_the_exit_status_and_the_table(node: Node) -> None:
    assert "no certificates in" in node.run("status", code=3)
    node.request()
    said = node.run("status", code=0)
    assert all(text in said for text in (LABEL, "89 d", "ok"))
    (node.state / "certificates" / "b.json").write_text("{}")
    said = node.run("status", code=3)
    assert "b.json: it is damaged" in said
    assert LABEL in said
    node.run("revoke", LABEL, "--yes")
    assert "revoked at" in node.run("status", code=2)


def test_the_table_bears_hostile_text_and_narrow_terminals(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.request()
    now = datetime.now(UTC)
    node.store.save(replace(node.record(), trouble=Trouble("[red]x[/bold] \U0001f512", now, 1, now)))
    monkeypatch.setenv("COLUMNS", "20")
    assert "[red]x[/bold]" in node.run("status", code=1)


def test_json_is_complete(aged: Node) -> None:
    aged.fake.before = _drop
    aged.pass_at(START + 66 * DAY)
    shown = json.loads(aged.run("status", "--json", code=1))
    (certificate,) = shown["certificates"]
    assert shown["level"] == certificate["level"] == "warning"
    assert (certificate["not_before"], certificate["not_after"]) == ("2030-01-01T00:00:00Z", "2030-03-31T23:59:59Z")
    assert certificate["last_error"]["failures"] == 1
    assert (certificate["label"], certificate["names"], certificate["generation"], certificate["pending"]) == (LABEL, [LABEL], 1, True)
    assert certificate["directory"] == str(aged.current())


def test_json_of_nothing_and_of_the_unreadable(node: Node) -> None:
    assert json.loads(node.run("status", "--json", code=3)) == {"level": "unknown", "certificates": []}
    node.request()
    (node.state / "certificates" / f"{LABEL}.json").write_bytes(b"\xff")
    (certificate,) = json.loads(node.run("status", "--json", code=3))["certificates"]
    assert certificate["level"] == "unknown"


def _drop(method: str, path: str) -> None:
    raise Drop


# --- what is served


@contextmanager
def serving_pair(directory: Path) -> Iterator[str]:
    """A service that took up its pair when it began, as nginx does; its HOST:PORT."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "fullchain.pem", directory / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_service_that_was_not_reloaded_is_noticed(aged: Node) -> None:
    with serving_pair(aged.current()) as address:
        aged.request("--serves", address)
        aged.pass_at(START + DAY)
        assert judged(aged, START + DAY)[0] == Level.OK
        aged.pass_at(START + 66 * DAY)
        aged.pass_at(START + 66 * DAY + timedelta(minutes=1))
        level, remarks = judged(aged, START + 67 * DAY)
    assert level == Level.WARNING
    assert remarks[0].startswith(f"issued but not deployed: {address} serves ")
    with serving_pair(aged.current()) as address:
        aged.request("--serves", address)
        aged.pass_at(START + 68 * DAY)
        assert judged(aged, START + 68 * DAY)[0] == Level.OK


def test_a_service_that_is_down_or_no_tls_is_noticed(aged: Node) -> None:
    aged.request("--serves", "127.0.0.1:9")
    aged.pass_at(START + DAY)
    assert "nothing is served at 127.0.0.1:9" in judged(aged, START + DAY)[1][0]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"220 mail\r\n" * 10)

        thread = threading.Thread(target=answer)
        thread.start()
        aged.request("--serves", f"127.0.0.1:{listener.getsockname()[1]}")
        aged.pass_at(START + DAY)
        thread.join()
    assert "nothing is served" in judged(aged, START + DAY)[1][0]


# --- records


def test_records_survive_the_disk(aged: Node) -> None:
    record = replace(
        aged.record(),
        served=Served("1", None, START),
        trouble=Trouble("x", START, 1, START),
        revoked_at=START,
        reload_due=True,
        reported=Reported(START, START, "active", None, START, "x"),
    )
    assert records.from_json(records.to_json(record)) == record


def _changed(values: dict[str, Any], path: str, value: Any) -> bytes:
    *parents, name = path.split(".")
    at = values
    for parent in parents:
        at = at[parent]
    if value is ...:
        del at[name]
    else:
        at[name] = value
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("form", 3), ("form", 0), ("form", True), ("form", "2"), ("form", ...), ("reported", ...), ("label", 1), ("label", None),
        ("wanted", None), ("wanted.names", "a"), ("wanted.names", [1]),
        ("wanted.more", 1), ("current.pem", ""), ("current.generation", "1"), ("current.generation", True),
        ("current.renew_at", "soon"), ("current.renew_at", "2030-01-01"), ("current.key", ...), ("reload_due", 1), ("place", []),
    ],
)  # fmt: skip
def test_a_record_that_is_not_of_its_form_is_refused(aged: Node, path: str, value: object) -> None:
    values = json.loads(records.to_json(aged.record()))
    with pytest.raises(ValueError, match=r"."):
        records.from_json(_changed(values, path, value))


def test_a_record_of_the_first_form_is_read(aged: Node) -> None:
    values = json.loads(records.to_json(aged.record()))
    del values["reported"]
    assert records.from_json(_changed(values, "form", 1)) == aged.record()


@pytest.mark.parametrize("raw", [b"", b"\x00", b"[]", b"null", b"{}", b"[" * 100_000])
def test_a_file_that_is_no_record_is_said_so(aged: Node, raw: bytes) -> None:
    (aged.state / "certificates" / f"{LABEL}.json").write_bytes(raw)
    assert "damaged" in aged.run("renew", LABEL, code=1)
