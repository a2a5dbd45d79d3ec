"""The request headers that the API acts on besides Accept and Authorization: Prefer and Idempotency-Key.

Owns their grammar. Must never act on a value that it could not read whole.
"""

from __future__ import annotations

import re

from rest_framework.request import Request

from ca.errors import Problem

MAX_WAIT = 30  # seconds
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)


def wait(request: Request) -> int:
    """Seconds to wait for, of `Prefer: wait=N` (RFC 7240 §4.3); 0 without it. More than MAX_WAIT is MAX_WAIT, as a
    preference is no demand; other preferences are not known here and ignored. The first `wait` counts (§2)."""
    for preference in request.META.get("HTTP_PREFER", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            text = value.strip().strip('"')
            if not _SECONDS.fullmatch(text):
                raise Problem("invalidHeader", f"Prefer: wait=N takes whole seconds from 1 to {MAX_WAIT}", "Prefer")
            return min(int(text), MAX_WAIT)
    return 0


def idempotency_key(request: Request) -> str | None:
    """`Idempotency-Key`: 1 to 200 visible ASCII characters, or None without the header. Raises Problem."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _KEY.fullmatch(key):
        raise Problem("invalidHeader", "Idempotency-Key takes 1 to 200 visible ASCII characters", "Idempotency-Key")
    return key
