"""The `quicklime` command.

Owns the command line of a node. Knows nothing of the server: commands that live there come by the entry-point group
`quicklime.commands`, each a typer application with one command.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer
from typer.main import get_command, get_group

from .receipt_command import verify_receipt

app = typer.Typer(
    name="quicklime",
    help="Quicklime: a private certificate authority whose every certificate is in its log.",
    add_completion=False,
    no_args_is_help=True,
)
app.command("verify-receipt")(verify_receipt)


@app.callback()
def _group() -> None:
    """Makes the application a group even while it has one command."""


def main() -> None:
    """Run the command line, with every command that is installed."""
    group = get_group(app)
    for entry in sorted(entry_points(group="quicklime.commands")):
        group.commands[entry.name] = get_command(entry.load())
    group()
