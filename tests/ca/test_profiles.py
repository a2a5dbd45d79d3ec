"""The table of profiles: every field of every profile, so that a change to one is a decision."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from datetime import timedelta
from typing import Any

import pytest

from ca.profiles import LEAF, PROFILES

KINDS = ("P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096")
COMMON: dict[str, Any] = {
    "version": 1,
    "default": timedelta(days=90),
    "maximum": timedelta(days=397),
    "key_usage": ("digitalSignature",),
    "rsa_key_usage": (),
    "key_kinds": KINDS,
    "name_kinds": ("dns", "ip", "uri"),
    "backdate": timedelta(minutes=1),
    "wildcards": True,
    "requires_name": True,
    "no_rev_avail": False,
    "ocsp_no_check": False,
    "ca": False,
    "requestable": True,
    "channels": ("ocsp", "crl"),
    "renewal_grace": timedelta(days=30),
    "may_reuse_key": True,
}
INTERNAL = {"name_kinds": (), "requires_name": False, "requestable": False, "channels": ()}
EXPECTED: dict[str, dict[str, Any]] = {
    "server": {"extended_key_usage": ("serverAuth",), "rsa_key_usage": ("keyEncipherment",)},
    "client": {"extended_key_usage": ("clientAuth",), "wildcards": False},
    "peer": {"extended_key_usage": ("serverAuth", "clientAuth"), "rsa_key_usage": ("keyEncipherment",)},
    "short-lived": {
        "extended_key_usage": ("serverAuth", "clientAuth"),
        "rsa_key_usage": ("keyEncipherment",),
        "default": timedelta(days=1),
        "maximum": timedelta(days=7),
        "no_rev_avail": True,
        "channels": (),
        "renewal_grace": timedelta(0),
        "may_reuse_key": False,
    },
    "ocsp-signer": INTERNAL
    | {
        "extended_key_usage": ("OCSPSigning",),
        "default": timedelta(days=30),
        "maximum": timedelta(days=90),
        "ocsp_no_check": True,
    },
    "intermediate": INTERNAL
    | {
        "extended_key_usage": (),
        "key_usage": ("keyCertSign", "cRLSign"),
        "default": timedelta(days=1825),
        "maximum": timedelta(days=3650),
        "ca": True,
    },
}


def test_there_are_these_profiles() -> None:
    assert list(PROFILES) == list(EXPECTED)
    assert LEAF == ("server", "client", "peer", "short-lived")


@pytest.mark.parametrize("name", EXPECTED)
def test_every_field(name: str) -> None:
    assert asdict(PROFILES[name]) == COMMON | {"name": name} | EXPECTED[name]


def test_status_pointers_are_for_what_has_a_status() -> None:
    assert {name: profile.status_pointers for name, profile in PROFILES.items()} == {
        "server": True, "client": True, "peer": True, "short-lived": False, "ocsp-signer": False, "intermediate": True,
    }  # fmt: skip


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PROFILES["server"] = PROFILES["client"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        PROFILES["server"].version = 2  # type: ignore[misc]
