"""A fleet that lived with Quicklime for months: services whose nodes joined, renewed, lagged, were revoked and refused.

Owns the story. Everything comes about as it does in life, through the pipeline, renewal proofs, revocation orders, check-ins and
reminders, as their time is an argument. Must never write a table or an event by itself. For an installation without events.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from django.test import override_settings

from ca import approvals, checkins, issuance, mass_replacement, mass_revocation, pipeline, tokens
from ca.approvals import Approver
from ca.models import Certificate, Request, State, Token
from ca.pki import proofs
from ca.policy import ALWAYS
from ca.selections import Selection
from dashboard import contacts, expiry, reminders, silencing
from dashboard.models import Reminder, Scope
from dashboard.smtp import Server
from eventlog import backups, head, projections
from quicklime_client import schedule

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OWNERS = ("team-payments", "team-platform", "team-data", "team-web", "team-security")
SUBJECTS = ("payroll", "ledger", "billing", "search", "catalog", "orders", "auth", "mail", "metrics", "queue")
APPROVER = Approver("grace", ())
KINDS = ("api", "db", "cache", "worker", "gateway")


@dataclass
class Place:
    """What one node needs one certificate for. `stops`: when its agent dies; `history` its certificates, newest last."""

    token: Token
    service: str
    node: str
    names: list[str]
    profile: str
    joins: datetime
    stops: datetime | None
    history: list[tuple[Certificate, ec.EllipticCurvePrivateKey]] = field(default_factory=list)
    renew_at: datetime | None = None


class Fleet:
    """`services` services with `places` places in all, from `begins` until `ends`. The same `seed` tells the same story."""

    def __init__(self, begins: datetime, ends: datetime, services: int, places: int, seed: int = 1) -> None:
        self.begins, self.ends, self.chance = begins, ends, random.Random(seed)
        self.tokens = self._tokens()
        names = [f"{subject}-{kind}" for kind in KINDS for subject in SUBJECTS][:services]
        self.places = [place for number, name in enumerate(names) for place in self._service(name, number, places // services)]
        self.asked: dict[Any, tuple[Place, ec.EllipticCurvePrivateKey]] = {}

    def live(self, step: timedelta = 6 * HOUR, say: Callable[[str], None] = lambda text: None) -> None:
        """All of it, `step` by `step`, to the last two days hour by hour."""
        contacts.replace(Scope.DEFAULT, "", ["ca-operators@example.org"])
        for owner in OWNERS[1:]:
            contacts.replace(Scope.OWNER, owner, [f"{owner}@example.org"])
        with _post_office():
            for now in self._moments(step):
                self._turn(now)
                if (now.hour < step // HOUR and now < self.ends - DAY) or now == self.ends:
                    self._daily(now, say)
        self._last_hours()

    def _moments(self, step: timedelta) -> Iterator[datetime]:
        now = self.begins
        while now < self.ends:
            yield now
            now = min(self.ends, now + (step if now < self.ends - 2 * DAY else HOUR))
        yield self.ends - timedelta(minutes=40)

    # --- who there is

    def _tokens(self) -> dict[str, Token]:
        scope = tokens.Scope(actions=("issue", "read", "renew", "revoke"), profiles=("*",), wildcards=True, ips=("*",))
        made = {owner: tokens.create(f"{owner} deploys", owner, scope, self.begins, by="operator")[0] for owner in OWNERS}
        return {owner: Token.objects.get(id=token) for owner, token in made.items()}

    def _service(self, name: str, number: int, size: int) -> Iterator[Place]:
        token = self.tokens[OWNERS[number % len(OWNERS)]]
        profile = "short-lived" if number == 7 else "peer" if name.endswith("-db") else "server"
        for node in range(max(1, size + self.chance.randint(-size // 3, size // 3) if number != 7 else 2)):
            host = f"{name}-{node + 1}.internal"
            yield Place(
                token, name, f"{name}-{node + 1}", [host, f"{name}.internal"] if self.chance.random() < 0.7 else [host], profile,
                joins=self.begins + DAY + (self.ends - self.begins) * self.chance.betavariate(1, 4),
                stops=self.ends - DAY * self.chance.randint(1, 90) if self.chance.random() < 0.05 else None,
            )  # fmt: skip

    # --- what they do

    def _turn(self, now: datetime) -> None:
        """Who joins, asks; whose time has come, renews."""
        for place in self.places:
            if place.stops is not None and now > place.stops:
                continue
            if not place.history and place.joins <= now:
                self._ask(place, now)
            elif place.renew_at is not None and place.renew_at <= now:
                self._renew(place, now)
        self._run(now)

    def _ask(self, place: Place, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        asked = pipeline.Submission(csr=_csr(place.names, key), profile=place.profile, service=place.service, node=place.node)
        (request,) = pipeline.submit(place.token, [asked], now)
        assert isinstance(request, Request), request
        self.asked[request.id] = place, key

    def _renew(self, place: Place, now: datetime) -> None:
        """By proof; anew if it is too late for that."""
        if place.history[-1][0].not_after < now:
            place.renew_at = None
            return self._ask(place, now)
        old, old_key = place.history[-1]
        key = ec.generate_private_key(ec.SECP256R1())
        csr = _csr(place.names, key)
        statement = proofs.renewal_statement(_key_id(old), old.serial, bytes(old.renewal_challenge), sha256(csr).digest())
        request = pipeline.renew(None, pipeline.Renewal(old.serial, csr, old_key.sign(statement, ec.ECDSA(hashes.SHA256()))), now)
        assert isinstance(request, Request), request
        self.asked[request.id] = place, key
        place.renew_at = None

    def _run(self, now: datetime) -> None:
        """The pipeline's four steps over everything that waits."""
        batch = uuid4()
        while issuance.validate(batch, now):
            for step in issuance.STEPS.values():
                step(batch, now)
            batch = uuid4()
        for row in Certificate.objects.filter(request__in=self.asked):
            place, key = self.asked.pop(row.request)
            place.history.append((row, key))
            place.renew_at = schedule.renew_at(row.not_before, row.not_after, self.chance.uniform)

    # --- what happens to them

    def _daily(self, now: datetime, say: Callable[[str], None]) -> None:
        for name in projections.names():
            projections.catch_up(name)
        expiry.flag_due(now)
        reminders.send_due(now)
        if self.chance.random() < 0.12:
            self._revoke(self.chance.choice([place for place in self.places if place.history] or [None]), now)
        if now.day == 1:
            say(f"{now:%Y-%m-%d}  {Certificate.objects.count():5} certificates")

    def _revoke(self, place: Place | None, now: datetime) -> None:
        """Its node asks for another one afterwards, as a rule."""
        if place is None:
            return
        reason, why = self.chance.choice((("keyCompromise", "the key was in a backup"), ("superseded", "the node was reinstalled")))
        serials = (place.history[-1][0].serial,)
        order = mass_revocation.order(Selection(serials=serials), reason, why, "operator", now)
        mass_revocation.carry_out(order, "operator", lambda: now)
        place.renew_at = None
        if self.chance.random() < 0.7 and place.stops is None:
            self._ask(place, now)

    def _last_hours(self) -> None:
        now = self.ends
        self._for_approval(now - 35 * HOUR / 60)
        self._refused(now - HOUR / 2)
        self._drill(now - 20 * HOUR / 60)
        for place in self.places:
            if place.history and (place.stops is None or place.stops > now - 7 * DAY):
                self._check_in(place, now)
        rows = list(Reminder.objects.order_by("-id")[:3])
        for row in rows[1:]:
            silencing.snooze(row.serial, row.recipient_hash, now + 7 * DAY)
        backups.note("pg_dump", head.size(), now - 3 * HOUR)
        silencing.unsubscribe(contacts.hash_of("team-data@example.org"), now)
        for name in projections.names():
            projections.catch_up(name)

    def _for_approval(self, now: datetime) -> None:
        """Four requests of a token whose requests a person approves: one is approved, one refused, two wait."""
        scope = tokens.Scope(actions=("issue", "read"), approval=ALWAYS)
        token = Token.objects.get(id=tokens.create("releases", "team-security", scope, now, by="operator")[0])
        names = [f"vault-{n}.internal" for n in range(1, 5)]
        pipeline.submit(token, [pipeline.Submission(csr=_csr([name]), service="vault", node=name.partition(".")[0]) for name in names], now)
        self._run(now)
        granted, refused, *_ = Request.objects.filter(state=State.AWAITING).order_by("id").values_list("id", flat=True)
        approvals.grant(granted, APPROVER, "change 4711", now + HOUR / 60)
        approvals.refuse(refused, APPROVER, "this host is being taken down", now + HOUR / 60)
        self._run(now + HOUR / 60)

    def _refused(self, now: datetime) -> None:
        """Three requests whose token was revoked while they waited."""
        label, owner = "nightly builds", "team-web"
        token = Token.objects.get(id=tokens.create(label, owner, tokens.Scope(), now - HOUR / 60, by="operator")[0])
        asked = [pipeline.Submission(csr=_csr([f"build-{n}.internal"]), service="builds", node=f"runner-{n}") for n in range(3)]
        pipeline.submit(token, asked, now)
        tokens.revoke(token.id, now, by="operator", why="it was printed by a build")
        self._run(now)

    def _drill(self, now: datetime) -> None:
        """One service is replaced; two thirds of its nodes have followed."""
        service = max({place.service for place in self.places}, key=lambda name: sum(place.service == name for place in self.places))
        order = mass_replacement.order(Selection(service=service), now + 2 * DAY, "superseded", "quarterly drill", "operator", now)
        while mass_replacement.mark(order, now):
            pass
        for number, place in enumerate(each for each in self.places if each.service == service and each.history):
            if (
                number % 3
                and place.history[-1][0].not_after > now
                and not Certificate.objects.get(serial=place.history[-1][0].serial).revoked_at
            ):
                self._renew(place, now)
        self._run(now)

    def _check_in(self, place: Place, now: datetime) -> None:
        """Most serve the newest; some did not load it, some serve nothing, of some nobody looks."""
        newest, key = place.history[-1]
        lot = self.chance.random()
        served = newest.serial if lot < 0.9 else place.history[-2][0].serial if lot < 0.94 and len(place.history) > 1 else ""
        served = checkins.NONE if lot > 0.99 else served
        time = f"{now - timedelta(seconds=self.chance.randint(5, 200)):%Y-%m-%dT%H:%M:%SZ}"
        statement = proofs.check_in_statement(_key_id(newest), newest.serial, time, served)
        checkins.check_in(checkins.Word(newest.serial, served, time, key.sign(statement, ec.ECDSA(hashes.SHA256()))), now)


def _key_id(certificate: Certificate) -> bytes:
    return issuance.issuer_facts(certificate.issuer).key_id


def _csr(names: list[str], key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    return builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.DER)


class _Refusing:
    """Takes mail for everybody but one team, whose mailbox is gone."""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if address == "team-web@example.org":
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        return "250 OK"


@contextmanager
def _post_office() -> Iterator[None]:
    """A mail server in a thread, which throws away what it takes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    office = Controller(_Refusing(), hostname="127.0.0.1", port=port)
    office.start()
    try:
        with override_settings(EMAIL=Server("127.0.0.1", port), MAIL_FROM="ca@example.org"):
            yield
    finally:
        office.stop()
