"""Which certificate is really served: issued is not yet deployed.

Owns one look at HOST:PORT. Verifies nothing, as it asks what is there and not whether that is right.
"""

from __future__ import annotations

import socket
import ssl
from datetime import datetime

from cryptography import x509

from . import keys
from .failures import Failure, plain
from .records import Record, Served

_LIMIT = 5.0  # seconds


def address(text: str) -> tuple[str, int]:
    """The host and port of HOST:PORT or [IPv6]:PORT. Raises Failure."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise Failure(f"the address {text!r}", "it is not of the form HOST:PORT", "as in --serves localhost:443")
    return host.removeprefix("[").removesuffix("]"), int(port)


def look(record: Record, now: datetime) -> Served | None:
    """What is served for the record's first name, None if nobody said where to look."""
    if record.place.serves is None:
        return None
    try:
        return Served(_serial(address(record.place.serves), _server_name(record)), None, now)
    except (OSError, ValueError) as error:
        return Served(None, plain(str(error)) or type(error).__name__, now)


def _server_name(record: Record) -> str | None:
    """For SNI, which takes host names only (RFC 6066 §3)."""
    return next((name.replace("*", "any", 1) for name in record.wanted.names), None)


def _serial(where: tuple[str, int], name: str | None) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(where, _LIMIT) as plain_socket, context.wrap_socket(plain_socket, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
    if der is None:
        raise ValueError("it shows no certificate")
    return keys.serial(x509.load_der_x509_certificate(der))
