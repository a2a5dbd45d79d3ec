"""ca.challenges: the revocation secret and the renewal challenge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from uuid import UUID

import pytest

from ca.challenges import STRONG, estimated_bits, new_renewal_challenge, password_hash, revocation_secret, secret_hash

KEY, ISSUER, SERIAL = b"k" * 32, b"i" * 20, "0a" * 20


def test_secret_is_forty_lower_case_characters_in_groups_of_five() -> None:
    assert re.fullmatch(r"[a-z2-7]{5}(-[a-z2-7]{5}){7}", revocation_secret(KEY, ISSUER, SERIAL))


def test_secret_is_the_documented_hmac() -> None:
    message = b"quicklime-revocation-v1\0" + b"\x14" + ISSUER + bytes.fromhex(SERIAL)
    expected = base64.b32encode(hmac.new(KEY, message, hashlib.sha256).digest()[:25]).decode().lower()
    assert revocation_secret(KEY, ISSUER, SERIAL).replace("-", "") == expected


def test_secret_is_the_same_each_time_and_for_each_spelling_of_the_serial() -> None:
    assert revocation_secret(KEY, ISSUER, "00ff") == revocation_secret(KEY, ISSUER, "ff")


@pytest.mark.parametrize(
    ("key", "issuer", "serial"),
    [(b"K" * 32, ISSUER, SERIAL), (KEY, b"I" * 20, SERIAL), (KEY, ISSUER, "0b" * 20), (KEY, b"i" * 19, SERIAL)],
)
def test_secret_differs_with_each_of_its_parts(key: bytes, issuer: bytes, serial: str) -> None:
    assert revocation_secret(key, issuer, serial) != revocation_secret(KEY, ISSUER, SERIAL)


def test_hash_overlooks_case_dashes_and_spaces() -> None:
    secret = revocation_secret(KEY, ISSUER, SERIAL)
    spellings = [secret.upper(), secret.replace("-", ""), secret.replace("-", " "), f"  {secret}\r\n"]
    assert {secret_hash(spelling) for spelling in spellings} == {secret_hash(secret)}


def test_hash_is_sha256_of_the_bare_characters() -> None:
    secret = revocation_secret(KEY, ISSUER, SERIAL)
    assert secret_hash(secret) == hashlib.sha256(secret.replace("-", "").encode()).digest()


@pytest.mark.parametrize("text", ["", "\ud800", "\u0130", "x" * 10_000])
def test_any_text_has_a_hash_other_than_the_secrets(text: str) -> None:
    assert secret_hash(text) != secret_hash(revocation_secret(KEY, ISSUER, SERIAL))


def test_renewal_challenges_are_32_bytes_and_never_the_same() -> None:
    made = {new_renewal_challenge() for _ in range(100)}
    assert len(made) == 100
    assert {len(challenge) for challenge in made} == {32}


# --- challengePassword


@pytest.mark.parametrize(
    "make",
    [lambda: secrets.token_hex(20), lambda: secrets.token_urlsafe(24), lambda: "".join(secrets.choice("0123456789") for _ in range(60))],
)
def test_random_text_is_strong(make: Callable[[], str]) -> None:
    assert all(estimated_bits(make()) >= STRONG for _ in range(200))


@pytest.mark.parametrize(
    "password",
    ["", "x", "x" * 255, "hunter2", "hunter2" * 36, "ab" * 100, "0123456789" * 25, "Tr0ub4dor&3", "correct horse battery",
     secrets.token_hex(10),
     secrets.token_urlsafe(12)],
)  # fmt: skip
def test_what_is_short_or_repeats_itself_is_not(password: str) -> None:
    assert estimated_bits(password) < STRONG


def test_the_estimate_stays_below_what_random_text_holds() -> None:
    texts = [secrets.token_hex(16) for _ in range(300)]
    assert max(map(estimated_bits, texts)) < 128


def test_password_hash_is_the_documented_hmac() -> None:
    request = UUID(int=7)
    message = b"quicklime-challenge-password-v1\0" + bytes(15) + b"\7" + "pässword".encode()
    assert password_hash(KEY, request, "pässword") == hmac.new(KEY, message, hashlib.sha256).digest()
    others = {
        password_hash(KEY, request, "Pässword"),
        password_hash(KEY, UUID(int=8), "pässword"),
        password_hash(b"K" * 32, request, "pässword"),
    }
    assert len(others | {password_hash(KEY, request, "pässword")}) == 4
