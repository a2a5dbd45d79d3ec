"""The `quicklime` command.

Owns the command line of a node. Knows nothing of the server: commands that live there come by the entry-point group
`quicklime.commands`, each a typer application with one command, and are loaded only when one is called or listed, so that
a node's commands do not wait for the server's code.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from .agent_command import agent
from .receipt_command import verify_receipt
from .renew_command import renew, revoke
from .request_command import request
from .status_command import status
from .trust_command import trust


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="quicklime.commands")}


class _Commands(TyperGroup):
    """The node's commands, and those that are installed beside them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_installed())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        entry = None if own else _installed().get(cmd_name)
        return get_command(entry.load()) if entry else own


app = typer.Typer(
    name="quicklime",
    cls=_Commands,
    help="Quicklime: a private certificate authority whose every certificate is in its log.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (trust, request, renew, revoke, status, agent, verify_receipt):
    app.command()(command)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
