"""Quicklime's settings, in a hurry: `peer` certificates live for LIFE, and what beat does about those that nobody renewed comes every
second. For test_whole_fleet. PROFILES is replaced before whoever reads it is imported."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType

from ca import profiles

LIFE = timedelta(seconds=22)
LATE = 90  # percent: agents renew by 72, and a busy machine takes its time

_peer = replace(profiles.PROFILES["peer"], default=LIFE, backdate=timedelta(0))
profiles.PROFILES, profiles.RENEWED_BY = MappingProxyType({**profiles.PROFILES, "peer": _peer}), LATE  # type: ignore[misc]

from quicklime_site import schedule  # noqa: E402
from quicklime_site.settings import *  # noqa: E402, F403

schedule.BEAT["remind"]["schedule"] = 1.0
