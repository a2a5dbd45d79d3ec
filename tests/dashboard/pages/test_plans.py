"""How PostgreSQL answers each page when it believes that there are a million certificates: by an index, and never by a look at all of them.

Some thousand rows are made from those that a small fleet has, so that the planner's statistics are as of a large one; how many it believes
there are is written into its catalogue, for the length of a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from ca.api import listing
from ca.models import Certificate, CertificateName, CheckIn, Request
from dashboard import admin_base
from dashboard.models import Generation, Reminder, Watched
from dashboard.pages import log
from dashboard.roles import Role
from eventlog.models import Event, TileHash

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="by PostgreSQL's plans"),
    pytest.mark.unjudged("fills a table by hand"),
]
ENDS_SOON = ("((owner)::text <> 'quicklime'::text)",)  # whether there is a certificate of anybody but the CA, which has few
BLOCKING = ("Sort", "Incremental Sort", "Aggregate", "Hash", "Group", "WindowAgg", "Unique", "SetOp", "Materialize")  # read all below first


@pytest.fixture
def chief(account: Callable[..., Client]) -> Client:
    return account(Role.OPERATOR, Role.ADMINISTRATOR, name="ada")


ROWS = 4_000
SERIAL = "md5(n::text) || '00000000'"
MADE: dict[type[Model], dict[str, str]] = {  # what of a copied row is another, by its number n
    Certificate: {
        "serial": SERIAL, "request": "gen_random_uuid()", "owner": "'team-' || n % 20", "service": "'service-' || n % 200",
        "node": "'n' || n", "not_before": "not_before - n * interval '1 hour'",
        "not_after": "not_after - n * interval '1 hour'",
        "spki_sha256": "sha256(n::text::bytea)", "fingerprint": "md5(n::text) || md5('f' || n)", "log_position": "100 + n",
        "revoked_at": "CASE WHEN n % 50 = 0 THEN not_before END", "replaced_by": "CASE WHEN n % 3 > 0 THEN md5('r' || n) || '00000000' END",
    },
    CertificateName: {"id": "1000000 + n", "name": "'dns:h' || n || '.internal'", "serial": SERIAL, "log_position": "100 + n"},
    CheckIn: {"serial": SERIAL},
    Request: {"id": "gen_random_uuid()", "state": "'issued'", "owner": "'team-' || n % 20", "serial": SERIAL, "idempotency_key": "NULL",
              "replaces": "NULL", "batch": "NULL"},
    Generation: {
        "serial": SERIAL, "line": SERIAL, "place": "sha256(n::text::bytea)", "service": "'service-' || n % 200", "node": "'n' || n",
        "owner": "'team-' || n % 20", "renew_by": "renew_by - n * interval '1 hour'", "not_after": "not_after - n * interval '1 hour'",
        "issued_at": "issued_at - n * interval '1 hour'", "superseded_at": "CASE WHEN n % 3 > 0 THEN issued_at END",
    },
    Reminder: {"id": "1000000 + n", "serial": SERIAL, "state": "'sent'", "recipient_hash": "md5((n % 20)::text)",
               "message": "md5((n / 5)::text)"},
    Watched: {"line": "sha256(n::text::bytea)", "serial": SERIAL, "not_after": "not_after - n * interval '1 hour'",
              "next_at": "next_at - n * interval '1 hour'"},
    Event: {"position": "(SELECT max(position) FROM eventlog_event) + n", "subject": "md5((n / 3)::text) || '00000000'"},
    TileHash: {"level": "0", "index": "1000 + n"},
}  # fmt: skip
NAMES = {model._meta.db_table for model in MADE}


@pytest.fixture(autouse=True)
def million(fleet: list[Certificate], every_page: list[str], staff: Client, chief: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the planner believes; and windows of one row, so that there is always more. After what appends to the log, as its head
    stays behind."""
    now = datetime.now(UTC)
    Reminder.objects.create(serial=fleet[0].serial, threshold="expired", recipient="x", recipient_hash="0", due_at=now)
    CheckIn.objects.create(serial=fleet[0].serial, said_at=now, seen_at=now, served="")
    for module in (admin_base, listing, log):
        monkeypatch.setattr(module, "WINDOW", 1)
    with connection.cursor() as cursor:
        for model, others in MADE.items():
            table, columns = model._meta.db_table, [field.column for field in model._meta.local_concrete_fields]
            values = ", ".join(others.get(column, f'"{column}"') for column in columns)
            names = ", ".join(f'"{column}"' for column in columns)
            cursor.execute(
                f"INSERT INTO {table} ({names}) SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) AS one, generate_series(1, {ROWS}) n"
            )
            cursor.execute(f"ANALYZE {table}")
            cursor.execute("UPDATE pg_class SET reltuples = 1e6 WHERE oid = %s::regclass", [table])
        cursor.execute("SET LOCAL enable_seqscan = off")


