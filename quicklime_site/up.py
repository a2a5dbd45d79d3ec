"""`quicklime up`: from an empty directory to a running certificate authority in the foreground.

Owns the command, its flags, and the environment of each process. Must never give a passphrase to a process that does not sign.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import django
import typer

from . import env, logs
from .machine import CannotStart, Ports, locked
from .private_redis import RedisMissing
from .supervisor import Supervisor

app = typer.Typer(add_completion=False)


@app.command()
def up(
    state: Annotated[Path | None, typer.Option(help="Directory of everything that is kept. [default: var]")] = None,
    zone: Annotated[list[str] | None, typer.Option(help="DNS zone below which names are issued; repeat it for more.")] = None,
    https_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API and the dashboard.")] = 8443,
    http_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of plain HTTP, for relying parties.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Run a whole certificate authority here, in the foreground. Ctrl-C stops it; the next run continues."""
    ports = Ports(host, https_port, http_port)
    try:
        environ = environment(os.environ, state, zone or (), ports)
        with locked(Path(environ["QUICKLIME_STATE"])):
            ports.check()
            _run(environ, ports)
    except (CannotStart, RedisMissing, env.SettingError) as error:
        typer.echo(f"quicklime: {error}", err=True)
        raise typer.Exit(1) from None


def environment(base: Mapping[str, str], state: Path | None, zones: Sequence[str], ports: Ports) -> dict[str, str]:
    """The environment of the processes that may sign: flags beat `base`, `base` beats the defaults. Raises SettingError.
    `localhost` is always among the zones, as the web server needs a certificate for itself."""
    environ = {
        "DJANGO_SETTINGS_MODULE": "quicklime_site.settings",
        "QUICKLIME_LOG_LEVEL": "WARNING",  # the foreground belongs to what a person should see
        "QUICKLIME_LOG_FORMAT": logs.CONSOLE if sys.stderr.isatty() else logs.JSON,
        "QUICKLIME_PUBLIC_URL": f"https://{ports.authority(ports.https)}",
        "QUICKLIME_AIA_URL": (plain := f"http://{ports.authority(ports.http)}"),
        "QUICKLIME_OCSP_URL": f"{plain}/ocsp",
        "QUICKLIME_CRL_URL": f"{plain}/crl",
        **base,
        "QUICKLIME_ROLE": "worker",
    }
    if state:
        environ["QUICKLIME_STATE"] = str(state)
    if zones:
        environ["QUICKLIME_ZONES"] = ",".join(zones)
    values = env.read(environ)
    environ["QUICKLIME_STATE"] = str(values["QUICKLIME_STATE"])
    environ["QUICKLIME_ZONES"] = ",".join(dict.fromkeys([*values["QUICKLIME_ZONES"], "localhost"]))
    return environ


def keyless_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The same for every other process: it is told no passphrase, and refuses to open a CA key."""
    passphrases = ("QUICKLIME_KEY_PASSPHRASE", "QUICKLIME_KEY_PASSPHRASE_FILE")
    return {name: text for name, text in environ.items() if name not in passphrases} | {"QUICKLIME_ROLE": "web"}


def _run(environ: Mapping[str, str], ports: Ports) -> None:
    """Start everything and stay until told to stop. Whatever ends this, the children end with it."""
    os.environ.update(environ)
    django.setup()
    from . import start  # only now: its imports read the settings

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    boss = Supervisor(_say)
    try:
        start.run(boss, environ, keyless_environment(environ), ports, _say)
    except KeyboardInterrupt:
        pass  # told to stop before all was up
    finally:
        _say("stopping")
        boss.stop()
    _say("stopped")


def _say(line: str) -> None:
    """Print it if that can be done: a full disk under the output, or nobody left who reads it, stops nothing."""
    with contextlib.suppress(OSError):
        typer.echo(f"quicklime: {line}")
