"""manage.py list_contacts: who is reminded of what, and who cannot be."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db.models import Max, QuerySet

from dashboard import contacts
from dashboard.models import Contact, Reminder, Scope, State, Unsubscribed


class Command(BaseCommand):
    help = "Show every contact, whether it unsubscribed, and why it could not be told if the last try failed."

    def handle(self, *args: Any, **options: Any) -> None:
        gone = set(Unsubscribed.objects.values_list("recipient_hash", flat=True))
        failed = dict(_failing().values_list("recipient_hash").annotate(Max("answer")))
        rows = [(row.scope, row.name or "-", row.address) for row in Contact.objects.order_by("scope", "name", "id")]
        if not any(scope == Scope.DEFAULT for scope, _, _ in rows):
            rows += [("default", "QUICKLIME_MAIL_TO", address) for address in settings.MAIL_TO]
        for scope, name, address in rows:
            digest = contacts.hash_of(address)
            note = "unsubscribed" if digest in gone else failed.get(digest, "")
            self.stdout.write("  ".join((f"{scope:<8}", f"{name:<24}", f"{address:<32}", note)).rstrip())
        if not settings.EMAIL:
            self.stderr.write("EMAIL_URL is not set: nobody is reminded by mail")


def _failing() -> QuerySet[Reminder]:
    return Reminder.objects.filter(state=State.DUE).exclude(answer="")