def read_whole(plan: dict[str, Any], is_bounded: bool = False) -> Iterator[str]:
    """The scans of a plan that may read a whole large table, or an index of all its rows: each without a condition on the index, unless it
    has no other condition either and a limit ends it."""
    kind, index = plan["Node Type"], plan.get("Index Name", "")
    if kind == "Seq Scan":
        is_whole = plan["Relation Name"] in NAMES
    else:
        is_whole = index in _whole_indexes() and "Index Cond" not in plan and not (is_bounded and "Filter" not in plan)
    if is_whole and plan.get("Filter") not in ENDS_SOON:
        yield f"{kind} {plan.get('Relation Name', '')} {index}: {plan.get('Filter')}"
    below = kind == "Limit" or (is_bounded and kind not in BLOCKING)
    for each in plan.get("Plans", ()):
        yield from read_whole(each, below)


@cache
def _whole_indexes() -> frozenset[str]:
    """Those of large tables that have a line for each row. A partial one is of the few rows that something is still to be done about."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexrelid::regclass::text, indrelid::regclass::text FROM pg_index WHERE indpred IS NULL")
        return frozenset(index for index, table in cursor.fetchall() if table in NAMES)


def plan(sql: str, parameters: Any = None) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
        (found,) = cursor.fetchone()
    top: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return top


def wholes(client: Client, address: str) -> list[str]:
    """What a page reads whole, with the query."""
    found: list[str] = []

    def explained(execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if sql.lstrip("( ").startswith(("SELECT", "WITH")):
            found.extend(f"{address}: {each}: {sql}" for each in read_whole(plan(sql, parameters)))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(explained):
        answer = client.get(address)
        assert answer.status_code == 200, address
        if answer.streaming:
            list(answer)
    return found


def test_the_test_sees_a_look_at_all() -> None:
    for bad in (
        "SELECT count(*) FROM ca_certificate",
        "SELECT * FROM ca_certificate WHERE node = 'n1' ORDER BY log_position DESC LIMIT 5",
        "SELECT * FROM ca_certificate ORDER BY key_type LIMIT 5",
        "SELECT * FROM eventlog_event WHERE type = 'x' LIMIT 9",
        "SELECT DISTINCT owner FROM ca_certificate LIMIT 5",
    ):
        assert len(list(read_whole(plan(bad)))) == 1, bad
    for good in (
        "SELECT * FROM ca_certificate ORDER BY log_position DESC LIMIT 5",
        "SELECT * FROM ca_certificate WHERE owner = 'x'",
        "SELECT * FROM ca_request WHERE state IN ('received', 'signed')",
    ):
        assert list(read_whole(plan(good))) == [], good


def test_every_page_of_the_dashboard(every_page: list[str], staff: Client) -> None:
    more = [
        "certificates/?q=a.int", "certificates/?status=revoked", "certificates/?owner=alice&status=active",
        "certificates/?service=payroll&node=n1", "certificates/?expires=30&profile=server", "certificates.csv?status=revoked",
        "log/?type=certificate.revoked", "log/?subject=issuing-1", "services/?owner=alice", "services/payroll/?node=n1",
        "reminders/?state=sent", "tokens/?owner=alice", "approvals/",
    ]  # fmt: skip
    paths = [path for path in every_page if "nonsense" not in path] + [f"/dashboard/{path}" for path in more]
    assert [each for path in paths for each in wholes(staff, path)] == []


def test_every_list_of_the_admin(fleet: list[Certificate], chief: Client) -> None:
    assert [each for path in _lists() for each in wholes(chief, path)] == []


def _lists() -> Sequence[str]:
    """Each as it is, searched, and by each of its filters."""
    found = []
    for each in admin.site._registry.values():
        assert isinstance(each, admin_base.ReadOnly)
        address = reverse(f"admin:{each.prefix}_changelist")
        found += [
            address,
            f"{address}?q=payroll",
            f"{address}?q=team-3",
            f"{address}?q=01a22596-c6c0-7e76-8c86-9e7bc6eeb7bd",
            f"{address}?q=" + "a" * 40,
            f"{address}?q=7",
        ]
        found += [f"{address}?{facet.parameter_name}={name}" for facet in each.filters for name in facet.conditions]
    return found
