"""The machine under `quicklime up`: where it listens, and the state directory it alone may use.

Owns what can be known before anything is started. Each fault is told by the flag or setting that mends it.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path


class CannotStart(Exception):
    """Why the start stops here, and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where to listen: an address or name of this machine, the port of the API and that of plain HTTP."""

    host: str = "127.0.0.1"
    https: int = 8443
    http: int = 8080

    def authority(self, port: int) -> str:
        """What stands in a URL that reaches `port`: localhost if this machine alone, or every address, is listened on."""
        address = ip(self.host)
        if address and (address.is_loopback or address.is_unspecified):
            return f"localhost:{port}"
        return self.bind(port)

    def bind(self, port: int) -> str:
        """The address of `port` as gunicorn takes it."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    def check(self) -> None:
        """Raises CannotStart for a port that cannot be listened on."""
        _check_port("--https-port", self.host, self.https)
        _check_port("--http-port", self.host, self.http)

    def answer(self) -> bool:
        """Whether a process behind each port says that it lives."""
        blind = ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE  # it is asked whether it is there, nothing else
        host = _local(self.host)
        return _lives(HTTPSConnection(host, self.https, timeout=2, context=blind)) and _lives(HTTPConnection(host, self.http, timeout=2))


def ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` is, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state directory, made if need be. The kernel lets go of it when the process ends, however it ends."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = open(state / "up.lock", "a")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        raise CannotStart(f"QUICKLIME_STATE (--state): {state}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"another `quicklime up` runs on {state}: stop it, or give this one its own --state") from None
        yield


def _check_port(flag: str, host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise CannotStart(f"--host: {host} is not an address or name of this machine") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise CannotStart(f"{flag}: cannot listen on {host} port {port}: {error.strerror}") from None


def _local(host: str) -> str:
    """Where a listener on `host` is reached from here."""
    address = ip(host)
    if address and address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host


def _lives(connection: HTTPConnection) -> bool:
    try:
        connection.request("GET", "/livez", headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
