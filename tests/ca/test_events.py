"""The events of ca: each version ever written has a schema and a recorded example that is still read; nothing new is
written that its schema does not describe."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.db import transaction

import ca
from ca import events
from ca.models import Certificate, Token
from ca.pki import reasons
from eventlog import canonical, projections, schemas
from eventlog.append import NewEvent, append
from eventlog.models import Event

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(ca.__file__).parent / "schemas").glob("*.json")}
RECORDED = {path.stem: path.read_bytes().rstrip(b"\n") for path in (Path(__file__).parent / "recorded").glob("*.json")}
CLASSES = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event) and kind is not events.Event]


def test_every_version_has_an_example() -> None:
    assert SCHEMAS.keys() == RECORDED.keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_canonical_and_fits_its_schema(name: str) -> None:
    body = json.loads(RECORDED[name])
    jsonschema.validate(body["data"], SCHEMAS[name], cls=jsonschema.Draft202012Validator)
    assert canonical.encode(body) == RECORDED[name]
    assert SCHEMAS[name]["$id"] == body["schema"]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_fields_are_those_of_the_newest_schema(kind: type[events.Event]) -> None:
    schema = SCHEMAS[kind.schema.removeprefix("quicklime/").replace("/", "-")]
    names = [field.name for field in fields(kind)]
    assert list(schema["properties"]) == schema["required"] == names


@pytest.mark.django_db
@pytest.mark.unjudged("appends recorded events that no request led to")
def test_old_examples_still_build_the_inventory() -> None:
    order = ("issuer.added", "issuer.activated", "token.created", "issuance.intended", "certificate.issued", "key.blocked")
    bodies = [json.loads(RECORDED[f"{kind}-1-0-0"]) for kind in order]
    newest = [(body["subject"], *schemas.upcast(body["schema"], body["data"])) for body in bodies]
    with transaction.atomic():
        append([NewEvent(schema, subject, data) for subject, schema, data in newest], datetime(2026, 1, 1, tzinfo=UTC))
    assert Certificate.objects.get().serial == bodies[4]["subject"]
    assert Token.objects.get().owner == bodies[2]["data"]["owner"]
    assert projections.rebuild("ca") == len(order)
    assert Certificate.objects.get().names == bodies[4]["data"]["names"]


@pytest.mark.django_db
@pytest.mark.unjudged("appends recorded events that no request led to")
def test_a_certificate_of_the_first_version_and_one_of_today_become_the_same_row() -> None:
    old, new = (json.loads(RECORDED[f"certificate.issued-{version}"])["data"] for version in ("1-0-0", "1-0-2"))
    schema, upcast = schemas.upcast("quicklime/certificate.issued/1-0-0", old)
    assert schema == events.CertificateIssued.schema
    assert upcast == new | {"crl_shard": None, "challenge_password_hash": None}
    assert schemas.upcast("quicklime/certificate.issued/1-0-1", {name: new[name] for name in new if name != "renew_by"}) == (schema, new)
    with transaction.atomic():
        append([NewEvent(schema, old["serial"], new)], datetime(2026, 1, 1, tzinfo=UTC))
    assert bytes(Certificate.objects.get().challenge_password_hash or b"").hex() == new["challenge_password_hash"]


@pytest.mark.django_db
@pytest.mark.unjudged("appends recorded events that no request led to")
def test_examples_of_revocation_build_the_inventory() -> None:
    bodies = [json.loads(RECORDED[kind]) for kind in ("certificate.issued-1-0-2", "certificate.revoked-1-0-0")]
    escalated = json.loads(RECORDED["revocation.escalated-1-0-0"])
    first, second = datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 2, tzinfo=UTC)
    with transaction.atomic():
        append([NewEvent(body["schema"], body["subject"], body["data"]) for body in bodies], first)
    assert Certificate.objects.get().reason == "superseded"
    with transaction.atomic():
        append([NewEvent(escalated["schema"], escalated["subject"], escalated["data"])], second)
    for _ in range(2):
        certificate = Certificate.objects.get()
        assert (certificate.revoked_at, certificate.reason) == (first, "keyCompromise")
        projections.rebuild("ca")


def test_the_reasons_and_ways_of_the_rules_are_those_of_the_schemas() -> None:
    for name in ("certificate.revoked-1-0-0", "revocation.ordered-1-0-0"):
        assert SCHEMAS[name]["properties"]["reason"]["enum"] == list(reasons.CODES)
        assert SCHEMAS[name]["properties"]["way"]["enum"] == list(reasons.PERMITTED)


@pytest.mark.django_db
def test_what_is_written_now_fits_its_schema(hierarchy: None) -> None:
    for body in Event.objects.values_list("body", flat=True):
        event: dict[str, Any] = json.loads(bytes(body))
        jsonschema.validate(event["data"], SCHEMAS[event["schema"].removeprefix("quicklime/").replace("/", "-")])
