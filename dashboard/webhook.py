"""The second channel: one HTTPS POST of JSON for each run, signed.

Owns the form of the call and its signature. The URL is the operator's setting and nobody else's: no redirect is followed, no proxy
and no netrc of the environment is used, and the answer's body is not read. A receiver may be told twice of one thing, after an
answer was lost, and knows it again by the reminder's id; it tells old calls from new ones by the time that is signed.
"""

from __future__ import annotations

import hmac
import json
import ssl
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
from django.conf import settings

RECIPIENT = "webhook"  # no mail address, so it stands beside them
SIGNATURE = "Quicklime-Signature"
TIMEOUT, WHOLE = 10.0, 30.0  # seconds: for each step, and for all of them, however slowly they drip


class NotTaken(Exception):
    """The receiver did not answer 2xx in time; its words are not repeated."""


def body_of(message: str, reminders: Sequence[dict[str, Any]]) -> bytes:
    """{"message", "reminders": [{"id", "serial", "threshold", …}]}."""
    return json.dumps({"message": message, "reminders": list(reminders)}, sort_keys=True).encode()


def signature(secret: bytes, body: bytes, now: datetime) -> str:
    """ "t=<Unix seconds>,v1=<hex HMAC-SHA-256 over the seconds, a dot and the body>"."""
    seconds = str(int(now.timestamp()))
    return f"t={seconds},v1={hmac.digest(secret, seconds.encode() + b'.' + body, 'sha256').hex()}"


def post(body: bytes, now: datetime) -> None:
    """Deliver `body`. Raises NotTaken; OSError if the secret's file cannot be read."""
    assert settings.WEBHOOK_SECRET_FILE  # env refuses a URL without it
    secret = settings.WEBHOOK_SECRET_FILE.read_bytes().strip()
    headers = {"Content-Type": "application/json", SIGNATURE: signature(secret, body, now), "User-Agent": "quicklime"}
    answer: list[str] = []
    thread = threading.Thread(target=lambda: answer.append(_answer(body, headers)), daemon=True)  # each read may wait, and begin anew
    thread.start()
    thread.join(WHOLE)
    if answer != ["ok"]:
        raise NotTaken(answer[0] if answer else f"no answer within {WHOLE:g} s")


def _answer(body: bytes, headers: dict[str, str]) -> str:
    """ "ok", or why not."""
    try:
        with (
            httpx.Client(verify=ssl.create_default_context(), trust_env=False, follow_redirects=False, timeout=TIMEOUT) as client,
            client.stream("POST", settings.WEBHOOK_URL, content=body, headers=headers) as response,
        ):
            return "ok" if response.is_success else f"answered {response.status_code}"
    except (httpx.HTTPError, OSError) as error:
        return type(error).__name__
