"""One process that serves from a store, until it is told to stop or the master is gone.

Owns its start and end: the clients that are connected get their last answers before it goes. Reads the store and nothing else;
it has no database.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from . import record
from .answers import ISSUERS, Desk, unpack_issuers
from .http import Fresh, Limits, Site
from .loop import READ
from .store import Store

log = logging.getLogger(__name__)
_SWEEP = 1.0  # seconds between two looks at clients and issuers
_DRAIN = 8.0  # seconds that clients have to take their last answers
_PAUSE = 0.1
_BACKLOG, _BURST = 1024, 64
_SPARE = 64  # descriptors that are for other things than clients


@dataclass(frozen=True)
class Inherited:
    """What the master hands down: a socket for each server; a pipe that ends when the master does; and one in which each
    server says that it listens."""

    sockets: Sequence[socket.socket]
    lifeline: int
    ready: int


def run(store: Store, listener: socket.socket, inherited: Inherited, row: memoryview[int], fresh: Callable[[], Fresh | None]) -> NoReturn:
    """Serve until SIGTERM, then end the process. `row` is for its counts; `fresh` makes what answers requests with a nonce."""
    status = 1
    try:
        site = Site(store.get, Limits(connections=min(Limits.connections, _descriptors() - _SPARE)), fresh())
        server = Server(site, store, listener, row)
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        site.loop.watch(inherited.lifeline, READ, lambda _: os._exit(0))
        server.listen()
        os.write(inherited.ready, b".")
        server.run()
        status = 0
    except Exception:
        log.exception("a server of the OCSP responder failed")
    finally:
        os._exit(status)  # what it has of its parent is not for it to tidy up


class Server:
    """Takes the clients of one listening socket, which others may listen on as well, and writes what it counts into `row`."""

    def __init__(self, site: Site, store: Store, listener: socket.socket, row: memoryview[int], sweep: float = _SWEEP) -> None:
        self._site, self._store, self._listener, self._pause = site, store, listener, sweep
        self._row, self._issuers = row, b""
        site.counts[:] = row
        self._listening = self._stopping = False
        self._take_issuers()

    def listen(self) -> None:
        """From now on clients are taken."""
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._site.loop.watch(self._listener.fileno(), READ, self._accept)
        self._listening = True

    def stop(self) -> None:
        """Have `run` end. From any thread or signal handler."""
        self._stopping = True
        self._site.loop.call(lambda: None)

    def run(self) -> None:
        """Serve until `stop`, then let the clients have their last answers."""
        while not self._stopping:
            self._turns(self._pause, lambda: self._stopping)
            self._take_issuers()
            self._site.sweep()
            self._show_counts()
            if not self._listening:
                self.listen()
        self._deafen()  # whoever has not been accepted is the next generation's
        self._drain()
        self._show_counts()

    def _drain(self) -> None:
        self._site.drain()
        until = time.monotonic() + _DRAIN
        while self._site.connections and time.monotonic() < until:
            self._turns(_PAUSE, lambda: not self._site.connections)
            self._site.sweep()

    def _turns(self, seconds: float, enough: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while not enough() and (left := until - self._site.moment) > 0:
            self._site.turn(left)

    def _accept(self, _: int) -> None:
        """Take those who wait, but not so many that those who are there have to."""
        for _ in range(_BURST):
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError as error:  # no descriptor or memory left: to be tried again after the next sweep
                log.warning("no client can be taken (%s)", error.strerror)
                return self._deafen()
            self._site.take(client)

    def _deafen(self) -> None:
        self._site.loop.forget(self._listener.fileno())
        self._listening = False

    def _take_issuers(self) -> None:
        """Give the site another desk if the store's issuers are others now."""
        packed = self._store.get(record.document_key(ISSUERS), record.owner(record.DOCUMENT)) or b""
        if packed != self._issuers:
            issuers = unpack_issuers(record.unpack(packed).first)
            self._site.desk, self._issuers = Desk(issuers, self._store.get, self._site.counts), packed

    def _show_counts(self) -> None:
        for place, count in enumerate(self._site.counts):
            self._row[place] = count


def _descriptors() -> int:
    """How many files this process may have open, after raising that as far as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return 1 << 20 if most == resource.RLIM_INFINITY else most
