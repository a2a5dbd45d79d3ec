"""manage.py activate_issuer: let an intermediate sign."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ca import hierarchy
from ca.management import issuer_options
from ca.profiles import LEAF


class Command(BaseCommand):
    help = "From now on, let an intermediate sign certificates of the given profiles, in place of whichever did."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the intermediate")
        parser.add_argument("--profile", action="append", choices=LEAF, help="may be repeated (default: every one)")

    def handle(self, *args: Any, **options: Any) -> None:
        profiles = options["profile"] or LEAF
        with issuer_options.told():
            for profile in profiles:
                hierarchy.activate(options["name"], profile, datetime.now(UTC))
        self.stdout.write(f"{options['name']} signs {', '.join(profiles)}\n")
