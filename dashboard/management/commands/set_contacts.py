"""manage.py set_contacts: who is reminded of certificates that nobody renewed."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ca.models import Token
from dashboard import contacts
from dashboard.models import Scope


class Command(BaseCommand):
    help = (
        "Say which mail addresses are told about the certificates of a service, a token or an owner, or of all that have no "
        "contact of their own. They replace those that were there; none at all removes them. Contacts of a service come before "
        "those of a token, these before an owner's. What waits to be sent goes to the new ones."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--service", help="name of the service")
        which.add_argument("--token", help="id of the token, as create_token printed it")
        which.add_argument("--owner", help="whose certificates, for example: team-payments")
        which.add_argument("--default", action="store_true", help="who has no other contact; before QUICKLIME_MAIL_TO")
        which.add_argument("--resubscribe", metavar="ADDRESS", help="tell this address again, which unsubscribed")
        parser.add_argument("addresses", nargs="*", metavar="ADDRESS")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["resubscribe"]:
                self._resubscribe(options["resubscribe"], options["addresses"])
            else:
                self._replace(*_which(options), options["addresses"])
        except ValueError as error:
            raise CommandError(str(error)) from None

    def _replace(self, scope: Scope, name: str, addresses: list[str]) -> None:
        contacts.replace(scope, name, addresses)
        self.stdout.write(f"{scope} {name}".strip() + f": {', '.join(addresses) or 'no contacts'}")

    def _resubscribe(self, address: str, more: list[str]) -> None:
        if more:
            raise CommandError("--resubscribe takes one address")
        self.stdout.write(f"{address}: " + ("subscribed again" if contacts.resubscribe(address) else "it had not unsubscribed"))


def _which(options: dict[str, Any]) -> tuple[Scope, str]:
    if options["default"]:
        return Scope.DEFAULT, ""
    scope, name = next((scope, options[scope]) for scope in Scope if options[scope] is not None)
    if not 1 <= len(name) <= 200:
        raise CommandError(f"--{scope}: give a name of 1 to 200 characters")
    if scope == Scope.TOKEN and not Token.objects.filter(id=name).exists():
        raise CommandError(f"--token: there is no token {name}; it is the id that is asked for, not the token itself")
    return scope, name
