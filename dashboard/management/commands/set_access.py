"""manage.py set_access: make an account, or say which roles and owners it has."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from ca.errors import Problem
from dashboard import accounts
from dashboard.roles import Role


class Command(BaseCommand):
    help = (
        "Say what an account may do: these roles and owners replace those it had; none at all leaves it nothing. An account that is "
        "not there is made; it gets a password by manage.py changepassword. This is an event in the log."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account", help="its name")
        parser.add_argument("--role", action="append", choices=[role.value for role in Role], default=[], help="repeatable")
        parser.add_argument("--owner", action="append", default=[], help="for whom it speaks, for example team-payments; repeatable")
        parser.add_argument("--inactive", action="store_true", help="it may not sign in")
        parser.add_argument("--why", default="", help="goes into the log")

    def handle(self, *args: Any, **options: Any) -> None:
        name, now = options["account"], datetime.now(UTC)
        wanted = accounts.Access([Role(role) for role in options["role"]], options["owner"], not options["inactive"])
        try:
            if User.objects.filter(username=name).exists():
                changed = accounts.set_access(name, wanted, by="manage.py", why=options["why"], now=now)
                self.stdout.write(f"account {name}: {'as you said from now on' if changed else 'it was so already'}")
            else:
                accounts.create(name, wanted, by="manage.py", why=options["why"], now=now)
                self.stdout.write(f"account {name} is made; manage.py changepassword {name} gives it a password")
        except Problem as problem:
            raise CommandError(problem.detail) from None
