"""Versions of events: every one ever written is described, has an example and can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.db import transaction

from eventlog import events, projections, schemas
from eventlog.append import NewEvent, append
from eventlog.projections import Projection

from .support import NOW

Data = dict[str, Any]
MOVED = "quicklime/node.moved/{}"
EXAMPLES = Path(__file__).parent / "examples"

STEPS: dict[str, schemas.Upcaster] = {
    MOVED.format("1-0-0"): lambda data: {**data, "reason": ""},
    MOVED.format("1-0-1"): lambda data: {**data, "to": data["to"].lower()},
    MOVED.format("1-1-0"): lambda data: {"node": data["name"], "to": data["to"], "reason": data["reason"]},
}
VERSIONS = ("1-0-0", "1-0-1", "1-1-0", "2-0-0")


@pytest.fixture
def versions(tmp_path: Path) -> Callable[..., None]:
    def register(*wanted: str) -> None:
        directory = tmp_path / "-".join(wanted)
        directory.mkdir()
        for version in wanted:
            (directory / f"node.moved-{version}.json").write_text(json.dumps({"$id": MOVED.format(version), "type": "object"}))
        schemas.register_directory(directory, {name: step for name, step in STEPS.items() if name[-5:] in wanted[:-1]})

    return register


def test_each_version_is_read_as_the_newest(versions: Callable[..., None]):
    versions(*VERSIONS)
    newest = (MOVED.format("2-0-0"), {"node": "n", "to": "berlin", "reason": ""})
    assert schemas.upcast(MOVED.format("1-0-0"), {"name": "n", "to": "Berlin"}) == newest
    assert schemas.upcast(MOVED.format("1-0-1"), {"name": "n", "to": "Berlin", "reason": ""}) == newest
    assert schemas.upcast(MOVED.format("1-1-0"), {"name": "n", "to": "berlin", "reason": ""}) == newest
    assert schemas.upcast(*newest) == newest


def test_a_later_addition_or_revision_is_read_as_it_is(versions: Callable[..., None]):
    versions("1-0-0", "1-0-1")
    for version in ("1-0-2", "1-3-0"):
        assert schemas.upcast(MOVED.format(version), {"name": "n", "more": 1}) == (MOVED.format(version), {"name": "n", "more": 1})


@pytest.mark.parametrize("schema", [MOVED.format("2-0-0"), MOVED.format("0-1-0"), "quicklime/node.unheard_of/1-0-0"])
def test_an_unknown_model_or_type_is_not_read(versions: Callable[..., None], schema: str):
    versions("1-0-0", "1-0-1")
    with pytest.raises(schemas.UnknownSchema):
        schemas.upcast(schema, {})


def test_a_gap_between_known_versions_is_not_read(versions: Callable[..., None]):
    versions("1-0-0", "1-1-0")
    with pytest.raises(schemas.UnknownSchema):
        schemas.upcast(MOVED.format("1-0-1"), {})


def test_versions_sort_as_numbers(versions: Callable[..., None]):
    with pytest.raises(ValueError, match=r"1-0-9 has no upcaster"):
        versions("1-0-10", "1-0-9")


def test_a_step_without_an_upcaster_is_refused(tmp_path: Path):
    for version in ("1-0-0", "1-0-1"):
        (tmp_path / f"node.moved-{version}.json").write_text("{}")
    with pytest.raises(ValueError, match=r"node\.moved 1-0-0 has no upcaster"):
        schemas.register_directory(tmp_path)


@pytest.mark.parametrize(
    "name", ["node.moved.json", "node.moved-1-0.json", "node-1-0-0.json", "Node.Moved-1-0-0.json", "node.moved-1-0-0-0.json"]
)
def test_a_stray_file_is_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="names no schema version"):
        schemas.register_directory(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "certificate.issued",
        "quicklime/certificate.issued",
        "quicklime/a.b/1-0",
        "other/a.b/1-0-0",
        "quicklime/a.b/1-0-0\n",
        "quicklime/a.b/١-0-0",
    ],
)
def test_not_a_schema_name(name: str):
    with pytest.raises(ValueError, match="names no schema version"):
        schemas.parse(name)


@pytest.mark.django_db
def test_an_event_written_by_old_code_reaches_todays_handler(versions: Callable[..., None]):
    versions("1-0-0")
    with transaction.atomic():
        append([NewEvent(MOVED.format("1-0-0"), "n", {"name": "n", "to": "Berlin"})], NOW)
    versions(*VERSIONS)
    with transaction.atomic():
        append([NewEvent(MOVED.format("2-0-0"), "n", {"node": "n", "to": "rome", "reason": "sun"})], NOW)
    got: list[tuple[str, Data, bytes]] = []
    projections.register(Projection("p", {"node.moved": lambda run: got.extend((e.schema, e.data, e.body) for e in run)}, ()))
    projections.catch_up("p")
    assert [(schema, data["to"]) for schema, data, _ in got] == [(MOVED.format("2-0-0"), "berlin"), (MOVED.format("2-0-0"), "rome")]
    assert b'"Berlin"' in got[0][2], "the bytes that were hashed stay as they are"


def test_each_own_version_has_a_schema_that_fits_its_recorded_example():
    """Recorded when the version was new, never changed since: if today's code cannot read it, old logs are lost."""
    own = [name for name in schemas.registered() if "/log." in name]
    assert own
    for name in own:
        kind, version = schemas.parse(name)
        body = (EXAMPLES / f"{kind}-{version}.json").read_bytes()
        recorded = json.loads(body)
        document = schemas.document(name)
        jsonschema.Draft202012Validator.check_schema(document)
        assert document["$id"] == name == recorded["schema"]
        jsonschema.validate(recorded["data"], document)
        assert events.envelope(NewEvent(name, recorded["subject"], recorded["data"]), recorded["time"]) == body
        jsonschema.validate(schemas.upcast(name, recorded["data"])[1], schemas.document(schemas.upcast(name, recorded["data"])[0]))


def test_document_of_an_unknown_version():
    for name in ("quicklime/log.loss_accepted/9-0-0", "quicklime/node.unheard_of/1-0-0"):
        with pytest.raises(schemas.UnknownSchema):
            schemas.document(name)
