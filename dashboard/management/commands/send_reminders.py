"""manage.py send_reminders: flag and remind now, or show what that would be."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ca.models import Certificate
from dashboard import contacts, expiry, reminders, watching
from dashboard.flagged import Flagged
from dashboard.messages import visible
from dashboard.models import Reminder, State
from eventlog import clock, fence, projections


class Command(BaseCommand):
    help = "Do now what the mail worker does once a minute: flag certificates that nobody renewed, and tell who is to know."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only show what would go to whom")

    def handle(self, *args: Any, **options: Any) -> None:
        now = datetime.now(UTC)
        if not settings.EMAIL:
            self.stderr.write("EMAIL_URL is not set: nobody is reminded by mail")
        if options["dry_run"]:
            self._show(now)
            return
        try:
            flagged = expiry.flag_due(now)
        except (clock.ClockApart, fence.LogBehind) as error:
            raise CommandError(f"no certificate is flagged: {error}") from None
        self.stdout.write(f"{flagged} flagged, {reminders.send_due(now)} messages sent")

    def _show(self, now: datetime) -> None:
        """Reading on in the log is no part of what is only shown: it tells nobody anything."""
        projections.catch_up(watching.NAME)
        due = expiry.due(now)
        addresses = contacts.of(due)
        rows = [(recipient, each.serial, each.threshold, "not flagged yet") for each in due for recipient in _told(each, addresses)]
        rows += [(row.recipient, row.serial, row.threshold, row.answer) for row in reminders.waiting()]
        names = dict(Certificate.objects.filter(serial__in={row[1] for row in rows}).values_list("serial", "names"))
        for recipient, serial, threshold, note in sorted(rows):
            self._line(recipient, threshold, serial, visible(", ".join(names[serial])), note)
        self.stdout.write("This was a dry run: nothing is flagged, nothing is sent.")
        if unconfirmed := Reminder.objects.filter(state=State.HANDED).count():
            self.stdout.write(f"{unconfirmed} earlier ones were delivered or not: the connection broke. They are not sent again.")

    def _line(self, *cells: str) -> None:
        self.stdout.write("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (32, 14, 40, 32, 0), strict=True)).rstrip())


def _told(each: Flagged, addresses: dict[str, contacts.Addresses]) -> list[str]:
    """Its recipients, or a word that there is none."""
    webhook = ["webhook"] if settings.WEBHOOK_URL else []
    return [*addresses[each.serial], *webhook] or ["(nobody: set a contact)"]
