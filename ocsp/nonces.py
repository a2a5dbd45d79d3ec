"""Answers made for one request, with its nonce (RFC 9654), where the settings want any.

Owns both ends of the way between a responder, which holds no key, and a worker, which does. On it goes the question and
nothing else: what is to be said of the serial the worker reads itself, from the log as it is at that moment. Whatever goes wrong,
the responder has the ready answer, which says the same without a nonce; so nobody waits for long, and nothing queues up.

The questions lie in one list in Redis, which is bounded; the message to the workers only says that there are some. An
answer waits for its responder in a list of its own, for two seconds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from time import monotonic
from typing import cast

import redis
import redis.asyncio
from celery import current_app
from django.conf import settings

from ca.pki import der, ocsp_response
from ca.pki.ocsp_request import Asked
from eventlog import projections

from . import feed
from .models import Issuer, State, Status
from .projections import NAME
from .responses import UNANSWERED, Answers, Wanted

log = logging.getLogger(__name__)
TASK = "ocsp.fresh"
EXPIRES = 2  # seconds after which neither a question nor an answer is of use to anybody; Redis counts them
MESSAGE_EXPIRES = 600  # seconds of the message, by the clocks of who sends and who receives it, which may differ by minutes
PATIENCE = 0.5  # seconds that a request with a nonce may take longer: a good is that old when it arrives
MOST = 256  # questions that wait at once
BATCH = 64  # of them a worker answers in one go
_SPARED = 1.0  # seconds
_QUESTIONS, _WAKE, _REPLY = "quicklime:ocsp:questions", "quicklime:ocsp:wake", "quicklime:ocsp:answer:"
_HEX = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Question:
    """All in hex but `algorithm`, of the CertID: its hashes of the issuer's name and key, the serial in 40 digits, the nonce, and
    the name of the list where the answer is awaited."""

    algorithm: ocsp_response.Hash
    name_hash: str
    key_hash: str
    serial: str
    nonce: str
    reply: str

    @property
    def issuer(self) -> tuple[str, str]:
        """The issuer as the CertID names it."""
        return self.name_hash, self.key_hash


# --- the responder's end


class Budget:
    """A token bucket: `rate` a second, and no more than one second's at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(rate, 1.0)
        self._left, self._at = self._most, monotonic()

    def take(self) -> bool:
        """True if there is one left, which is then gone."""
        now = monotonic()
        self._left, self._at = min(self._most, self._left + (now - self._at) * self._rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Fresh:
    """Has requests with a nonce answered by a worker, `rate` a second; the processes of a host share its budget evenly."""

    def __init__(self, rate: float) -> None:
        self._budget = Budget(rate)
        self._redis = redis.asyncio.Redis.from_url(
            settings.REDIS_URL, socket_timeout=2 * PATIENCE, socket_connect_timeout=PATIENCE, retry=None, max_connections=64
        )
        self._sender = ThreadPoolExecutor(1)  # Celery sends with a blocking socket
        self._spared_until = float("-inf")

    async def answer(self, asked: Asked) -> bytes | None:
        """The DER response with the nonce of `asked`, or None, after PATIENCE at the latest: then the ready answer will do.
        Never raises."""
        if asked.nonce is None or not 0 < asked.serial < 1 << 160 or monotonic() < self._spared_until or not self._budget.take():
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._ask(_question(asked))
        except Exception as error:  # the broker's client has many of its own, and whatever it is, there is the ready answer
            log.warning("no answer with a nonce was to be had (%s): ready ones are given", type(error).__name__)
            self._spared_until = monotonic() + _SPARED
            return None
        return answer if _wrapped(asked.nonce) in answer else None

    async def close(self) -> None:
        """Give the connections back."""
        self._sender.shutdown(wait=False, cancel_futures=True)
        await self._redis.aclose()

    async def _ask(self, question: Question) -> bytes:
        """What the worker answers, b"" if it has nothing to say."""
        async with self._redis.pipeline(transaction=True) as batch:
            batch.rpush(_QUESTIONS, json.dumps(asdict(question)))
            batch.ltrim(_QUESTIONS, 0, MOST - 1)
            batch.expire(_QUESTIONS, EXPIRES)
            batch.set(_WAKE, 1, nx=True, ex=EXPIRES)
            waiting, _, _, first = await batch.execute()
        if waiting > MOST:
            return b""
        if first:
            await asyncio.get_running_loop().run_in_executor(self._sender, _wake)
        found = await self._redis.blpop([_REPLY + question.reply], timeout=PATIENCE)
        if found is None:
            raise TimeoutError
        return cast(bytes, found[1])


def _question(asked: Asked) -> Question:
    assert asked.nonce is not None
    name, key = asked.issuer_name_hash.hex(), asked.issuer_key_hash.hex()
    return Question(cast(ocsp_response.Hash, asked.algorithm), name, key, f"{asked.serial:040x}", asked.nonce.hex(), secrets.token_hex(16))


def _wrapped(nonce: bytes) -> bytes:
    """As it stands in a response's extension: a replayed answer has another."""
    return der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, nonce))


