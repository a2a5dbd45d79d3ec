"""`quicklime trust`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options, pinning
from .failures import reported


def trust(
    url: Annotated[str, typer.Argument(help="The server's address, https://HOST[:PORT].")],
    fingerprint: Annotated[str, typer.Option(help="SHA-256 of the root certificate, in hex, with or without colons.")],
    state: options.State = None,
) -> None:
    """Trust a server, known by the fingerprint of its root certificate.

    Fetches the root, compares its SHA-256 with the fingerprint, and only then pins it: from then on this root alone vouches for the
    server. Get the fingerprint by other means than this network, for example from the greeting of `quicklime up`.

    \b
    Example:
      quicklime trust https://ca.internal:8443 --fingerprint 5E:0C:…:9A
    """
    with reported():
        store = options.store(state)
        trusted = pinning.pinned(url, fingerprint)
        store.save_trust(trusted)
        typer.echo(f"trusted: {trusted.url}")
        typer.echo(f"  root     {trusted.anchor.subject.rfc4514_string()}, until {trusted.anchor.not_valid_after_utc:%Y-%m-%d}")
        typer.echo(f"  kept in  {store.directory}")
        typer.echo("next: quicklime request --service NAME --node NAME --name HOST")
