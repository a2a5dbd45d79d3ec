"""What a first start makes: hierarchy, first token, operator; and what clients need to know, as files.

Every step looks before it acts and is one commit, so that a start that was killed anywhere is continued by the next.
Must never make a thing twice, and never bring back what an operator took away.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.db import transaction

from ca import hierarchy, keys, tokens
from ca.models import Activation, Issuer, Token
from ca.policy import ACTIONS
from ca.profiles import LEAF
from dashboard import accounts
from dashboard.roles import Role
from eventlog import notes

from . import files

ROOT, INTERMEDIATE, OPERATOR = "root", "issuing-1", "operator"
_TOKEN_LABEL = "first token"  # noqa: S105 - a label


def make_hierarchy(now: datetime, say: Callable[[str], None]) -> None:
    """A root, one intermediate below it, and an issuer for every leaf profile, as far as they are not there.
    An installation whose root came from elsewhere (a ceremony) has issuers already and gets none."""
    if not Issuer.objects.exists():
        say("making the root")
        hierarchy.init_root(ROOT, now)
    if not Issuer.objects.exclude(kind="root").exists():
        say("making the intermediate")
        hierarchy.add_intermediate(INTERMEDIATE, ROOT, now)
    if Issuer.objects.filter(name=INTERMEDIATE).exists():
        active = set(Activation.objects.values_list("profile", flat=True))
        for profile in sorted(set(LEAF) - active):
            hierarchy.activate(INTERMEDIATE, profile, now)


def make_token(path: Path, now: datetime) -> None:
    """The first token, for everything in the zones. The file is there before the commit: a crash between the two leaves
    a file that opens nothing, and the next start replaces it."""
    if Token.objects.filter(label=_TOKEN_LABEL).exists():
        return
    uris = [f"spiffe://{domain}/" for domain in settings.SPIFFE_TRUST_DOMAINS]
    scope = tokens.Scope(actions=ACTIONS, profiles=("*",), wildcards=True, ips=("*",), uris=uris)
    with transaction.atomic():
        _, secret = tokens.create(_TOKEN_LABEL, OPERATOR, scope, now, by="first start")
        files.write(path, f"{secret}\n".encode())


def make_operator(path: Path, now: datetime) -> None:
    """An account that operates and administers, with a random password in `path`, unless somebody administers already."""
    if accounts.administrators():
        return
    password, access = secrets.token_urlsafe(18), accounts.Access(roles=(Role.OPERATOR, Role.ADMINISTRATOR))
    with transaction.atomic():
        accounts.create(OPERATOR, access, by="first start", why="the first account", now=now, password=password)
        files.write(path, f"user {OPERATOR}\npassword {password}\n".encode())


def write_roots(path: Path) -> list[x509.Certificate]:
    """Write every root to `path` as PEM, for clients to trust; returns them."""
    roots = [x509.load_der_x509_certificate(bytes(row.certificate)) for row in Issuer.objects.filter(kind="root").order_by("position")]
    files.write(path, b"".join(root.public_bytes(Encoding.PEM) for root in roots), mode=0o644)
    return roots


def write_log_key(path: Path) -> None:
    """Write the log's public key to `path`, for whoever checks receipts and checkpoints."""
    files.write(path, f"{notes.vkey_of(keys.log_signer())}\n".encode(), mode=0o644)
