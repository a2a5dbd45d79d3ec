"""A fleet with certificates of a day: the load of 10,000 agents, and what it costs one server.

The week and its outage are simulated (benchmarks.fleet); the busiest load that comes of it is then put on a real system by as many
requests a second, each over a connection of its own as an agent's is, but from fewer certificates that turn up more often.
"""

from __future__ import annotations

import json
import random
import ssl
import statistics
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from http.client import HTTPSConnection
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks import fleet, inputs, paths, plot
from benchmarks.failure import Failed
from benchmarks.fleet import Attempts
from benchmarks.machine import Meter
from benchmarks.quicklime import Quicklime
from benchmarks.results import Row, Section, cpu_columns

AGENTS, LIFE, ROLL_OUT = 10_000, timedelta(days=1), timedelta(minutes=10)
DAYS = 8
AWAY_FROM, AWAY_TO = timedelta(days=6), timedelta(days=6, hours=1)  # as a wave of renewals is at its highest
SETTLED, AROUND = timedelta(days=5), (timedelta(hours=1), timedelta(hours=4))  # steady from then; shown before and after the outage
SEED = 20_300_101
FEW, EACH = 1_200, 36  # real certificates, and the seconds between two check-ins of one: as AGENTS every five minutes
THREADS, SAMPLE = 16, 1_000
PICTURE = paths.REPOSITORY / "docs" / "benchmarks-agents.svg"
_MINUTE = timedelta(minutes=1)


