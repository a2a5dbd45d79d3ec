"""What the commands that make CA certificates have in common: their options, and errors as one sentence.

Owns the spelling of these options. Must hold no rule: values go to ca.hierarchy as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ca.hierarchy import HierarchyFault
from ca.keys import KEY_KINDS, KeyFault
from ca.models import Issuer
from ca.pki.constraints import Constraints
from ca.pki.violations import Violation


def add_key_options(parser: CommandParser, years: int) -> None:
    """--kind and --years."""
    parser.add_argument("--kind", choices=KEY_KINDS, default="P-256", help="kind of its key (default %(default)s)")
    parser.add_argument("--years", type=_years, default=years, help="how long its certificate is valid (default %(default)s)")


def add_name_options(parser: CommandParser, default: str) -> None:
    """--zone, --ip-range and --trust-domain; `default`: what holds without any of them."""
    names = parser.add_argument_group("the names it may certify", f"Without any of these: {default}. With one of them, only what they say.")
    names.add_argument("--zone", action="append", default=[], metavar="ZONE", help="DNS names at or below ZONE; may be repeated")
    names.add_argument("--ip-range", action="append", default=[], type=_ip_range, metavar="RANGE", help="addresses in RANGE (CIDR)")
    names.add_argument("--trust-domain", action="append", default=[], metavar="DOMAIN", help="spiffe:// URIs of exactly DOMAIN")


def permitted(options: dict[str, Any]) -> Constraints | None:
    """The constraints that the options describe, None without any. Raises Violation."""
    values = tuple(options["zone"]), tuple(options["ip_range"]), tuple(options["trust_domain"])
    return Constraints(*values) if any(values) else None


@contextmanager
def told() -> Iterator[None]:
    """Refusals leave the command as a sentence, not as a traceback."""
    try:
        yield
    except (HierarchyFault, KeyFault) as error:
        raise CommandError(str(error)) from None
    except Violation as violation:
        raise CommandError(violation.detail) from None
    except OSError as error:
        raise CommandError(str(error)) from None


def described(issuer: Issuer) -> str:
    """The issuer on three lines: name and end, fingerprint."""
    return f"{issuer.kind} {issuer.name}, valid until {issuer.not_after:%Y-%m-%d %H:%M:%S} UTC\n  SHA-256 fingerprint  {issuer.fingerprint}"


def write_file(path: Path, content: bytes) -> None:
    """Make `path`; one that is there with other content is not replaced."""
    if path.exists() and path.read_bytes() != content:
        raise CommandError(f"{path} exists and holds something else: move it away or name another file")
    path.write_bytes(content)


def _years(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError("give a whole number from 1 to 50")
    return int(text)


def _ip_range(text: str) -> Any:
    try:
        return ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
