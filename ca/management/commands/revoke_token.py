"""manage.py revoke_token: stop an API token and everything it has queued."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ca import tokens


class Command(BaseCommand):
    help = "Revoke an API token: the next call with it is refused, and requests it has queued are not signed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("token", help="the token's id (16 hex digits, as create_token names it), not the token itself")
        parser.add_argument("--why", default="", help="goes into the log")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tokens.revoke(options["token"], datetime.now(UTC), by="manage.py", why=options["why"])
        except tokens.NoSuchToken:
            raise CommandError(f"there is no token {options['token']!r}; its id has 16 hex digits") from None
        self.stdout.write(f"token {options['token']} is revoked")
