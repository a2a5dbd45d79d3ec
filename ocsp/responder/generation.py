"""`python -m ocsp.responder.generation`: a store, filled and fed, and the servers that serve from it.

Owns the feeding and the servers' life: they are forks of this process, so that all share the store's memory, and one that dies is
started again. Started by __main__ only, and ends with it. If this process alone dies, its servers go on with what they have
until their successors are up.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import django
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from ..answered import Adding
from ..heartbeats import Heartbeat
from . import server
from .http import Fresh
from .server import Inherited
from .store import Full, Store
from .tally import Tally

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL

    from .feeder import Feeder, Hints

log = logging.getLogger(__name__)
_LOOK, _BREATH = 0.5, 0.02  # seconds from one look at the database to the next: at most, and at least
_LOADING, _LOOKING = 60, 3  # seconds for one statement: a hung database is left that soon, as another may tell of revocations meanwhile
_SWEEP = 5.0  # seconds between two looks at what has ended long ago
_AGAIN = 1.0  # seconds until what failed is tried again
_ASKED, _ANEW = 10.0, 60.0  # seconds until a successor is asked for again; until the first is that would have no more room
_PR_SET_PDEATHSIG = 1
_APPS = ["eventlog", "ca", "ocsp"]  # whose tables are read: the code of the others would cost each host some twenty megabytes


def main(arguments: Sequence[str]) -> None:
    """Load, start the servers, and feed until SIGTERM. `arguments`: descriptors of lifeline, ready pipe and sockets."""
    lifeline, ready, *sockets = map(int, arguments)
    _tie(lifeline)
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the master's
    settings.INSTALLED_APPS = _APPS
    django.setup()
    from .feeder import Feeder, Hints

    _limit(_LOADING)
    listeners = [socket.socket(fileno=each) for each in sockets]
    tally = Tally(len(listeners))
    feeding = _Feeding(Feeder(), Hints(Adding(tally.totals)), f"{socket.gethostname()}:{listeners[0].getsockname()[1]}")
    while not stopping and (store := feeding.load()) is None:
        time.sleep(_AGAIN)
    if stopping or store is None:
        return
    _limit(_LOOKING)  # the connection is closed before the first fork
    servers = _Servers(store, tally, Inherited(listeners, lifeline, ready), feeding.hang_up)
    gc.collect()
    gc.freeze()  # a collector that writes into every object would copy all pages that the servers share
    while servers.tend(again=not stopping):
        feeding.step()
    feeding.hang_up()


def _tie(lifeline: int) -> None:
    """End when the master does, also in the midst of a query that hangs; where there is no prctl, after it."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([lifeline], [], [], 0)[0]:  # it ended before the call above
        os._exit(1)


def _limit(seconds: int) -> None:
    """Give up a PostgreSQL that takes longer for a statement, on connections that are made from now on."""
    if connection.vendor == "postgresql":
        from eventlog import patience  # only here: psycopg is not loaded where the database is a file

        patience.limit(connection.settings_dict["OPTIONS"], seconds)


class _Feeding:
    """Feeds the store step by step, and outlives every fault of the database and of Redis. `name`: by which who watches the
    responder knows it."""

    def __init__(self, feeder: Feeder, hints: Hints, name: str) -> None:
        self._feeder, self._hints, self._name = feeder, hints, name
        self._away, self._asked = False, ""  # why a successor was asked for
        self._next_ask = 0.0
        self._next_sweep = time.monotonic() + _SWEEP

    def load(self) -> Store | None:
        """The filled store, None while there is none to be had."""
        from .feeder import Rewound

        try:
            return self._feeder.load()
        except (DatabaseError, InterfaceError) as error:
            self._lost(error)
        except (Rewound, MemoryError, OSError) as error:
            log.error("the answers cannot be loaded (%s)", type(error).__name__)
        except Full as full:
            log.error("there is no room in %s: some answers are left out", full)
            self._next_ask = time.monotonic() + _ANEW
            return self._feeder.store
        return None

    def step(self) -> None:
        """Wait for news, at most _LOOK, and take it over."""
        from .feeder import Rewound

        time.sleep(_BREATH)
        self._hints.wait(_LOOK - _BREATH)
        try:
            self._feeder.look()
            self._sweep()
        except (DatabaseError, InterfaceError) as error:
            self._lost(error)
            return
        except Rewound:
            self._ask("the database was put back: it is read anew")
        except (Full, MemoryError) as error:
            self._ask(f"no room left in {error or 'memory'}")
        if self._away:
            log.warning("the database is back")
        self._away = False
        self._hints.told = Heartbeat(self._name, time.time(), self._feeder.position)
        if self._feeder.store.crowded:
            self._ask("little room left")

    def hang_up(self) -> None:
        """Close every connection and end their threads, before a fork."""
        self._hints.close()
        connection.close()
        if connection.vendor == "postgresql":
            cast("PostgreSQL", connection).close_pool()

    def _sweep(self) -> None:
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP
            self._feeder.sweep(time.time())

    def _lost(self, error: Exception) -> None:
        if not self._away:
            log.warning("the database is away (%s): answers are given until their nextUpdate", type(error).__name__)
        self._away = True
        connection.close()

    def _ask(self, why: str) -> None:
        """Have the master start a successor, which makes a new store; again after a while, as that one may have failed."""
        if time.monotonic() < self._next_ask:
            return
        self._next_ask = time.monotonic() + _ASKED
        if why != self._asked:
            log.warning("the OCSP responder starts anew: %s", why)
        self._asked = why
        os.kill(os.getppid(), signal.SIGUSR1)


@dataclass
class _Servers:
    """The forks, one for each socket. `before_fork` is called before each is made."""

    store: Store
    tally: Tally
    inherited: Inherited
    before_fork: Callable[[], None]
    _running: dict[int, int] = field(default_factory=dict)  # process id → place of its socket
    _next: float = 0.0

    def tend(self, again: bool) -> bool:
        """Start those that do not run, if `again`; whether there are any, or will be."""
        self._reap()
        missing = set(range(len(self.inherited.sockets))) - set(self._running.values())
        if again and missing and time.monotonic() >= self._next:
            self._next = time.monotonic() + _AGAIN
            self.before_fork()
            for place in missing:
                self._fork(place)
        return again or bool(self._running)

    def _fork(self, place: int) -> None:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sockets = self.inherited.sockets
            server.run(self.store, sockets[place], self.inherited, self.tally.row(place), lambda: _fresh(len(sockets)))
        self._running[pid] = place

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            del self._running[pid]
            if status:
                log.warning("a server of the OCSP responder ended with status %d", os.waitstatus_to_exitcode(status))


def _fresh(servers: int) -> Fresh | None:
    """What answers requests with a nonce, in one of so many servers; None where the settings want none."""
    if not settings.OCSP_NONCES:
        return None
    from ..nonces import Fresh as Nonces

    return Nonces(settings.OCSP_NONCES / servers).answer


if __name__ == "__main__":
    main(sys.argv[1:])