def run(section: Section) -> None:
    """Rows "simulated week", "simulated check-ins", "issuance", "renewal" and "busiest load"."""
    renewals = fleet.renewals(AGENTS, LIFE, ROLL_OUT, timedelta(days=DAYS), away, SEED)
    told = fleet.check_ins(AGENTS, AWAY_FROM - AROUND[0], AWAY_TO + AROUND[1], away, SEED)
    week = section.record("simulated week", _week(renewals))
    looks = section.record("simulated check-ins", _looks(told))
    if not section.options.quick:
        PICTURE.write_text(picture(renewals, told))
    with Quicklime() as system:
        section.facts.update(system.facts())
        held = [each for _ in range(2) for each in enrolled(system, FEW // 2)]  # in one call there are 1,000 at most
        section.measure("issuance", lambda: issuance(system))
        section.measure("renewal", lambda: renewal(system))
        seconds = 3 * section.options.seconds
        rates = len(held) / EACH * looks["most_per_minute"] / looks["mean_per_minute"], week["most_per_minute_after"] / 60
        section.measure("busiest load", lambda: busiest(system, held, *rates, seconds))


def away(now: datetime) -> bool:
    """Whether the server is not there."""
    return fleet.START + AWAY_FROM <= now < fleet.START + AWAY_TO


# --- what the simulation says


def _between(values: dict[int, int], begin: timedelta, end: timedelta) -> list[float]:
    return [values.get(minute, 0) for minute in range(begin // _MINUTE, end // _MINUTE)]


def _week(seen: Attempts) -> Row:
    steady = _between(seen.granted, SETTLED, AWAY_FROM)
    after = _between(seen.granted, AWAY_TO, AWAY_TO + timedelta(hours=2))
    first = _between(seen.granted, timedelta(), timedelta(days=1))
    row = {"mean_per_minute": statistics.fmean(steady), "most_per_minute": max(steady), "most_per_minute_after": max(after)}
    row |= {"most_per_minute_first_day": max(first), "refused": sum(seen.refused.values())}
    row |= {"minutes_until_none_is_overdue": (seen.last_overdue - fleet.START - AWAY_TO) / _MINUTE}
    return {**row, "least_hours_left": seen.left / timedelta(hours=1), "expired": seen.expired}


def _looks(seen: Attempts) -> Row:
    before = _between(seen.granted, AWAY_FROM - AROUND[0] + timedelta(minutes=6), AWAY_FROM)
    after = _between(seen.granted, AWAY_TO, AWAY_TO + AROUND[1])
    return {"mean_per_minute": statistics.fmean(before), "most_per_minute": max(after), "refused": sum(seen.refused.values())}


def picture(renewals: Attempts, told: Attempts) -> str:
    """The week and the outage."""
    begin, end = AWAY_FROM - AROUND[0], AWAY_TO + AROUND[1]
    hours = -AROUND[0] / timedelta(hours=1), (end - AWAY_FROM) / timedelta(hours=1)
    shaded, week = (0.0, 1.0, "no server"), timedelta(days=DAYS)
    tens = _between(renewals.granted, timedelta(), week)
    by_ten = [sum(tens[place : place + 10]) / 10 for place in range(0, len(tens), 10)]
    both = [("granted", _between(renewals.granted, begin, end)), ("met nobody", _between(renewals.refused, begin, end))]
    words = [("heard", _between(told.granted, begin, end)), ("met nobody", _between(told.refused, begin, end))]
    out = (AWAY_FROM / timedelta(days=1), AWAY_TO / timedelta(days=1), "")
    return plot.svg([
        plot.Panel("Renewals a minute, all enrolled within ten minutes", 0, DAYS, 1, "days", [("granted", by_ten)], out),
        plot.Panel("Renewals a minute around an outage", *hours, 1, "hours", both, shaded),
        plot.Panel("Check-ins a minute around an outage", *hours, 1, "hours", words, shaded),
    ])  # fmt: skip


# --- what a server makes of it


@dataclass
class Held:
    """A certificate of the fleet and its key."""

    key: ec.EllipticCurvePrivateKey
    csr: x509.CertificateSigningRequest
    serial: str = ""
    identity: bytes = b""  # the issuer's key id and the serial
    challenge: bytes = b""

    def take(self, shown: dict[str, str]) -> None:
        leaf = x509.load_pem_x509_certificate(shown["pem"].encode())
        issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
        self.serial, self.identity = shown["serial"], issuer + leaf.serial_number.to_bytes(20)
        self.challenge = b64decode(shown["renewal_challenge"])

    def sign(self, statement: bytes) -> str:
        return b64encode(self.key.sign(statement, ec.ECDSA(hashes.SHA256()))).decode()


def _new(number: int) -> Held:
    key, host = ec.generate_private_key(ec.SECP256R1()), f"node{number}.fleet.{inputs.ZONE}"
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return Held(key, builder.sign(key, hashes.SHA256()))


def _body(held: Held) -> dict[str, str]:
    csr = held.csr.public_bytes(Encoding.PEM).decode()
    return {"csr": csr, "profile": "short-lived", "service": "fleet", "node": "node"}


def enrolled(system: Quicklime, count: int) -> list[Held]:
    """Certificates that were just issued."""
    held = [_new(number) for number in range(count)]
    with system.client() as client:
        status, content = client.post("/api/v1/certificates/bulk/", json.dumps({"requests": [_body(each) for each in held]}).encode())
    results = json.loads(content).get("results", []) if status == 200 else []
    shown = [result["request"]["certificate"] for result in results if result["request"]]
    if len(shown) != count or not all(shown):
        raise Failed(f"bulk/ answered {status}: {content[:300]!r}")
    for each, certificate in zip(held, shown, strict=True):
        each.take(certificate)
    return held


def issuance(system: Quicklime) -> Row:
    """SAMPLE certificates by THREADS connections, each its next request after its answer."""
    return _closed(system, [("/api/v1/certificates/", _body(_new(number))) for number in range(SAMPLE)])


def renewal(system: Quicklime) -> Row:
    """The same number of renewals, by proof and with the token."""
    return _closed(system, [(f"/api/v1/certificates/{old.serial}/renew/", _renewal(old)) for old in enrolled(system, SAMPLE)])


def _renewal(old: Held) -> dict[str, str]:
    new = Held(ec.generate_private_key(ec.SECP256R1()), old.csr)
    names = old.csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    csr = builder.sign(new.key, hashes.SHA256())
    digest = sha256(csr.public_bytes(Encoding.DER)).digest()
    proof = old.sign(b"quicklime-renewal-v1\0" + old.identity + old.challenge + digest)
    return {"csr": csr.public_bytes(Encoding.PEM).decode(), "proof": proof}


def _closed(system: Quicklime, calls: Sequence[tuple[str, dict[str, str]]]) -> Row:
    """All calls, each answered with a certificate."""
    ready = [(path, json.dumps(body).encode()) for path, body in calls]

    def some(share: Sequence[tuple[str, bytes]]) -> list[float]:
        with system.client() as client:
            return [_timed(partial(client.post, path, body), 201) for path, body in share]

    with Meter(system.measured) as meter, ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        taken = sorted(each for times in pool.map(some, [ready[first::THREADS] for first in range(THREADS)]) for each in times)
        seconds = time.perf_counter() - start
    return {"per_second": len(taken) / seconds, **_latency(taken), **cpu_columns(meter.usage, len(taken))}


def _timed(call: Callable[[], tuple[int, bytes]], wanted: int) -> float:
    """Milliseconds until the answer."""
    start = time.perf_counter()
    status, content = call()
    if status != wanted:
        raise Failed(f"answered {status}: {content[:300]!r}")
    return (time.perf_counter() - start) * 1e3


def _latency(taken: list[float]) -> Row:
    return {"p50_ms": statistics.median(taken), "p99_ms": taken[len(taken) * 99 // 100], "worst_ms": taken[-1]}


def busiest(system: Quicklime, held: list[Held], check_ins: float, renewals: float, seconds: float) -> Row:
    """`check_ins` and `renewals` a second, at their times whether or not the ones before are answered."""
    words, spare = round(check_ins * seconds), enrolled(system, max(1, round(renewals * seconds)))
    agent = _Agent(system)
    calls = [(number / check_ins, partial(agent.check_in, held[number % len(held)])) for number in range(words)]
    calls += [(random.uniform(0, seconds), partial(agent.renew, each)) for each in spare]
    with Meter(system.measured) as meter, ThreadPoolExecutor(4 * THREADS) as pool:
        start = time.perf_counter()
        waiting = []
        for at, call in sorted(calls, key=lambda each: each[0]):
            time.sleep(max(0.0, start + at - time.perf_counter()))
            waiting.append(pool.submit(call))
        taken = sorted(each.result() for each in waiting)
        took = time.perf_counter() - start
    row = {"check_ins_per_second": words / took, "renewals": len(spare), "seconds": took, **_latency(taken)}
    return {**row, "core": sum(meter.usage.cpu.values()) / took, **cpu_columns(meter.usage, len(taken))}


class _Agent:
    """Calls over a connection of their own, as an agent's pass has it, without a token."""

    def __init__(self, system: Quicklime) -> None:
        parts = urlsplit(system.url)
        self._host, self._port = str(parts.hostname), parts.port
        self._context = ssl.create_default_context(cafile=str(system.state / "root.pem"))

    def check_in(self, held: Held) -> float:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        proof = held.sign(b"quicklime-checkin-v1\0" + held.identity + (now + held.serial).encode())
        return _timed(lambda: self._post(f"{held.serial}/checkin/", {"served": held.serial, "time": now, "proof": proof}), 200)

    def renew(self, held: Held) -> float:
        return _timed(lambda: self._post(f"{held.serial}/renew/", _renewal(held)), 201)

    def _post(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        connection = HTTPSConnection(self._host, self._port, timeout=60, context=self._context)
        try:
            headers = {"Content-Type": "application/json", "Prefer": "wait=10"}
            connection.request("POST", f"/api/v1/certificates/{path}", json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
