"""manage.py accept_log_loss: an operator's way on when the newest events are gone for good."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from eventlog import fence, notes


class Command(BaseCommand):
    help = (
        "Give up the events that published checkpoints prove to be missing. Certificates issued in them are unknown to this system "
        "and stay valid; revocations in them are forgotten. The decision itself is logged."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True)
        parser.add_argument("--by", default=getpass.getuser(), help="who decides; default: the user logged in")

    def handle(self, *, reason: str, by: str, **options: Any) -> None:
        try:
            position = fence.accept_loss(reason, by, timezone.now())
        except (fence.NothingLost, notes.BadNote) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"Recorded at position {position}. The checkpoints of what was lost are in the checkpoint directory's lost/.")
