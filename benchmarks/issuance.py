"""Durable issuance, one signing request per POST, over keep-alive connections; Quicklime and two peers in the same run."""

from __future__ import annotations

from benchmarks.cfssl import Cfssl
from benchmarks.djangoca import DjangoCA
from benchmarks.failure import Failed
from benchmarks.quicklime import Quicklime
from benchmarks.results import Section

CONNECTIONS = (1, 16, 64)
WARM_UP_SECONDS = 3

System = Quicklime | Cfssl | DjangoCA


def run(section: Section) -> None:
    """Rows "<system>, <connections>" of the section."""
    for system in (Cfssl(stored=True), DjangoCA(), Quicklime()):
        measure(section, system, CONNECTIONS)


def peers(section: Section) -> None:
    """The peers alone."""
    for system in (Cfssl(stored=True), Cfssl(stored=False), DjangoCA()):
        measure(section, system, CONNECTIONS)


def own(section: Section) -> None:
    """Quicklime alone, for who works on it."""
    measure(section, Quicklime(), CONNECTIONS)


def measure(section: Section, system: System, connections: tuple[int, ...]) -> None:
    """Start the system, warm it up, and take a row for each number of connections that the section lacks."""
    if all(key(system.name, number) in section.rows for number in connections):
        return
    print(f"  {section.name}: starting {system.name}", flush=True)
    with system:
        section.facts.update(system.facts())
        warm_up(system)
        for number in connections:
            row = section.measure(key(system.name, number), lambda number=number: checked(system, number, section.options.seconds))
            row.update(system=system.name, connections=number)
            section.save()


def key(name: str, connections: int) -> str:
    """The name of a row."""
    return f"{name}, {connections}"


def warm_up(system: System) -> None:
    """Load until something was answered: peers load their applications with the first requests."""
    for _ in range(5):
        if system.run(8, WARM_UP_SECONDS)["answered"]:
            return
    raise Failed(f"{system.name} answers nothing")


def checked(system: System, connections: int, seconds: int) -> dict[str, object]:
    """A run that counts only if everything answered is stored and nothing was refused."""
    row = system.run(connections, seconds)
    if row["stored"] not in (None, row["answered"]):
        raise Failed(f"{system.name}: answered {row['answered']} certificates, {row['stored']} of them are in its database")
    if row["refused"]:
        print(f"  {system.name}: {row['refused']} answers without a certificate {row.get('statuses', '')}", flush=True)
    return row
