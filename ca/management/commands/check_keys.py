"""manage.py check_keys: would this machine start?"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ca import hierarchy
from ca.management import issuer_options


class Command(BaseCommand):
    help = "Say whether keys, certificates and settings fit each other; if not, every reason why issuing would not start."

    def handle(self, *args: Any, **options: Any) -> None:
        with issuer_options.told():
            reasons = hierarchy.check(datetime.now(UTC))
        if reasons:
            raise CommandError("the keys do not fit\n  " + "\n  ".join(reasons))
        self.stdout.write("keys, certificates and settings fit\n")
