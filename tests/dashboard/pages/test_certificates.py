"""The inventory and one certificate: found, shown, exported, downloaded."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.test import Client

from ca.models import Certificate
from dashboard import status
from dashboard.pages import certificates
from eventlog import notes
from ocsp import crls

from ..support import Issue, revoked

pytestmark = pytest.mark.django_db
PAGE = "/dashboard/certificates/"


def found(staff: Client, query: str = "") -> list[str]:
    """The serials on the page, in order."""
    answer = staff.get(f"{PAGE}{query}")
    assert answer.status_code == 200
    return [row["serial"] for row in answer.context["rows"]]


def test_empty_teaches_the_first_request(hierarchy: None, staff: Client) -> None:
    html = staff.get(PAGE).content.decode()
    assert "No certificate yet" in html
    assert "/api/v1/certificates/" in html
    assert "Nothing matches" in staff.get(f"{PAGE}?q=nobody").content.decode()


def test_newest_first_with_their_status(fleet: list[Certificate], staff: Client) -> None:
    assert found(staff) == [row.serial for row in reversed(fleet)]
    assert [row["status"] for row in staff.get(PAGE).context["rows"]] == ["active", "revoked", "active", "active"]


def test_search_and_facets(fleet: list[Certificate], staff: Client) -> None:
    renewed, newer, ended, pair = (row.serial for row in fleet)
    assert found(staff, "?q=b.inter") == [ended]
    assert found(staff, "?q=10.0.0.7") == [pair]
    assert found(staff, f"?q={newer[:20].upper()}") == [newer]
    assert found(staff, f"?q={fleet[0].fingerprint[:16]}") == [renewed]
    assert found(staff, "?owner=alice&service=ledger") == [pair]
    assert found(staff, "?owner=ali") == []
    assert found(staff, "?status=revoked") == [ended]
    assert found(staff, "?profile=peer&q=++c.internal+") == [pair]
    assert found(staff, "?service=payroll&node=n2") == [ended]
    assert found(staff, "?expires=30") == []
    Certificate.objects.filter(serial=pair).update(not_after=datetime.now(UTC) + timedelta(days=29))
    assert found(staff, "?expires=30") == [pair]


def test_pages_follow_one_another(issue: Issue, staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from ca.api import listing

    monkeypatch.setattr(listing, "DEFAULT_LIMIT", 2)
    serials = [issue(f"n{number}.internal").serial for number in range(5)]
    seen, query = [], "?owner=alice"
    while query:
        seen += found(staff, query)
        answer = staff.get(f"{PAGE}{query}")
        cursor = answer.context["cursor"]
        query = f"?owner=alice&cursor={cursor}" if cursor else ""
        assert not query or query.replace("&", "&amp;") in answer.content.decode()
    assert seen == serials[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "?status=good",
        "?profile=admin",
        "?expires=8",
        "?cursor=x",
        "?q=%00",
        "?q=%E2%80%AE",
        "?owner=a%0D%0Ab",
        "?node=%FF",
        "?q=" + "a" * 501,
    ],
)
def test_what_cannot_be_asked_is_400_and_says_why(query: str, staff: Client) -> None:
    for page in (PAGE, "/dashboard/certificates.csv", "/dashboard/certificates.json"):
        assert staff.get(f"{page}{query}").status_code == 400
    answer = staff.get(f"{PAGE}{query}")
    assert answer.context["problem"].where in answer.content.decode()


@pytest.mark.parametrize(
    "query",
    ["_connector=OR&_negated=1&ordering=a.b", "owner__startswith=a", "token=1", "der=", "page=2", "limit=100000", "format=api", "%00=1"],
)
def test_unknown_parameters_change_nothing(query: str, fleet: list[Certificate], staff: Client) -> None:
    assert found(staff, f"?{query}") == [row.serial for row in reversed(fleet)]
    assert staff.get(f"{PAGE}?{query}").context["asked"] == {}


def test_a_page_that_found_none_among_many_leads_on(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from ca.api import listing

    monkeypatch.setattr(listing, "WINDOW", 1)
    answer = staff.get(f"{PAGE}?status=expired")
    assert "None among the 1 certificates looked at" in answer.content.decode()
    assert answer.context["cursor"]


# --- Files


def body(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode()


def test_csv_and_json_say_the_same(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from ca.api import listing

    monkeypatch.setattr(listing, "MAX_LIMIT", 1)  # several pages behind one file
    rows = list(csv.DictReader(StringIO(body(staff.get("/dashboard/certificates.csv?service=payroll")))))
    items = json.loads(body(staff.get("/dashboard/certificates.json?service=payroll")))
    assert [row["serial"] for row in rows] == [item["serial"] for item in items] == [row.serial for row in reversed(fleet[:3])]
    assert rows[0].keys() == items[0].keys() == set(certificates.COLUMNS)
    assert (rows[0]["status"], rows[0]["reason"], rows[0]["names"]) == ("revoked", "superseded", "dns:b.internal")
    assert items[2]["replaced_by"] == fleet[1].serial
    assert items[0]["not_after"] == f"{fleet[2].not_after:%Y-%m-%dT%H:%M:%SZ}"


def test_files_are_files(fleet: list[Certificate], staff: Client) -> None:
    for form, kind in (("csv", "text/csv; charset=utf-8"), ("json", "application/json")):
        answer = staff.get(f"/dashboard/certificates.{form}")
        assert answer["Content-Type"] == kind
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Content-Disposition"].startswith("attachment; ")
    assert json.loads(body(staff.get("/dashboard/certificates.json?q=nobody"))) == []


def test_a_file_has_an_end(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "EXPORTED_AT_MOST", 3)
    assert len(json.loads(body(staff.get("/dashboard/certificates.json")))) == 3


@pytest.mark.parametrize("text", ["a;=1+1", 'a"\t@SUM(A1)', "a,-1", "\uff1d1", "x\r\n+1"])
def test_no_part_of_a_cell_is_a_formula_to_other_separators(text: str) -> None:
    starts = [part[:1] for part in re.split(r'[;,\t\r\n"]', certificates.cell(text)) if part]
    assert not {"=", "+", "-", "@", "\uff1d"} & set(starts)
    assert certificates.cell("dns:a-b.internal 2026-11-29T04:50:08Z a@b") == "dns:a-b.internal 2026-11-29T04:50:08Z a@b"


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_cell_is_a_formula(first: str, staff: Client, fleet: list[Certificate]) -> None:
    Certificate.objects.filter(serial=fleet[0].serial).update(owner=f"{first}HYPERLINK(1)", names=[f"{first}cmd|' /C calc'!A0"])
    text = body(staff.get(f"/dashboard/certificates.csv?q={fleet[0].serial}"))
    _, row = csv.reader(StringIO(text, newline=""))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row)
    assert f"'{first}HYPERLINK(1)" in row


# --- One certificate


def page_of(staff: Client, certificate: Certificate) -> Any:
    answer = staff.get(f"{PAGE}{certificate.serial}/")
    assert answer.status_code == 200
    return answer


def test_what_it_says(fleet: list[Certificate], staff: Client) -> None:
    answer = page_of(staff, fleet[3])
    html = answer.content.decode()
    for text in (
        "DNS c.internal",
        "IP 10.0.0.7",
        "elliptic curve secp256r1, 256 bits",
        "serverAuth",
        "not a CA",
        "critical",
        "Signature algorithm",
    ):
        assert text in html, text
    assert f'<time datetime="{fleet[3].not_after:%Y-%m-%dT%H:%M:%SZ}" title="{fleet[3].not_after:%Y-%m-%d %H:%M:%S} UTC">' in html
    assert fleet[3].serial in html


def test_the_proof_is_checked(fleet: list[Certificate], staff: Client) -> None:
    steps = page_of(staff, fleet[0]).context["steps"]
    assert [step.ok for step in steps] == [True] * 4


def test_a_row_that_is_not_what_was_logged_is_seen(fleet: list[Certificate], staff: Client) -> None:
    Certificate.objects.filter(serial=fleet[0].serial).update(der=bytes(fleet[1].der))
    answer = page_of(staff, fleet[0])
    assert [step.ok for step in answer.context["steps"]] == [False, True, True, True]
    assert "fails" in answer.content.decode()


def test_status_as_served(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/dashboard/certificates/{fleet[3].serial}/status/"

    def words(query: str = "") -> dict[str, tuple[str, bool]]:
        return {word.channel.split()[0]: (word.verdict, word.ok) for word in staff.get(path + query).context["words"]}

    assert f'hx-get="{path}" hx-trigger="load"' in page_of(staff, fleet[3]).content.decode()

    assert words()["CRL"] == ("none published yet", False)
    crls.publish_due(datetime.now(UTC) + timedelta(seconds=1))
    assert words() == {"OCSP": ("good", True), "CRL": ("not listed", True)}
    assert staff.get(path, headers={"HX-Request": "true"}).content.decode().startswith('<section class="card" id="status">')
    monkeypatch.setattr(status, "LARGEST", 10)
    assert words()["CRL"] == ("not looked up", True), "a CRL may have many megabytes"
    assert words("?crl=whole")["CRL"] == ("not listed", True)
    revoked(fleet[3], datetime.now(UTC))
    assert words()["OCSP"] == ("no answer yet", False), "withdrawn: never good once it is revoked"
    assert "Revoked" in page_of(staff, fleet[3]).content.decode()


def test_lineage_leads_both_ways(fleet: list[Certificate], staff: Client) -> None:
    for one in fleet[:2]:
        assert [each.serial for each in page_of(staff, one).context["lineage"]] == [row.serial for row in fleet[:2]]
    assert page_of(staff, fleet[3]).context["timeline"] is None


def test_its_events(fleet: list[Certificate], staff: Client) -> None:
    events = page_of(staff, fleet[2]).context["events"]
    assert [each.type for each in events] == ["certificate.revoked", "certificate.issued", "issuance.intended"]


def test_downloads(fleet: list[Certificate], staff: Client, tmp_path: Path) -> None:
    one = fleet[1]

    def get(form: str) -> Any:
        answer = staff.get(f"{PAGE}{one.serial}.{form}")
        assert f'filename="{one.serial}.{form}"' in answer["Content-Disposition"]
        return answer

    assert get("der").content == bytes(one.der)
    assert x509.load_pem_x509_certificate(get("pem").content) == x509.load_der_x509_certificate(bytes(one.der))
    chain = x509.load_pem_x509_certificates(get("chain.pem").content)
    assert len(chain) == 2
    chain[0].verify_directly_issued_by(chain[1])
    receipt = json.loads(get("receipt.json").content)
    assert receipt["position"] == one.log_position
    notes.parse(receipt["tlog_proof"].partition("\n\n")[2]).verify(receipt["log_key"])


def test_leading_zeros_may_be_missing(fleet: list[Certificate], staff: Client) -> None:
    assert staff.get(f"{PAGE}{fleet[0].serial.lstrip('0')}/").status_code == 200
