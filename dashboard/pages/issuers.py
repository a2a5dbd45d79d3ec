"""The hierarchy as a tree: how long each issuer lasts, what it may certify, what it signs, and how its certificates' status is served."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase

from ca.api import representations
from ca.models import Activation, Issuer
from dashboard import access, charts, decoding, neighbours
from dashboard.roles import Right

from . import log
from .base import show


@dataclass(frozen=True, slots=True)
class Node:
    """An issuer with what is below it."""

    row: Mapping[str, Any]
    subject: str
    share: int  # percent of its lifetime that has passed
    standing: str
    constraints: Sequence[tuple[str, Sequence[str]]]
    profiles: Sequence[str]
    crls: Sequence[neighbours.ServedCrl]
    delegates: Sequence[neighbours.Delegate]
    children: Sequence[Node]


@access.page(Right.SEE)
def issuers(request: HttpRequest) -> HttpResponseBase:
    """GET issuers/"""
    now = datetime.now(UTC)
    return show(request, "issuers.html", {"roots": _tree(now)}, now)


def _tree(now: datetime) -> list[Node]:
    below: dict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for row in Issuer.objects.order_by("position").values():
        below[row["parent"]].append(row)
    profiles = _grouped((each.issuer, each.profile) for each in Activation.objects.order_by("profile"))
    crls = _grouped((each.issuer, each) for each in neighbours.crls())
    delegates = _grouped((each.issuer, each) for each in neighbours.delegates() if each.not_after > now)

    def node(row: Mapping[str, Any]) -> Node:
        name, der = row["name"], bytes(row["certificate"])
        subject = decoding.subject(der)
        children = [node(child) for child in below[name]]
        share = charts.share(row["not_before"], row["not_after"], now)
        parts = (decoding.constraints_of(der), profiles[name], crls[name], delegates[name])
        return Node(row, subject, share, _standing(row, now), *parts, children)

    return [node(row) for row in below[None]]


def _grouped(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for name, value in pairs:
        found[name].append(value)
    return found


def _standing(row: Mapping[str, Any], now: datetime) -> str:
    if row["not_after"] < now:
        return "expired"
    return "ending" if charts.share(row["not_before"], row["not_after"], now) >= 80 else "active"


@access.page(Right.SEE)
def issuer(request: HttpRequest, name: str) -> HttpResponseBase:
    """GET issuers/{name}/"""
    now, row = datetime.now(UTC), Issuer.objects.filter(name=name).values().first()
    if row is None:
        raise Http404
    der = bytes(row["certificate"])
    context = {
        "issuer": row,
        "standing": _standing(row, now),
        "share": charts.share(row["not_before"], row["not_after"], now),
        "sections": decoding.certificate(der),
        "pem": representations.pem(der),
        "profiles": Activation.objects.filter(issuer=name).order_by("profile").values_list("profile", flat=True),
        "crls": [each for each in neighbours.crls() if each.issuer == name],
        "delegates": [each for each in neighbours.delegates() if each.issuer == name],
        "events": log.about(name),
    }
    return show(request, "issuer.html", context, now)
