"""Options that several commands share: the state directory, the label, the token.

Owns where a token may come from. Must never take one from the command line, which every user of the machine can read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from .failures import Failure
from .store import Store, default_directory

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,200}", re.ASCII)  # RFC 6750 §2.1

State = Annotated[
    Path | None,
    typer.Option(
        envvar="QUICKLIME_CLIENT_STATE",
        help="Directory of what the client keeps. [default: /var/lib/quicklime for root, else ~/.local/state/quicklime]",
        show_default=False,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="QUICKLIME_TOKEN_FILE",
        help="File with the API token. Without it: the variable QUICKLIME_TOKEN, then the file `token` in the state directory.",
        show_default=False,
    ),
]


def store(state: Path | None) -> Store:
    """The state directory that was asked for."""
    return Store(state or default_directory())


def known_labels(context: typer.Context, incomplete: str) -> list[str]:
    """For completion in a shell."""
    try:
        return [label for label in store(context.params.get("state")).labels() if label.startswith(incomplete)]
    except OSError:
        return []


Label = Annotated[str, typer.Argument(help="The certificate, as `quicklime status` names it.", autocompletion=known_labels)]


def token(file: Path | None, where: Store) -> str | None:
    """The API token, or None if there is none anywhere. Raises Failure, OSError."""
    if file:
        return _checked(file.read_text(errors="replace"), str(file))
    if os.environ.get("QUICKLIME_TOKEN"):
        return _checked(os.environ["QUICKLIME_TOKEN"], "QUICKLIME_TOKEN")
    kept = where.directory / "token"
    return _checked(kept.read_text(errors="replace"), str(kept)) if kept.exists() else None


def _checked(text: str, source: str) -> str:
    found = text.strip()
    if not _TOKEN.fullmatch(found):
        raise Failure(f"the token in {source}", "it is not one line of letters, digits and -._~+/=", "copy it again")
    return found
