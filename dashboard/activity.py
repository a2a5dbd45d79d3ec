"""dashboard's projection "activity": how many events of each telling type there were in each hour.

Owns every write to Activity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from eventlog.append import StoredEvent
from eventlog.bulk import add_counts
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from .models import Activity

NAME = "activity"
ISSUED, REVOKED, REJECTED = "certificate.issued", "certificate.revoked", "request.rejected"


def register() -> None:
    """Make the projection known to the log. Called once, when Django starts."""
    register_projection(Projection(NAME, dict.fromkeys((ISSUED, REVOKED, REJECTED), _count), (Activity,)))


def _count(events: Sequence[StoredEvent]) -> None:
    found = Counter((_hour(event.time), event.type) for event in events)
    add_counts(Activity, ("hour", "type"), "count", sorted(found.items()))


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def since(moment: datetime) -> dict[tuple[datetime, str], int]:
    """(hour, type) → count, of the hours that begin at `moment` or later."""
    rows = Activity.objects.filter(hour__gte=moment).values_list("hour", "type", "count")
    return {(hour, kind): count for hour, kind, count in rows}
