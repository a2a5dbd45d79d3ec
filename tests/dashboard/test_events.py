"""The events of dashboard: each version ever written has a schema and a recorded example that is still read."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

import dashboard
from ca.events import Event
from dashboard import events
from dashboard.thresholds import NAMES
from eventlog import canonical, schemas

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(dashboard.__file__).parent / "schemas").glob("*.json")}
RECORDED = {path.stem: path.read_bytes().rstrip(b"\n") for path in (Path(__file__).parent / "recorded").glob("*.json")}
CLASSES = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event]


def test_every_version_has_an_example() -> None:
    assert SCHEMAS.keys() == RECORDED.keys()


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_example_is_canonical_and_fits_its_schema(name: str) -> None:
    body = json.loads(RECORDED[name])
    jsonschema.validate(body["data"], SCHEMAS[name], cls=jsonschema.Draft202012Validator)
    assert canonical.encode(body) == RECORDED[name]
    assert SCHEMAS[name]["$id"] == body["schema"]
    assert schemas.upcast(body["schema"], body["data"]) == (body["schema"], body["data"])


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_fields_are_those_of_the_newest_schema(kind: type[Event]) -> None:
    schema = SCHEMAS[kind.schema.removeprefix("quicklime/").replace("/", "-")]
    assert list(schema["properties"]) == schema["required"] == [field.name for field in fields(kind)]


def test_the_thresholds_of_the_schemas_are_those_of_the_table() -> None:
    for schema in SCHEMAS.values():
        assert schema["properties"].get("threshold", {"enum": list(NAMES)})["enum"] == list(NAMES)
