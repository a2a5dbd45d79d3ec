"""manage.py status_channels: which channels certificates point to, and when one may be switched off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db.models import Count, Max

from ocsp.models import Status

URLS = {"ocsp": "OCSP_URL", "crl": "CRL_URL"}  # channel → the setting without which no certificate points to it


class Use(NamedTuple):
    """How many certificates that have not expired point to a channel, and when the last of them expires."""

    certificates: int
    until: datetime | None


class Command(BaseCommand):
    help = (
        "Show, for each profile, which channels new certificates point to, and how many unexpired ones do. A channel that is "
        "off for new certificates (QUICKLIME_STATUS_CHANNELS) may be switched off for good after its drain date."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        uses = _uses(datetime.now(UTC))
        rows = [(profile, channel) for profile, channels in settings.STATUS_CHANNELS.items() for channel in URLS if channels]
        rows += sorted(uses.keys() - set(rows))
        self._line("profile", "channel", "new ones", "certificates", "drained after")
        for profile, channel in rows:
            certificates, until = uses.get((profile, channel), Use(0, None))
            self._line(profile, channel, _new_ones(profile, channel), str(certificates), f"{until:%Y-%m-%dT%H:%M:%SZ}" if until else "-")

    def _line(self, *cells: str) -> None:
        self.stdout.write("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (16, 8, 9, 13, 20), strict=True)).rstrip() + "\n")


def _new_ones(profile: str, channel: str) -> str:
    """Whether certificates issued now point there."""
    if channel not in settings.STATUS_CHANNELS.get(profile, ()):
        return "off"
    return "on" if getattr(settings, URLS[channel]) else "no URL"


def _uses(now: datetime) -> dict[tuple[str, str], Use]:
    """(profile, channel) → its use."""
    uses: dict[tuple[str, str], Use] = {}
    unexpired = Status.objects.filter(not_after__gte=now).exclude(channels="")
    for profile, channels, count, until in unexpired.values_list("profile", "channels").annotate(Count("serial"), Max("not_after")):
        for channel in channels.split():
            before = uses.get((profile, channel), Use(0, None))
            uses[profile, channel] = Use(before.certificates + count, max(until, before.until or until))
    return uses
