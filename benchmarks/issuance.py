"""Durable issuance, one signing request per POST, over keep-alive connections; Quicklime and two peers in the same run."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.cfssl import Cfssl
from benchmarks.djangoca import DjangoCA
from benchmarks.failure import Failed, Paused
from benchmarks.quicklime import Quicklime
from benchmarks.results import Row, Section, median, undisturbed

CONNECTIONS = (1, 16, 64)
WARM_UP_SECONDS = 3

System = Quicklime | Cfssl | DjangoCA


def checked(system: System, connections: int, seconds: int) -> Row:
    """A run that counts only if everything answered is stored and nothing was refused."""
    row = system.run(connections, seconds)
    if row["stored"] not in (None, row["answered"]):
        raise Failed(f"{system.name}: answered {row['answered']} certificates, {row['stored']} of them are in its database")
    if row["refused"]:
        print(f"  {system.name}: {row['refused']} answers without a certificate {row.get('statuses', '')}", flush=True)
    return row


class Contender(NamedTuple):
    """A system that is started for each round, and its runs."""

    make: Callable[[], System]
    connections: tuple[int, ...] = CONNECTIONS
    take: Callable[..., Row] = checked


def stored_cfssl() -> Cfssl:
    return Cfssl(stored=True)


def stateless_cfssl() -> Cfssl:
    return Cfssl(stored=False)


def run(section: Section) -> None:
    """Rows "<system>, <connections>" of the section."""
    compare(section, [Contender(stored_cfssl), Contender(DjangoCA), Contender(Quicklime)])


def peers(section: Section) -> None:
    """The peers alone."""
    compare(section, [Contender(stored_cfssl), Contender(stateless_cfssl), Contender(DjangoCA)])


def own(section: Section) -> None:
    """Quicklime alone, for who works on it."""
    compare(section, [Contender(Quicklime)])


def compare(section: Section, contenders: Sequence[Contender]) -> None:
    """A row for each system and number of connections, with the rate of each round. In a round all systems have their turn, so that a
    machine whose speed changes is the same for all."""
    taken: dict[str, list[Row]] = defaultdict(list)
    about: dict[str, Row] = {}
    names = {contender.make: contender.make().name for contender in contenders}
    if all(key(names[each.make], number) in section.rows for each in contenders for number in each.connections):
        return
    for number in range(section.options.runs):
        for contender in contenders:
            if time.monotonic() > section.options.until:
                raise Paused
            print(f"  {section.name}: round {number + 1} of {section.options.runs}: starting {names[contender.make]}", flush=True)
            with contender.make() as system:
                section.facts.update(system.facts())
                warm_up(system)
                for connections in contender.connections:
                    row = key(system.name, connections)
                    about[row] = {"system": system.name, "connections": connections}
                    one = _once(section, contender, system, connections, row)
                    print(f"  {row}: {one['per_second']:,.0f}/s", flush=True)
                    taken[row].append(one)
    for row, runs in taken.items():
        section.record(row, {**median(runs), **about[row], "rounds": [run["per_second"] for run in runs]})


def _once(section: Section, contender: Contender, system: System, connections: int, row: str) -> Row:
    asked = section.options
    return undisturbed(lambda: contender.take(system, connections, asked.seconds), asked.tries, f"{section.name}: {row}")


def ratio(own: Row, other: Row) -> float:
    """The median of the rounds' ratios of the rates."""
    return statistics.median(mine / theirs for mine, theirs in zip(own["rounds"], other["rounds"], strict=True))


def key(name: str, connections: int) -> str:
    """The name of a row."""
    return f"{name}, {connections}"


def warm_up(system: System) -> None:
    """Load until something was answered: peers load their applications with the first requests."""
    for _ in range(5):
        if system.run(8, WARM_UP_SECONDS)["answered"]:
            return
    raise Failed(f"{system.name} answers nothing")
