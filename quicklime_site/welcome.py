"""What `quicklime up` prints once it runs: where, by whom trusted, and what to type next.

Owns that text. The commands in it are typed by people and run by a test as they stand.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import settings

from dashboard import newcomers

from .machine import Ports


def text(roots: Sequence[x509.Certificate], ports: Ports) -> str:
    """The lines to print; paths relative to where the reader stands, if they lie below."""
    url, state = settings.PUBLIC_URL, settings.STATE
    fingerprints = "\n".join(f"  root         {_fingerprint(root)} (SHA-256), in {_path(state / 'root.pem')}" for root in roots)
    return f"""running; Ctrl-C stops it

  API          {url}/api/v1/   (try {url}/api/v1/docs/)
  admin        {url}/admin/   (user and password in {_path(state / "operator")})
  plain HTTP   http://{ports.authority(ports.http)}/
{fingerprints}
  log key      {_path(state / "log.vkey")}, for `quicklime verify-receipt`
  reminders    {_reminders()}

A certificate, from a second terminal:

{_commands(state, url)}
"""


def _reminders() -> str:
    """Whether anybody is mailed about certificates that are not renewed."""
    return f"by mail through {settings.EMAIL.host}" if settings.EMAIL else "nobody is mailed: EMAIL_URL is not set"


def _commands(state: Path, url: str) -> str:
    root, token = _path(state / "root.pem"), _path(state / "token")
    name = newcomers.host()
    return f"""  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout payroll.key -out payroll.csr \\
    -subj /CN={name} -addext subjectAltName=DNS:{name}

  curl --fail-with-body --cacert {root} -H "Authorization: Bearer $(cat {token})" \\
    -H 'Prefer: wait=10' -H 'Content-Type: application/x-pem-file' --data-binary @payroll.csr \\
    {shlex.quote(f"{url}/api/v1/certificates/?service=payroll&node=n1")} -o payroll.json

  python3 -c 'import json; c = json.load(open("payroll.json"))["certificate"]; print(c["pem"] + c["chain"], end="")' >payroll.pem
  openssl verify -CAfile {root} -untrusted payroll.pem -verify_hostname {name} payroll.pem"""


def _path(path: Path) -> str:
    here = Path.cwd()
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
