"""`quicklime status`: how this node's certificates are, as a table, as JSON and as an exit status."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import health, options, spans
from .failures import reported
from .health import Finding, Level
from .store import Store

_STYLE = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "bold red", Level.UNKNOWN: "magenta"}


def status(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table; no secrets in it.")] = False,
    state: options.State = None,
) -> None:
    """Show this node's certificates. Asks no server.

    \b
    Exit status, as monitoring plugins have it; the gravest counts:
      0  all is well
      1  warning: an attempt failed, a renewal is overdue, the service was not told, or serves another certificate
      2  critical: expired, revoked, none yet, not in place, or less than a sixth of life left
      3  unknown: a record cannot be read, or there is no certificate at all

    \b
    Examples:
      quicklime status
      quicklime status --json | jq '.certificates[] | select(.level != "ok")'
    """
    with reported(Level.UNKNOWN):
        store, now = options.store(state), datetime.now(UTC)
        findings = health.judged(store, now)
        if as_json:
            _print_json(findings)
        else:
            _print_table(store, findings, now)
        raise typer.Exit(health.worst(findings))


def _print_json(findings: list[Finding]) -> None:
    shown = {"level": health.worst(findings).name.lower(), "certificates": [health.as_dict(finding) for finding in findings]}
    typer.echo(json.dumps(shown, indent=2))


def _print_table(store: Store, findings: list[Finding], now: datetime) -> None:
    if not findings:
        typer.echo(f"no certificates in {store.directory}; get one with `quicklime request`")
        return
    console = Console(soft_wrap=False)
    table = Table("certificate", "serial", "gen.", "expires in", "renewal in", "served", "state", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(*_row(finding, now))
    console.print(table)
    for finding in findings:
        for remark in finding.remarks:
            console.print(Text(f"{finding.label}: {remark}", style=_STYLE[finding.level]), soft_wrap=True)


def _row(finding: Finding, now: datetime) -> list[Text]:
    pair = finding.record and finding.record.current
    cells = ["-"] * 4
    if pair:
        cells = [f"{pair.serial[:12]}…", str(pair.generation), spans.text(pair.not_after - now), spans.text(pair.renew_at - now)]
    level = Text(finding.level.name.lower(), style=_STYLE[finding.level])
    return [Text(finding.label), *map(Text, cells), Text(_served(finding)), level]


def _served(finding: Finding) -> str:
    record = finding.record
    if record is None or record.served is None or record.current is None:
        return "-"
    if record.served.error:
        return "no answer"
    return "yes" if record.served.serial == record.current.serial else "another"
