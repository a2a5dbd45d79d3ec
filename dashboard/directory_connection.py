"""The way to the directory: a connection with TLS, given up after a few seconds whatever the other side does.

Owns the socket, who is believed at its other end, and the time limit. libldap speaks through it and touches no network itself: none of its
own limits covers a server that falls silent in the TLS handshake or in the middle of a message, and whom it believes is what ldap.conf
says. So TLS is Python's, with the same roots and rules as for everything else here, and at the time limit the connection is gone.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any

from pyasn1.codec.ber import decoder
from pyasn1.error import PyAsn1Error
from pyasn1_modules import rfc2251

from .directory_settings import Server

CONNECT, WHOLE = 3.0, 5.0  # seconds: for one address, and after which all of it is given up
_CHUNK, _MAX_ANSWER = 65_536, 4_096  # bytes
# StartTLS as message 1 (RFC 4511 §4.14.1): SEQUENCE {INTEGER 1, [APPLICATION 23] {[0] its identifier}}
_START_TLS = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


class NotReached(Exception):
    """There is no connection; the text says why, for an operator."""


@contextmanager
def opened(server: Server, ca_file: str) -> Iterator[int]:
    """The connection, as a file descriptor for whoever will close it. It ends with the block, and after WHOLE. Raises NotReached."""
    end = time.monotonic() + WHOLE
    with _secured(server, ca_file, end) as outside:
        ours, theirs = socket.socketpair()
        carrier = threading.Thread(target=_carry, args=(ours, outside, end), daemon=True)
        carrier.start()
        try:
            yield theirs.detach()
        finally:
            with suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
            carrier.join()


def _secured(server: Server, ca_file: str, end: float) -> socket.socket:
    try:
        plain = _connected(server, end)
        try:
            return _in_tls(plain, server, ca_file, end) if server.tls else plain
        except OSError:
            plain.close()
            raise
    except ssl.SSLCertVerificationError as error:
        raise NotReached(f"its certificate is not believed ({error.verify_message}): see ca_file, and the host in url") from None
    except OSError as error:
        raise NotReached(f"it cannot be reached ({error.strerror or error}): see url, and whether it runs") from None


def _in_tls(plain: socket.socket, server: Server, ca_file: str, end: float) -> ssl.SSLSocket:
    if server.tls == "starttls":
        _start_tls(plain, end)
    plain.settimeout(_left(end))
    return ssl.create_default_context(cafile=ca_file or None).wrap_socket(plain, server_hostname=server.host)


def _connected(server: Server, end: float) -> socket.socket:
    """By the first address that answers. Raises OSError."""
    if server.path:
        return _to(socket.AF_UNIX, server.path, end)
    failed: OSError = OSError("the host has no address")
    for family, address in _resolved(server, end):
        try:
            return _to(family, address, end)
        except OSError as error:
            failed = error
    raise failed


_Addresses = list[tuple[int, Any]]  # family and address, as socket.connect takes it


def _resolved(server: Server, end: float) -> _Addresses:
    """The addresses of the host. The system's resolver has no time limit that a caller could set, and a name server that is away costs half
    a minute: so it is asked on a thread of its own, which is left behind at `end`. Raises OSError."""
    answer: SimpleQueue[_Addresses | OSError] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_addresses(server))
        except OSError as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=_left(end))
    except Empty:
        raise TimeoutError("its name is not resolved in time") from None
    if isinstance(found, OSError):
        raise found
    return found


def _addresses(server: Server) -> _Addresses:
    return [(family, address) for family, _, _, _, address in socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)]


def _to(family: int, address: Any, end: float) -> socket.socket:
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(min(CONNECT, _left(end)))
        plain.connect(address)
    except OSError:
        plain.close()
        raise
    return plain


def _left(end: float) -> float:
    """Seconds until `end`. Raises TimeoutError when there are none."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


def _start_tls(plain: socket.socket, end: float) -> None:
    """Nothing of the answer, or behind it, counts for anything but that TLS begins next. Raises OSError."""
    plain.sendall(_START_TLS)
    head = _exactly(plain, 2, end)
    if head[1] & 0x80:  # the long form, which some write for short lengths, too
        head += _exactly(plain, head[1] & 0x7F, end)
    length = int.from_bytes(head[2:], "big") if head[1] & 0x80 else head[1]
    if length > _MAX_ANSWER:
        raise OSError("it does not speak LDAP")
    try:
        answer, _ = decoder.decode(head + _exactly(plain, length, end), asn1Spec=rfc2251.LDAPMessage())
        agreed = int(answer["protocolOp"]["extendedResp"]["resultCode"]) == 0
    except (PyAsn1Error, ValueError, KeyError):
        raise OSError("it does not speak LDAP") from None
    if not agreed:
        raise OSError("it refuses StartTLS")


def _exactly(plain: socket.socket, count: int, end: float) -> bytes:
    found = b""
    while len(found) < count:
        plain.settimeout(_left(end))
        more = plain.recv(count - len(found))
        if not more:
            raise OSError("it ended the connection")
        found += more
    return found


def _carry(ours: socket.socket, outside: socket.socket, end: float) -> None:
    """From each to the other until one ends, or the time does; then `ours`, too, has its end."""
    ours.settimeout(WHOLE)
    outside.setblocking(False)
    with ours, selectors.DefaultSelector() as ready, suppress(OSError):
        ready.register(ours, selectors.EVENT_READ)
        ready.register(outside, selectors.EVENT_READ)
        while found := ready.select(_left(end)):
            for key, _ in found:
                if not (_brought(outside, ours, end) if key.fileobj is outside else _sent(ours, outside, end)):
                    return


def _sent(ours: socket.socket, outside: socket.socket, end: float) -> bool:
    data = ours.recv(_CHUNK)
    outside.settimeout(_left(end))
    outside.sendall(data)
    outside.setblocking(False)
    return bool(data)


def _brought(outside: socket.socket, ours: socket.socket, end: float) -> bool:
    """All that is there: what TLS has taken out of the socket shows in no selector. False at the end of it."""
    while _left(end):
        try:
            data = outside.recv(_CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        if not data:
            return False
        ours.sendall(data)
    return False
