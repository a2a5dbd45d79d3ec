"""The start of an installation, step by step, and its life until it is told to stop.

Owns the order: nothing that can sign runs before database, log and keys are found to fit, and nothing listens before
there is a certificate to show.
"""

from __future__ import annotations

import signal
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography import x509
from django.conf import settings
from django.core.management import call_command
from django.db import Error as DatabaseError
from django.db import close_old_connections

from ca import hierarchy, tasks
from ca.errors import Problem
from ca.keys import KeyFault
from eventlog import fence

from . import env, first_start, private_redis, schedule, welcome
from .machine import CannotStart, Ports, ip
from .own_tls import OwnTLS, Refused
from .supervisor import Child, Supervisor

Say = Callable[[str], None]
_PATIENCE = 60.0  # seconds that a first certificate or a listening port may take on a slow machine
_UPKEEP = schedule.ROUTES[tasks.resume.name]["queue"]
_LOOK = 5.0  # seconds between two looks at the web server's own certificate


def run(boss: Supervisor, signing: Mapping[str, str], keyless: Mapping[str, str], ports: Ports, say: Say) -> None:
    """Bring everything up and stay until a signal. `signing` is the environment of the worker, `keyless` that of all other
    children. Raises CannotStart, RedisMissing."""
    own = OwnTLS(settings.STATE / "tls" / "web.pem", own_hosts(ports))
    _start_redis(boss, keyless, say)
    say("database")
    roots = _prepare(say)
    say("worker")
    _start_workers(boss, signing, keyless)
    tasks.resume.delay()  # what an earlier run left unfinished; and once it is taken, there is somebody who takes
    _wait(boss, lambda: private_redis.taken(settings.REDIS_URL, _UPKEEP), "the worker takes up no work: see its lines above")
    say("web server")
    _wait(boss, lambda: _tended(own), "the worker issues no certificate for the web server: see its lines above")
    _start_servers(boss, keyless, ports, own)
    _wait(boss, ports.answer, "the web server or the OCSP responder does not answer: see their lines above")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: boss.request_stop())
    say(welcome.text(roots, ports))
    boss.run(_Renewal(own, say))


def own_hosts(ports: Ports) -> tuple[str, ...]:
    """The names of the web server's own certificate: the public URL's host, and by what it is reached from here.
    Raises CannotStart if the public host may not be certified."""
    public = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not _certifiable(public):
        raise CannotStart(
            f"QUICKLIME_PUBLIC_URL: {public} lies in no zone and no IP range of this CA, which so cannot certify its own web server: "
            "add it to QUICKLIME_ZONES (--zone) or QUICKLIME_IP_RANGES, or give another URL"
        )
    local = (host for host in ("localhost", "127.0.0.1", ports.host) if _certifiable(host))
    return tuple(dict.fromkeys((public, *local)))


def _certifiable(host: str) -> bool:
    address = ip(host)
    if address:
        return not address.is_unspecified and any(address in range_ for range_ in settings.IP_RANGES)
    return any(host == zone or host.endswith(f".{zone}") for zone in settings.ZONES)


def _start_redis(boss: Supervisor, environ: Mapping[str, str], say: Say) -> None:
    if not environ.get("REDIS_URL"):
        say("private Redis")
        command = private_redis.command(env.redis_socket(settings.STATE), settings.STATE / "redis")
        boss.start(Child("redis", command, environ, grace=5))
        private_redis.wait(settings.REDIS_URL, lambda: boss.alive("redis"))
        return
    private_redis.wait(settings.REDIS_URL, lambda: True)


def _prepare(say: Say) -> list[x509.Certificate]:
    """Database, log, hierarchy, keys, token and operator: there and fitting when this returns the roots."""
    now = datetime.now(UTC)
    try:
        call_command("migrate", verbosity=0, interactive=False)
        fence.check()
        first_start.make_hierarchy(now, say)
        _check_keys(now)
        first_start.make_token(settings.STATE / "token", now)
        first_start.make_operator(settings.STATE / "operator", now)
        first_start.write_log_key(settings.STATE / "log.vkey")
        return first_start.write_roots(settings.STATE / "root.pem")
    except DatabaseError as error:
        raise CannotStart(f"DATABASE_URL: the database cannot be used: {error}") from None
    except fence.LogBehind as error:
        raise CannotStart(f"{error}") from None
    except (KeyFault, hierarchy.HierarchyFault) as error:
        raise CannotStart(f"the keys cannot be used: {error}") from None


def _check_keys(now: datetime) -> None:
    reasons = hierarchy.check(now)
    if reasons:
        raise CannotStart("the keys do not fit\n  " + "\n  ".join(reasons))


def _start_workers(boss: Supervisor, signing: Mapping[str, str], keyless: Mapping[str, str]) -> None:
    calm = ["-W", "ignore::UserWarning:celery.platforms"]  # it warns root of pickle, which is not accepted here
    celery = [sys.executable, *calm, "-m", "celery", "-q", "-A", "quicklime_site"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = [*celery, "worker", "-P", "solo", *alone]
    boss.start(Child("worker", [*worker, "-Q", ",".join(schedule.QUEUES)], signing))
    boss.start(Child("mail worker", [*worker, "-n", "mail@%h", "-Q", schedule.SLOW], keyless))
    boss.start(Child("beat", [*celery, "beat", "--pidfile", ""], keyless, grace=5))


def _start_servers(boss: Supervisor, environ: Mapping[str, str], ports: Ports, own: OwnTLS) -> None:
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", "python:quicklime_site.gunicorn_conf", "quicklime_site.wsgi:application"]
    own_tls = ["--certfile", str(own.path), "--keyfile", str(own.path)]
    tls = [*own_tls, "--ca-certs", str(settings.STATE / "root.pem"), "--cert-reqs", f"{ssl.CERT_OPTIONAL:d}"]
    boss.start(Child("web", [*gunicorn, "--bind", ports.bind(ports.https), *tls], environ))
    boss.start(Child("OCSP responder", [sys.executable, "-m", "ocsp.responder", "--bind", ports.bind(ports.http)], environ))


def _tended(own: OwnTLS) -> bool:
    try:
        return own.tend(datetime.now(UTC))
    except Refused as error:
        raise CannotStart(f"no certificate for the web server: {error}") from None


def _wait(boss: Supervisor, true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        boss.look()
        if time.monotonic() > deadline:
            raise CannotStart(otherwise)
        time.sleep(0.05)


class _Renewal:
    """The supervisor's tick: looks at the web server's certificate now and then, and outlives every fault of it."""

    def __init__(self, own: OwnTLS, say: Say) -> None:
        self._own, self._say, self._next = own, say, 0.0

    def __call__(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK
        close_old_connections()
        try:
            self._own.tend(datetime.now(UTC))
        except (Refused, Problem, DatabaseError, OSError) as error:
            self._say(f"the web server's certificate could not be renewed yet: {error}")