def _wake() -> None:
    current_app.send_task(TASK, retry=False, expires=MESSAGE_EXPIRES)


# --- the worker's end


def answer_waiting(now: datetime) -> bool:
    """Answer the questions that wait, at most BATCH; True if more do. Says nothing while the projection cannot read on, and has
    nothing to say while another process reads or rebuilds it: the ready answers will do."""
    client = feed.client()
    client.delete(_WAKE)  # from here on the next question wakes a worker again: this run may look before it is there
    with client.pipeline(transaction=True) as batch:
        batch.lrange(_QUESTIONS, 0, BATCH - 1)
        batch.ltrim(_QUESTIONS, BATCH, -1)
        batch.llen(_QUESTIONS)
        texts, _, left = batch.execute()
    questions = [question for text in texts if (question := _read(text))]
    if questions:
        _reply(client, _answered(questions, now) if _read_on() else [(each.reply, b"") for each in questions])
    return bool(left)


def _read_on() -> bool:
    """Whether the tables are now as the log is. Without waiting for a rebuild, which would keep the worker from issuing."""
    try:
        projections.catch_up(NAME, wait=False)
    except projections.CursorHeld:
        return False
    return True


def _answered(questions: list[Question], now: datetime) -> Iterable[tuple[str, bytes]]:
    """(where it is awaited, the answer or b"") for each of the questions."""
    answers, wanted, issuers = Answers(now), _wanted({each.serial for each in questions}, now), _issuers()
    for each in questions:
        said = wanted.get(each.serial)
        known = said is not None and said.issuer in issuers.get((each.algorithm, *each.issuer), ())
        answer = answers.with_nonce(said, each.algorithm, bytes.fromhex(each.nonce)) if said and known else None
        yield each.reply, answer or b""


def _wanted(serials: set[str], now: datetime) -> dict[str, Wanted]:
    """What is to be said of those that are good or revoked and have not expired."""
    rows = Status.objects.filter(serial__in=serials, state__in=(State.ISSUED, State.REVOKED)).exclude(profile__in=UNANSWERED)
    columns = ("serial", "issuer", "not_after", "revoked_at", "reason", "position")
    found = [Wanted(*row) for row in rows.values_list(*columns)]
    return {each.serial: each for each in found if each.not_after is None or now < each.not_after}


def _issuers() -> Mapping[tuple[str, str, str], list[str]]:
    """How CertIDs name an issuer, (algorithm, name's hash, key's hash) → those of that name and key."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name, certificate in Issuer.objects.values_list("name", "certificate"):
        for algorithm in ocsp_response.HASHES:
            name_hash, key_hash = ocsp_response.issuer_hashes(bytes(certificate), algorithm)
            found.setdefault((algorithm, name_hash.hex(), key_hash.hex()), []).append(name)
    return found


def _reply(client: redis.Redis, answers: Iterable[tuple[str, bytes]]) -> None:
    with client.pipeline(transaction=False) as batch:
        for reply, answer in answers:
            batch.rpush(_REPLY + reply, answer)
            batch.expire(_REPLY + reply, EXPIRES)
        batch.execute()


def _read(text: bytes) -> Question | None:
    """None for what no responder wrote."""
    try:
        fields = json.loads(text)
        question = Question(**fields)
        wrong = [name for name, value in fields.items() if name != "algorithm" and not _HEX.fullmatch(value)]
    except (TypeError, ValueError, RecursionError):
        return None
    fits = len(question.serial) == 40 and len(question.nonce) <= 256 and len(question.reply) == 32
    return question if fits and not wrong and question.algorithm in ocsp_response.HASHES else None
