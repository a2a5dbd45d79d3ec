"""manage.py publish_status: write the files of QUICKLIME_STATUS_DIR until they are up to date."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from ocsp import publishing

_PAUSE, _TELL_EVERY = 0.1, 5.0  # seconds


class Command(BaseCommand):
    help = "Write OCSP answers, CRLs and issuers as files into QUICKLIME_STATUS_DIR. May be stopped at any time, and goes on where it was."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--anew", action="store_true", help="write every file again, not only what is new since the last time")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.STATUS_DIR is None:
            raise CommandError("QUICKLIME_STATUS_DIR is not set: name the directory that nginx serves")
        if options["anew"]:
            publishing.start_anew()
        try:
            self._publish()
        except OSError as error:
            raise CommandError(f"cannot write to QUICKLIME_STATUS_DIR: {error}") from None
        self.stdout.write(f"up to date; include {settings.STATUS_DIR}/nginx.conf in a server block of nginx\n")

    def _publish(self) -> None:
        tell_at = time.monotonic() + _TELL_EVERY
        while (more := publishing.publish(datetime.now(UTC))) or publishing.behind():
            if not more:
                time.sleep(_PAUSE)  # another process publishes
            if time.monotonic() > tell_at:
                self.stdout.write(f"{publishing.behind()} revisions to go\n")
                tell_at = time.monotonic() + _TELL_EVERY
