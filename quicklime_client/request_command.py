"""`quicklime request`: what was asked for becomes a record, a request and a pair in place."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

import typer

from . import api, enrolment, options, pairs, served, spans
from .failures import Failure, Refused, reported
from .records import Place, Record, Wanted
from .store import Store, label_of

Layout = Literal["nginx", "haproxy", "pkcs12", "separate"]
KeyType = Literal["P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"]
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)


def request(
    service: Annotated[str, typer.Option(metavar="NAME", help="The service that the certificate is for, as in the lists of the server.")],
    name: Annotated[list[str] | None, typer.Option(metavar="HOST", help="DNS name in the certificate; repeat it for more.")] = None,
    ip: Annotated[list[str] | None, typer.Option(metavar="ADDRESS", help="IP address in the certificate; repeat it for more.")] = None,
    node: Annotated[str, typer.Option(metavar="NAME", help="This node's name.", show_default="the host name")] = "",
    profile: Annotated[str, typer.Option(metavar="NAME", help="Kind of certificate: server, client, peer or short-lived.")] = "server",
    key_type: Annotated[KeyType, typer.Option(help="Kind of key, made here.", case_sensitive=False)] = "P-256",
    layout: Annotated[Layout, typer.Option(help="Which files the service wants, see below.")] = "nginx",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of the files.", show_default="pairs/LABEL in the state")
    ] = None,
    reload: Annotated[str | None, typer.Option(metavar="COMMAND", help="Shell command that tells the service of a renewed pair.")] = None,
    serves: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the agent looks whether the certificate is served.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="LABEL", help="What to call it here.", show_default="the first name")] = None,
    new: Annotated[bool, typer.Option("--new", help="Ask anew, even if the certificate lives: where it cannot be renewed.")] = False,
    wait: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time to wait for the certificate.")] = 60,
    token_file: options.TokenFile = None,
    state: options.State = None,
) -> None:
    """Request a certificate for this node and put it in place.

    The key is made here and never leaves. Run again, the same command changes nothing while the certificate lives, and continues
    where it was interrupted; with other names it asks for another certificate, with another --out or --layout it puts the pair there.

    \b
    Layouts, all below OUT/current, which changes as a whole:
      nginx     key.pem, fullchain.pem (certificate and intermediates)
      haproxy   combined.pem (certificate, intermediates, key)
      pkcs12    keystore.p12 for Java; its password is the line in OUT/keystore.password
      separate  key.pem, cert.pem, chain.pem
    Every file that holds a key has the mode 0600.

    \b
    Examples:
      quicklime request --service payroll --node payroll-1 --name payroll.internal \\
          --reload 'systemctl reload nginx' --serves localhost:443
      quicklime request --service ledger --name ledger.internal --ip 10.0.0.7 --layout pkcs12 --out /srv/ledger/tls
    """
    with reported():
        store, now = options.store(state), datetime.now(UTC)
        wanted = _wanted(name or [], ip or [], service, node or socket.gethostname(), profile, key_type)
        label = label_of([*wanted.names, *wanted.ips][0]) if label is None else label
        place = Place(layout, str(out.absolute() if out else store.out(label)), reload, serves)
        _check_place(store, label, place)
        with store.locked(label):
            record = _requested(store, enrolment.planned(store.find(label), label, wanted, place, new, now), token_file, wait, now)
            record = enrolment.install(store, record)
        show(record, now)


def _wanted(names: list[str], ips: list[str], service: str, node: str, profile: str, key_type: KeyType) -> Wanted:
    if not names and not ips:
        raise Failure("nothing to certify", "there is no name", "give --name HOST, or --ip ADDRESS")
    return Wanted(tuple(map(_host, names)), tuple(map(_address, ips)), service, node, profile, key_type)


def _host(text: str) -> str:
    if len(text) > 253 or not _HOST.fullmatch(text.lower()):
        raise Failure(f"the name {text!r}", "it is no DNS name", "write international names in their xn-- form, addresses with --ip")
    if text.rpartition(".")[2].isdigit():  # RFC 1123 §2.1
        raise Failure(f"the name {text!r}", "it ends in a number, as addresses do", "write addresses with --ip")
    return text.lower()


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise Failure(f"the address {text!r}", "it is no IP address", "write names with --name") from None


def _check_place(store: Store, label: str, place: Place) -> None:
    """What would fail later is said before a certificate is asked for."""
    if place.serves:
        served.address(place.serves)
    for other in store.labels():
        record = store.find(other) if other != label else None
        if record and record.place.out == place.out:
            raise Failure(f"{place.out} is in use", f"the pair of {other} goes there", "choose another --out")
    pairs.prepare(place)


def _requested(store: Store, record: Record, token_file: Path | None, patience: float, now: datetime) -> Record:
    """The record with a certificate. Raises Failure."""
    before, trust = store.find(record.label), store.trust()
    with api.Server(trust, options.token(token_file, store)) as server:
        store.save(record)
        try:
            return enrolment.obtain(store, server, record, trust.anchor, patience, now) if record.pending else record
        except Refused as refusal:
            _give_up(store, record, before, refusal.stored)
            raise


def _give_up(store: Store, record: Record, before: Record | None, stored: bool) -> None:
    """A refusal of what was asked for just now leaves everything as it was, so that the agent does not ask again and again for
    a mistyped name. What had been asked for before may have been granted in an answer that was lost, so it is given up only
    if the server keeps it as rejected."""
    if before is None or before.pending != record.pending:
        kept = before
    elif stored:
        kept = replace(record, pending=None) if record.current else None
    else:
        kept = record
    if kept:
        store.save(kept)
    else:
        store.forget(record.label)


def show(record: Record, now: datetime) -> None:
    """Say what there is now and how to use it."""
    pair = record.current
    assert pair
    typer.echo(f"{record.label}: generation {pair.generation}, serial {pair.serial}")
    typer.echo(f"  expires   {pair.not_after:%Y-%m-%d %H:%M} UTC, in {spans.text(pair.not_after - now)}")
    typer.echo(f"  renewal   {pair.renew_at:%Y-%m-%d %H:%M} UTC, by `quicklime agent`")
    typer.echo(f"  files     {record.place.out}/current")
    for line in pairs.usage(record.place):
        typer.echo(f"    {line}")
