"""Which events there are: every version of every type that was ever written, and how to read an old one today.

Owns the registry. A version is a JSON Schema file `<type>-<MODEL>-<REVISION>-<ADDITION>.json` (SchemaVer), which names itself by
its `$id` = "quicklime/<type>/<MODEL>-<REVISION>-<ADDITION>". Files are never changed or removed, and each version but
the newest has an upcaster to the next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Data = dict[str, Any]
Upcaster = Callable[[Data], Data]

_FILE = re.compile(r"([a-z_]+\.[a-z_]+)-(\d+)-(\d+)-(\d+)\.json", re.ASCII)
_NAME = re.compile(r"quicklime/([a-z_]+\.[a-z_]+)/(\d+)-(\d+)-(\d+)", re.ASCII)


class UnknownSchema(ValueError):
    """This code does not know the schema: it was written by newer code, or never registered."""


class Version(NamedTuple):
    """SchemaVer: a MODEL change breaks readers, a REVISION may, an ADDITION does not."""

    model: int
    revision: int
    addition: int

    def __str__(self) -> str:
        return f"{self.model}-{self.revision}-{self.addition}"


class _Type(NamedTuple):
    """One event type: its versions, oldest first, the file of each, and the upcaster from each but the newest."""

    files: dict[Version, Path]
    upcasters: dict[Version, Upcaster]

    @property
    def newest(self) -> Version:
        return next(reversed(self.files))


_types: dict[str, _Type] = {}
_newest: dict[str, str] = {}  # type → name of its newest version: what append may write


def register_directory(path: Path, upcasters: Mapping[str, Upcaster] | None = None) -> None:
    """Register every schema file in `path`. `upcasters`: schema name → function from its data to the next version's.

    Raises ValueError for a file name that is no version, and for a version without its upcaster.
    """
    found: dict[str, dict[Version, Path]] = {}
    for file in path.glob("*.json"):
        kind, version = _parse(_FILE, file.name)
        found.setdefault(kind, {})[version] = file
    steps = {_parse(_NAME, name): step for name, step in (upcasters or {}).items()}
    for kind, files in found.items():
        versions = sorted(files)
        missing = [version for version in versions[:-1] if (kind, version) not in steps]
        if missing:
            raise ValueError(f"{kind} {missing[0]} has no upcaster to the next version")
        _types[kind] = _Type({v: files[v] for v in versions}, {v: steps[kind, v] for v in versions[:-1]})
        _newest[kind] = _name(kind, versions[-1])


def types() -> list[str]:
    """Every registered event type, by name."""
    return sorted(_types)


def type_to_write(schema: str) -> str:
    """The event type of `schema`, which must be the newest version of a registered type; else raises UnknownSchema."""
    kind = _kind(schema)
    if _newest.get(kind) != schema:
        raise UnknownSchema(f"{schema} is not the newest version of a registered event type")
    return kind


def upcast(schema: str, data: Data) -> tuple[str, Data]:
    """`data` of any version of a known MODEL as the newest version known here: (schema name, data).

    A later REVISION or ADDITION, written by newer code while this still runs, is read as it is. Raises UnknownSchema for an
    unknown type or MODEL: whoever reads must stop there, since skipping would lose the event for good.
    """
    if _newest.get(_kind(schema)) == schema:
        return schema, data
    kind, version = parse(schema)
    known = _types.get(kind)
    if known is None or version.model not in {v.model for v in known.files}:
        raise UnknownSchema(f"{schema} is not known to this version of the program")
    if version > known.newest:
        return schema, data
    if version not in known.files:
        raise UnknownSchema(f"{schema} was never registered")
    for step, upcaster in known.upcasters.items():
        if step >= version:
            data = upcaster(data)
    return _name(kind, known.newest), data


def require_type(kind: str) -> None:
    """Raises UnknownSchema for an event type of which no version is registered."""
    if kind not in _types:
        raise UnknownSchema(f"{kind} is not known to this version of the program")


def document(schema: str) -> dict[str, Any]:
    """The JSON Schema of `schema`'s data. Raises UnknownSchema."""
    kind, version = parse(schema)
    try:
        text = _types[kind].files[version].read_text()
    except KeyError:
        raise UnknownSchema(f"{schema} is not registered") from None
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def registered() -> list[str]:
    """Names of all registered versions, sorted."""
    return sorted(_name(kind, version) for kind, known in _types.items() for version in known.files)


def parse(schema: str) -> tuple[str, Version]:
    """("certificate.issued", Version(1, 0, 0)) of "quicklime/certificate.issued/1-0-0". Raises ValueError."""
    return _parse(_NAME, schema)


def _kind(schema: str) -> str:
    """The type of a schema's name, if it is one."""
    return schema.partition("/")[2].partition("/")[0]


def _name(kind: str, version: Version) -> str:
    return f"quicklime/{kind}/{version}"


def _parse(pattern: re.Pattern[str], text: str) -> tuple[str, Version]:
    match = pattern.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} names no schema version")
    return match[1], Version(int(match[2]), int(match[3]), int(match[4]))
