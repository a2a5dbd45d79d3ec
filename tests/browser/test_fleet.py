"""What `make demo-data` makes is what life would have made: the oracle says so of a small one."""

from __future__ import annotations

import pytest

from ca.models import Certificate, CheckIn, Replacement, Request
from dashboard.models import Generation, Reminder, State
from tests import oracle

from .conftest import Site

pytestmark = pytest.mark.django_db


def test_its_history_is_sound(site: Site) -> None:
    oracle.check()


def test_it_has_a_bit_of_everything(site: Site) -> None:
    assert Certificate.objects.filter(revoked_at__isnull=False).exists()
    assert Generation.objects.filter(number__gte=2).exists()
    assert Reminder.objects.filter(state=State.SENT, threshold="renewal-missed").exists()
    assert Request.objects.filter(state="rejected").count() == 4
    assert Request.objects.filter(state="awaiting_approval").exists()
    assert CheckIn.objects.exclude(served="").exists()
    assert Replacement.objects.filter(completed_at=None).exists()
