"""What somebody who has no certificate yet is told to type: which file of the first start, and a name that is issued for.

Owns those words of a command, quoted for a shell. What is done with them, a page or a terminal shows.
"""

from __future__ import annotations

import shlex

from django.conf import settings


def state_file(name: str) -> str:
    """The whole path of a file in the state directory: who reads a page may stand anywhere on the server."""
    return shlex.quote(f"{settings.STATE}/{name}")


def host() -> str:
    """A name in the first zone that is not this host alone."""
    return f"payroll.{next((zone for zone in settings.ZONES if zone != 'localhost'), 'localhost')}"
