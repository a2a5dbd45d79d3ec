"""`quicklime agent`, and the systemd units that it prints."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import agent as looking_after
from . import api, options
from .failures import reported
from .store import Store, Trust

_UNITS = """\
# /etc/systemd/system/quicklime-agent.service
[Unit]
Description=Renew the certificates of this node that are due
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command} --once
PrivateTmp=yes

# /etc/systemd/system/quicklime-agent.timer
[Unit]
Description=Look every five minutes whether a certificate of this node is due

[Timer]
OnBootSec=1min
OnUnitActiveSec=5min
RandomizedDelaySec=1min

[Install]
WantedBy=timers.target
"""


def agent(
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, then end; for a timer.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print a systemd unit and its timer, and do nothing else.")] = False,
    token_file: options.TokenFile = None,
    state: options.State = None,
) -> None:
    """Keep this node's certificates renewed.

    Renews around two thirds of a certificate's life, puts the new pair in place as a whole, and runs the certificate's reload command.
    While the server is away it tries again, after 30 seconds at first and an hour at most. SIGTERM ends it, SIGHUP has it look at once.
    It may be killed at any moment: the service keeps a pair that fits, and the next start goes on.

    \b
    Examples:
      quicklime agent
      quicklime agent --once
      quicklime agent --systemd
    """
    with reported():
        store = options.store(state)
        if systemd:
            typer.echo(units(store, token_file), nl=False)
            return
        work = looking_after.run_once if once else looking_after.run
        work(store, _connect(store, token_file), _say)


def _connect(store: Store, token_file: Path | None) -> looking_after.Connect:
    """The token is read for each connection, so that a new one in its file counts at once."""

    def connect(trust: Trust) -> api.Server:
        return api.Server(trust, options.token(token_file, store))

    return connect


def units(store: Store, token_file: Path | None) -> str:
    """A service for one look and the timer that starts it, with the paths that hold here."""
    command = [str(Path(sys.argv[0]).absolute()), "agent", "--state", str(store.directory.absolute())]
    if token_file:
        command += ["--token-file", str(token_file.absolute())]
    return _UNITS.format(command=shlex.join(command).replace("%", "%%"))


def _say(line: str) -> None:
    """Print it if that can be done: a full disk under the log must not end the agent."""
    with contextlib.suppress(OSError):
        typer.echo(f"quicklime: {line}")
