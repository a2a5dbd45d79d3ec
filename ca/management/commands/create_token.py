"""manage.py create_token: make an API token and show it once."""

import ipaddress
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ca import tokens
from ca.policy import ACTIONS, ALWAYS, AS_PROFILE
from ca.profiles import LEAF


class Command(BaseCommand):
    help = "Make an API token. It is printed once and kept nowhere; the log holds its SHA-256 and what it may do."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--owner", required=True, help="whose certificates it makes and sees, for example: team-payments")
        parser.add_argument("--label", default="", help="what it is for, for people")
        parser.add_argument("--action", action="append", choices=ACTIONS, help="repeatable; default: issue, read")
        parser.add_argument("--profile", action="append", choices=["*", *LEAF], help="repeatable; default: server")
        parser.add_argument("--name", action="append", help="zone below which it may name hosts, repeatable; default: all zones")
        parser.add_argument("--service", action="append", help="service it may name, repeatable; default: any")
        parser.add_argument("--ip", action="append", default=[], help="IP range it may name, or '*' for all of the CA's")
        parser.add_argument("--uri", action="append", default=[], help="prefix of spiffe:// URIs it may name")
        parser.add_argument("--wildcards", action="store_true", help="may name *.zone")
        parser.add_argument("--approval", action="store_true", help="a person must approve each of its requests, whatever the profile")
        parser.add_argument("--days", type=int, help="expires after so many days; default: never")

    def handle(self, *args: Any, **options: Any) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        token, secret = tokens.create(options["label"] or options["owner"], options["owner"], _scope(options, now), now, by="manage.py")
        self.stderr.write(f"token {token} of {options['owner']}: shown once, keep it safe")
        self.stdout.write(secret)


def _scope(options: dict[str, Any], now: datetime) -> tokens.Scope:
    if options["days"] is not None and not 1 <= options["days"] <= 36500:
        raise CommandError("--days: give a whole number from 1 to 36500")
    for text in options["ip"]:
        _check_range(text)
    return tokens.Scope(
        actions=options["action"] or ("issue", "read"), profiles=options["profile"] or ("server",), names=options["name"] or ("*",),
        services=options["service"] or ("*",), ips=options["ip"], uris=options["uri"], wildcards=options["wildcards"],
        expires_at=now + timedelta(days=options["days"]) if options["days"] else None,
        approval=ALWAYS if options["approval"] else AS_PROFILE,
    )  # fmt: skip


def _check_range(text: str) -> None:
    try:
        if text != "*":
            ipaddress.ip_network(text)
    except ValueError as error:
        raise CommandError(f"--ip: {error}") from None
