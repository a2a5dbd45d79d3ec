"""How long a process waits for PostgreSQL to answer one statement.

Owns the two limits. The server's own (statement_timeout) ends what waits for a lock or takes too long, and leaves nothing behind. A
server that is stopped, or hangs on its disk, keeps that limit no more than any other; its socket is well, so that TCP notices
nothing. Then the client gives the connection up: of a commit that went unanswered nobody knows whether it took place, as when
a server dies. Commands of an operator (rebuild, verify_log, migrate) have no limit.
"""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

SECONDS = {"web": 10, "worker": 60}  # by QUICKLIME_ROLE; the worker's statements are retried by beat, and may wait for a rebuild
_GRACE = 2.0  # seconds that the server has for ending a statement itself
_INTERVAL = 0.1
_SETTING = "statement_timeout="
_T = TypeVar("_T")


def limit(options: dict[str, Any], seconds: int | None) -> None:
    """Put the limit into Django's OPTIONS of a PostgreSQL with a pool, for connections that are made from now on, beside what else is
    set there for a session. None: no limit."""
    session = [each for each in options.pop("options", "").split("-c ") if each and not each.startswith(_SETTING)]
    options["pool"].pop("connection_class", None)
    if seconds is not None:
        session.append(f"{_SETTING}{seconds}s")
        options["pool"]["connection_class"] = bounded(seconds + _GRACE)
    if session:
        options["options"] = " ".join(f"-c {each.strip()}" for each in session)


def bounded(seconds: float) -> type[psycopg.Connection[Any]]:
    """Connections that are closed, with an OperationalError, if the server is silent for so long about one statement. They prepare
    nothing any more, and use nothing prepared, once a migration has outdated such a statement."""

    class Bounded(psycopg.Connection[Any]):
        def wait(self, gen: PQGen[_T], interval: float = _INTERVAL, timeout: float | None = None) -> _T:
            try:
                return super().wait(gen, interval, seconds if timeout is None else timeout)
            except psycopg.OperationalError:
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # no answer to it can be told from the next one's
                    self.close()
                raise
            except psycopg.errors.FeatureNotSupported:
                self.prepare_threshold = None  # a column has another type since the statement was prepared, which it would fail by for ever
                raise

    return Bounded
