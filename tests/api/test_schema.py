"""schemathesis: whatever the description permits or forbids is sent; each answer is one that it describes, and never a 5xx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from ca.models import Certificate
from eventlog import projections
from quicklime_site.wsgi import application

from .conftest import Caller

schemathesis.serializer.alias(["application/pkcs10", "application/x-pem-file"], "application/octet-stream")
schema = schemathesis.openapi.from_wsgi("/api/v1/schema/", application)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@pytest.mark.django_db(transaction=True)  # the server closes its connections
@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_described(case: schemathesis.Case, fuzzer: Caller) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {fuzzer.secret}"}, checks=CHECKS)


@pytest.fixture
def fuzzer(issued: dict[str, Any], caller: Callable[..., Caller]) -> Caller:
    """Somebody who may do everything, in a world where there is something to see."""
    assert Certificate.objects.exists()
    projections.catch_up("lineage")
    return caller("mallory", "issue", "read", "audit", "log", "renew", "revoke")
