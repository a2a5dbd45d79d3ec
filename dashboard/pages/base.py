"""What every page is made by: the clock, the template, and an error page where a question cannot be answered."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def show(request: HttpRequest, template: str, context: Mapping[str, Any], now: datetime | None = None, status: int = 200) -> HttpResponse:
    """`template` of templates/dashboard/, with the moment that its relative times count from."""
    return render(request, f"dashboard/{template}", {"now": now or datetime.now(UTC), **context}, status=status)


def is_partial(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page that it has already. Decides what is sent, never who may have it."""
    return request.headers.get("HX-Request") == "true"
