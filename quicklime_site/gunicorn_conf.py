"""gunicorn's configuration for the API: `gunicorn -c python:quicklime_site.gunicorn_conf …`.

Owns threads, time limits, TLS and when garbage is looked for. Bind addresses and the certificate file come from the command line.
"""

import gc
import os
import ssl
from collections.abc import Callable
from typing import Any

from django.conf import settings
from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from quicklime_site import logs, tether

worker_class = "gthread"
workers = 1
threads = settings.WAITERS + 16  # a request that waits for its certificate holds a thread; the 16 are for the others
keepalive = 75
graceful_timeout = 5
control_socket_disable = True
_ALLOCATED = 20_000  # objects, from one look for garbage to the next; a request makes a few hundred, hardly any in a cycle


class JSONLogger(Logger):  # type: ignore[misc]  # its base has no types
    """gunicorn's messages, some of which quote what a client sent, through the one format that cannot be forged."""

    def setup(self, cfg: Any) -> None:
        logs.configure(settings.LOGGING)
        self.error_log.propagate = True
        self.error_log.setLevel(settings.LOGGING["level"])


logger_class = JSONLogger

_contexts: dict[tuple[int, int], ssl.SSLContext] = {}  # at most one: (inode, time of change) → context


def ssl_context(config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Called for every connection; the file is read again when it was replaced, so that a renewal needs no restart."""
    found = os.stat(config.certfile)
    key = (found.st_ino, found.st_mtime_ns)
    if key not in _contexts:
        context = default()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _contexts.clear()
        _contexts[key] = context
    return _contexts[key]


def post_fork(arbiter: Any, worker: Any) -> None:
    """A worker dies with its arbiter, at once, whatever it is doing."""
    tether.tie(arbiter.pid)


def post_worker_init(worker: Any) -> None:
    """Django is set up."""
    from quicklime_site import measuring  # only here: it reads the settings

    measuring.start()
    gc.collect()
    gc.freeze()  # what is loaded lives as long as the process. Looking through it, and through requests that had not ended, took a
    gc.set_threshold(_ALLOCATED)  # fifteenth of a loaded process's time
