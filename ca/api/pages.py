"""The address of a page's successor."""

from __future__ import annotations

from rest_framework.request import Request


def following(request: Request, cursor: str | None) -> str | None:
    """The same request with this `cursor`; None if there is none."""
    if cursor is None:
        return None
    query = request.query_params.copy()
    query["cursor"] = cursor
    return request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
