"""Installs what the benchmarks need: the peers and the load generator from apt, django-ca into an environment of its own.

Nothing that is already there is installed again, and no service that a package brings is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import paths

POLICY = Path("/usr/sbin/policy-rc.d")
DJANGO_CA = ("django-ca[celery,redis,api,postgres]", "psycopg[binary,pool]", "gunicorn")


def everything() -> None:
    """All peers and tools; SystemExit with what to type where apt needs an administrator."""
    _apt(missing_packages())
    _django_ca()


def missing_packages() -> list[str]:
    """The Debian packages whose programs are not there."""
    programs = {"cfssl": "golang-cfssl", "wrk": "wrk", "redis-server": "redis-server", "taskset": "util-linux"}
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    missing += [] if nginx() else ["nginx-light"]
    return missing if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else [*missing, "postgresql"]


def _apt(packages: list[str]) -> None:
    if not packages:
        return
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    if os.geteuid():
        raise SystemExit("the benchmarks need packages: sudo " + " ".join(install))
    print("installing " + " ".join(packages), flush=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    with _no_services():
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@contextmanager
def _no_services() -> Iterator[None]:
    """Packages ask policy-rc.d before they start their service: 101 forbids it."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _django_ca() -> None:
    if (django_ca_bin() / "django-admin").exists():
        return
    print("installing django-ca", flush=True)
    subprocess.run([sys.executable, "-m", "venv", django_ca_bin().parent], check=True)
    subprocess.run([django_ca_bin() / "python", "-m", "pip", "install", "-q", *DJANGO_CA], check=True)


def django_ca_bin() -> Path:
    """The programs of django-ca's environment."""
    return paths.cache() / "django-ca" / "bin"


def nginx() -> str | None:
    """The program, which lies where the PATH of ordinary users does not look."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def package_version(name: str) -> str:
    """The version of an installed Debian package."""
    found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False)
    return found.stdout or "not from a package"


def django_ca_versions() -> str:
    """django-ca and the libraries that decide about its speed."""
    names = ("django-ca", "Django", "celery", "gunicorn", "psycopg", "cryptography")
    code = f"from importlib.metadata import version; print(*(name + ' ' + version(name) for name in {names!r}), sep=', ')"
    return subprocess.run([django_ca_bin() / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
