"""What the OpenAPI description says of dashboard's views.

Owns the description only: no answer passes through these serializers, the tests compare the two.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers

from ca.api.documents import described, path, query
from ca.api.listing import MAX_LIMIT

from .services import STATUSES


class ServiceSummarySerializer(serializers.Serializer[Any]):
    """`certificates`: the newest of each place; `left_behind`: those of them that should have been replaced; `or_more`: there are more
    than were counted."""

    service = serializers.CharField()
    nodes = serializers.IntegerField()
    certificates = serializers.IntegerField()
    left_behind = serializers.IntegerField()
    issued_at = serializers.DateTimeField()
    or_more = serializers.BooleanField()


class ServicesSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    results = ServiceSummarySerializer(many=True)
    next = serializers.URLField(allow_null=True)


class LaggardSerializer(serializers.Serializer[Any]):
    """One certificate of a node. `line` is the serial of the first of its line, `generation` its number in it; `renew_by` when its
    successor should have been there."""

    node = serializers.CharField(allow_blank=True)
    serial = serializers.CharField()
    line = serializers.CharField()
    generation = serializers.IntegerField(min_value=1)
    status = serializers.ChoiceField(STATUSES)
    never_renewed = serializers.BooleanField()
    owner = serializers.CharField()
    profile = serializers.CharField()
    names = serializers.ListField(child=serializers.CharField())
    not_before = serializers.DateTimeField()
    not_after = serializers.DateTimeField()
    renew_by = serializers.DateTimeField()
    issued_at = serializers.DateTimeField()
    superseded_by = serializers.CharField(allow_null=True)


class GenerationSerializer(LaggardSerializer):
    """`served`, `seen_at`: what the node said when it last checked in with this certificate; `deployed` null where nobody looked.
    `replace_by`: an order wants it replaced before then, and it has no successor yet. These are of now, whatever time is asked about."""

    served = serializers.CharField(allow_null=True)
    deployed = serializers.BooleanField(allow_null=True)
    seen_at = serializers.DateTimeField(allow_null=True)
    replace_by = serializers.DateTimeField(allow_null=True)


class NodeSerializer(serializers.Serializer[Any]):
    """A page ends after as many lines as it may have: a node that has more goes on on the next."""

    node = serializers.CharField(allow_blank=True)
    generations = GenerationSerializer(many=True)


class ServiceSerializer(serializers.Serializer[Any]):
    service = serializers.CharField()
    at = serializers.DateTimeField()
    nodes = serializers.IntegerField()
    certificates = serializers.IntegerField()
    current = serializers.IntegerField()
    left_behind = serializers.IntegerField()
    revoked = serializers.IntegerField()
    or_more = serializers.BooleanField()
    to_be_replaced = serializers.IntegerField()
    laggards = LaggardSerializer(many=True)
    results = NodeSerializer(many=True)
    next = serializers.URLField(allow_null=True)


_PAGE = (
    query("at", "as things stood, or will stand, at this time", OpenApiTypes.DATETIME),
    query("limit", f"1 to {MAX_LIMIT}", int),
    query("cursor", "from a page's `next`"),
)
services = described("services", "Services, by name", {200: ServicesSerializer}, parameters=_PAGE)
service = described(
    "service", "The nodes of a service, which generation each runs, and which were left behind",
    {200: ServiceSerializer}, parameters=(path("name", "^[A-Za-z0-9._-]{1,100}$"), *_PAGE),
)  # fmt: skip
