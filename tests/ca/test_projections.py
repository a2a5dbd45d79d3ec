"""ca's tables made anew from the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection

from ca import pipeline, tokens
from ca.models import Certificate, CertificateName, Intent, Token
from eventlog import projections, staging
from tests import oracle
from tests.material import csr

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("worth", "prepares"), [(0, False), (0, True), (10**9, False)], ids=["beside", "beside, where statements were prepared", "in place"]
)
def test_a_rebuild_puts_right_what_was_changed_by_hand(
    worth: int, prepares: bool, hierarchy: None, now: datetime, run_pipeline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that was prepared names the table that one of the rebuild's own hides."""
    monkeypatch.setattr(staging, "WORTH", worth)
    if prepares and connection.vendor == "postgresql":
        monkeypatch.setattr(connection.connection, "prepare_threshold", 0)
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])
    pipeline.submit(token, [pipeline.Submission(csr(f"{name}.internal", f"www.{name}.internal")) for name in "abc"], datetime.now(UTC))
    run_pipeline()
    right = oracle._tables()
    first, second, third = Certificate.objects.order_by("log_position")
    Certificate.objects.filter(serial=first.serial).update(owner="mallory")
    Certificate.objects.filter(serial=second.serial).delete()
    Certificate.objects.filter(serial=third.serial).update(serial="f" * 40)
    CertificateName.objects.filter(serial=first.serial).delete()
    CertificateName.objects.create(name="forged.internal", serial=third.serial, log_position=1)
    Intent.objects.all().delete()
    Token.objects.update(revoked_at=now)
    projections.rebuild("ca")
    assert oracle._tables() == right
