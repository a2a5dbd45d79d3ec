"""Delegated OCSP responders: asked for through the pipeline, from the issuer that delegates, renewed in time, replaced when
their key is lost; and never in a client's hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import time_machine
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection
from django.test import Client

from ca import blocklist, hierarchy, keys, ocsp_signers, pipeline, tokens
from ca.errors import Problem
from ca.events import CertificateRevoked, TokenCreated
from ca.models import Certificate, Issuer, Request, Token
from ca.pki.lint import findings
from ca.profiles import LEAF, OCSP_SIGNER
from eventlog.append import append
from eventlog.models import Event
from quicklime_site import env
from tests import material, processes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hierarchy")]
HALF = timedelta(days=15)


@pytest.fixture(autouse=True)
def _delegated(settings: Any) -> None:
    settings.OCSP_SIGNERS = {"*": "issuer", "issuing-1": "delegated"}


@pytest.fixture
def tend(run_pipeline: Callable[[], None]) -> Callable[..., None]:
    def tend(now: datetime | None = None) -> None:
        with time_machine.travel(now or datetime.now(UTC)):
            ocsp_signers.tend(datetime.now(UTC))
            run_pipeline()

    return tend


def certified() -> list[x509.Certificate]:
    """The delegates' certificates, oldest first."""
    rows = Certificate.objects.filter(profile=OCSP_SIGNER).order_by("log_position")
    return [x509.load_der_x509_certificate(bytes(row.der)) for row in rows]


def revoke(certificate: x509.Certificate, now: datetime, reason: str = "keyCompromise") -> None:
    """Past ca.revocation, whose tests are its own."""
    serial = f"{certificate.serial_number:040x}"
    event = CertificateRevoked(serial=serial, issuer="issuing-1", reason=reason, way="operator", by="test", order=None)
    append([event.new()], now)


# --- the certificate


def test_it_is_what_rfc_6960_wants(tend: Callable[..., None]) -> None:
    """§4.2.2.2: OCSPSigning, issued directly by the CA that delegates, with ocsp-nocheck."""
    tend()
    (certificate,) = certified()
    issuer = hierarchy.certificate_of(hierarchy.find("issuing-1"))
    certificate.verify_directly_issued_by(issuer)
    extensions = certificate.extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.ExtendedKeyUsageOID.OCSP_SIGNING]
    assert extensions.get_extension_for_class(x509.OCSPNoCheck).critical is False
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert certificate.public_key() == keys.ocsp_signer("issuing-1").public_key
    assert certificate.subject.rfc4514_string() == "CN=OCSP responder of issuing-1"
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=30, minutes=-1) < life < timedelta(days=30)
    assert findings(certificate.public_bytes(Encoding.DER), {f"http://localhost:8080/issuers/{'issuing-1'}.der"}) == []


def test_it_comes_from_the_issuer_that_delegates_whichever_is_active(tend: Callable[..., None], now: datetime) -> None:
    hierarchy.add_intermediate("issuing-2", "root", now)
    for profile in (*LEAF, OCSP_SIGNER):
        hierarchy.activate("issuing-2", profile, now)
    tend()
    assert [row.issuer for row in Certificate.objects.all()] == ["issuing-1"]


def test_it_goes_the_way_of_all_certificates(tend: Callable[..., None]) -> None:
    """Intent before, event after; the oracle compares the two after each test."""
    tend()
    kinds = Event.objects.order_by("position").values_list("type", flat=True)
    assert [kind for kind in kinds if kind.startswith(("issuance", "certificate"))] == ["issuance.intended", "certificate.issued"]


def test_the_key_is_sealed_and_for_its_owner_alone(tend: Callable[..., None]) -> None:
    tend()
    path = keys.ocsp_path_of("issuing-1")
    assert path.name == "_ocsp-issuing-1.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_the_web_process_opens_and_makes_none(tend: Callable[..., None], settings: Any) -> None:
    tend()
    settings.ROLE = "web"
    keys.forget()
    with pytest.raises(keys.KeyFault, match="not for the web process"):
        keys.ocsp_signer("issuing-1")
    keys.ocsp_path_of("issuing-1").unlink()
    with pytest.raises(keys.KeyFault, match="makes no key"):
        keys.create_ocsp_key("issuing-1")


# --- when


def test_where_none_is_wanted_none_is_made(tend: Callable[..., None], settings: Any) -> None:
    settings.OCSP_SIGNERS = {"*": "issuer"}
    tend()
    assert certified() == []
    assert not keys.ocsp_path_of("issuing-1").exists()


def test_an_intermediate_whose_key_is_elsewhere_gets_none(tend: Callable[..., None], now: datetime, settings: Any) -> None:
    settings.OCSP_SIGNERS = {"*": "delegated"}
    hierarchy.add_intermediate("elsewhere", "root", now)
    keys.path_of("elsewhere").unlink()
    tend()
    assert [row.issuer for row in Certificate.objects.all()] == ["issuing-1"]


@pytest.mark.usefixtures("other_time")
def test_it_is_renewed_from_half_of_its_life_on_with_overlap(tend: Callable[..., None], now: datetime) -> None:
    tend()
    (first,) = certified()
    half = first.not_valid_before_utc + (first.not_valid_after_utc - first.not_valid_before_utc) / 2
    row, spki = Issuer.objects.get(name="issuing-1"), keys.ocsp_signer("issuing-1").spki_sha256
    assert not ocsp_signers.due(row, spki, half - timedelta(seconds=1))
    assert ocsp_signers.due(row, spki, half)
    tend(half + timedelta(seconds=1))
    tend(half + timedelta(seconds=61))
    _, second = certified()
    assert second.public_key() == first.public_key()
    assert first.not_valid_after_utc - second.not_valid_before_utc > timedelta(days=14)


@pytest.mark.usefixtures("other_time")
def test_its_life_ends_with_its_issuers_and_is_not_renewed_for_nothing(tend: Callable[..., None], now: datetime) -> None:
    row = Issuer.objects.get(name="issuing-1")
    late = row.not_after - timedelta(days=10)
    tend(late)
    (certificate,) = certified()
    assert certificate.not_valid_after_utc == row.not_after
    tend(row.not_after - timedelta(seconds=1))
    assert len(certified()) == 1


def test_nothing_is_asked_twice_while_it_is_awaited_and_two_at_once_ask_once(now: datetime) -> None:
    for _ in range(3):
        ocsp_signers.tend(now)
    assert Request.objects.count() == 1
    Request.objects.update(state="rejected", error={}, updated_at=now - timedelta(days=1))
    last = Request.objects.get()
    signer, row, token = keys.ocsp_signer("issuing-1"), Issuer.objects.get(name="issuing-1"), Token.objects.get()
    first, second = (
        pipeline.submit_ocsp_signer(token, "issuing-1", ocsp_signers._submission(row, signer, last, now), now) for _ in range(2)
    )
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.id == second.id != last.id
    Request.objects.all().delete()


@pytest.mark.usefixtures("other_time")
def test_a_refusal_is_tried_again_after_a_while(tend: Callable[..., None], now: datetime) -> None:
    ocsp_signers.tend(now)
    blocklist.block(keys.ocsp_signer("issuing-1").spki_sha256, "keyCompromise", now, by="test")
    tend(now)
    assert Request.objects.get().error["code"] == "ocspSignerForeign"
    tend(now + timedelta(minutes=9))
    assert certified() == []
    tend(now + timedelta(minutes=11))
    assert [certificate.public_key() for certificate in certified()] == [keys.ocsp_signer("issuing-1").public_key]


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_starts_sees_to_it(tmp_path: Path) -> None:
    """Beat may take a minute."""
    with processes.worker(tmp_path / "worker.log", QUICKLIME_OCSP_SIGNER="issuing-1=delegated"):
        (certificate,) = processes.eventually(certified)
    assert certificate.public_key() == keys.ocsp_signer("issuing-1").public_key


@pytest.mark.django_db(transaction=True)
def test_eight_at_once_ask_once(now: datetime, run_pipeline: Callable[[], None]) -> None:
    together = Barrier(8)

    def work(_: int) -> None:
        together.wait()
        try:
            ocsp_signers.tend(now)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (Token.objects.count(), Request.objects.count()) == (1, 1)
    run_pipeline()
    assert len(certified()) == 1


# --- faults


@pytest.mark.parametrize("died_after", ["the key", "the request"])
def test_what_a_crash_left_is_taken_up(died_after: str, tend: Callable[..., None], now: datetime) -> None:
    keys.create_ocsp_key("issuing-1")
    spki = keys.ocsp_signer("issuing-1").spki_sha256
    if died_after == "the request":
        ocsp_signers.tend(now)
    keys.forget()
    assert hierarchy.check(now) == []
    tend()
    assert [bytes(row.spki_sha256) for row in Certificate.objects.all()] == [spki]


@pytest.mark.parametrize("reason", ["keyCompromise", "superseded"])
def test_after_a_revocation_there_is_another_key(reason: str, tend: Callable[..., None], now: datetime) -> None:
    tend()
    (first,) = certified()
    revoke(first, datetime.now(UTC), reason)
    tend()
    _, second = certified()
    assert second.public_key() != first.public_key()
    assert keys.ocsp_signer("issuing-1").public_key == second.public_key()
    assert hierarchy.check(now) == []
    aside = list(keys.ocsp_path_of("issuing-1").parent.glob("_ocsp-issuing-1.*.aside"))
    assert len(aside) == 1
    assert aside[0].stat().st_mode & 0o777 == 0o600


def test_after_its_key_was_blocked_there_is_another(tend: Callable[..., None], now: datetime) -> None:
    tend()
    blocklist.block(keys.ocsp_signer("issuing-1").spki_sha256, "keyCompromise", datetime.now(UTC), by="test")
    tend()
    first, second = certified()
    assert first.public_key() != second.public_key()
    assert hierarchy.check(now) == []


def test_another_process_sees_that_the_key_is_another(tend: Callable[..., None]) -> None:
    """It is asked for by file, not remembered for as long as the process lives."""
    tend()
    before = keys.ocsp_signer("issuing-1")
    done = processes.run(
        "from ca import keys\nkeys.set_ocsp_key_aside('issuing-1', keys.ocsp_signer('issuing-1')); keys.create_ocsp_key('issuing-1')",
        QUICKLIME_STATE=str(keys.ocsp_path_of("issuing-1").parent.parent),
    )
    assert done.returncode == 0, done.stderr
    assert keys.ocsp_signer("issuing-1").public_key != before.public_key


def test_a_key_that_somebody_else_replaced_meanwhile_is_not_set_aside() -> None:
    first = keys.create_ocsp_key("issuing-1")
    keys.set_ocsp_key_aside("issuing-1", first)
    second = keys.create_ocsp_key("issuing-1")
    keys.set_ocsp_key_aside("issuing-1", first)
    assert keys.ocsp_signer("issuing-1").public_key == second.public_key


# --- what stops a start


def lose() -> None:
    keys.ocsp_path_of("issuing-1").unlink()


def loosen() -> None:
    keys.ocsp_path_of("issuing-1").chmod(0o644)


def damage() -> None:
    keys.ocsp_path_of("issuing-1").write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def exchange() -> None:
    keys.ocsp_path_of("issuing-1").write_bytes(keys.path_of("root").read_bytes())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lose, r"_ocsp-issuing-1\.key is missing: restore it from the backup; if it is lost, revoke [0-9a-f]{40} as compromised"),
        (loosen, r"_ocsp-issuing-1\.key is open to others \(mode 0644\)"),
        (damage, r"_ocsp-issuing-1\.key does not open"),
        (exchange, r"_ocsp-issuing-1\.key is not the key that issuing-1 certified to sign its OCSP responses: restore that"),
    ],
)
def test_a_key_that_is_not_right_is_told_and_no_other_made(
    harm: Callable[[], None], reason: str, tend: Callable[..., None], now: datetime, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tend()
    harm()
    keys.forget()
    (told,) = hierarchy.check(now)
    assert re.search(reason, told)
    tend()
    assert len(certified()) == 1
    assert told in caplog.text
    settings.ROLE = "web"
    assert hierarchy.check(now) == []


def test_a_lost_key_is_replaced_once_its_certificate_is_revoked(tend: Callable[..., None], now: datetime) -> None:
    tend()
    lose()
    revoke(certified()[0], datetime.now(UTC))
    assert hierarchy.check(now) == []
    tend()
    first, second = certified()
    assert first.public_key() != second.public_key()


def test_a_setting_that_names_no_intermediate_is_told(now: datetime, settings: Any) -> None:
    settings.OCSP_SIGNERS = {"*": "issuer", "issuing-7": "delegated"}
    assert hierarchy.check(now) == ["QUICKLIME_OCSP_SIGNER names issuing-7, which is no intermediate here; there are: issuing-1"]


# --- nobody else's


@pytest.fixture
def greedy(now: datetime) -> str:
    """A token whose scope names the profile, as no command makes one."""
    secret = "ql_" + "g" * 43
    event = TokenCreated(
        token="00112233aabbccdd", hash=sha256(secret.encode()).hexdigest(), label="", owner="mallory", actions=["issue", "read"],
        names=["*"], profiles=["*", OCSP_SIGNER], services=["*"], wildcards=True, uris=[], ips=["*"], expires_at=None,
        approval="as-profile", by="test",
    )  # fmt: skip
    append([event.new()], now)
    return secret


def test_a_client_gets_none_whatever_its_token_says(greedy: str, client: Client) -> None:
    own = keys.create_ocsp_key("issuing-1")  # not even for the very key
    for csr in (
        material.csr("a.internal"),
        own.sign_request(x509.CertificateSigningRequestBuilder(x509.Name([]))).public_bytes(Encoding.DER),
    ):
        body = x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()
        answer = client.post(
            "/api/v1/certificates/",
            {"csr": body, "profile": OCSP_SIGNER},
            content_type="application/json",
            HTTP_AUTHORIZATION=f"Bearer {greedy}",
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "profileUnknown")
    assert Request.objects.count() == 0


def test_no_token_is_made_for_it() -> None:
    with pytest.raises(ValueError, match=OCSP_SIGNER):
        tokens.Scope(profiles=(OCSP_SIGNER,))


@pytest.mark.parametrize("profile", [OCSP_SIGNER, "server"])
def test_a_row_that_was_forged_gets_none(profile: str, greedy: str, now: datetime, run_pipeline: Callable[[], None], settings: Any) -> None:
    """Whoever writes into the table, the key that would be certified is not the CA's own; nor is another profile's issuer his to choose."""
    keys.create_ocsp_key("issuing-1")
    hierarchy.add_intermediate("issuing-2", "root", now)
    token = Token.objects.get(owner="mallory")
    names = () if profile == OCSP_SIGNER else ("a.internal",)
    submission = pipeline.Submission(csr=material.csr(*names), profile=profile)
    row = pipeline._admitted(token.grant(), submission, now, "issuing-1" if profile == OCSP_SIGNER else None)
    assert isinstance(row, Request)
    row.issuer = "issuing-1" if profile == OCSP_SIGNER else "issuing-2"
    row.save(force_insert=True)
    run_pipeline()
    row.refresh_from_db()
    if profile == OCSP_SIGNER:
        assert row.error["code"] == "ocspSignerForeign"
        assert certified() == []
    else:
        assert Certificate.objects.get().issuer == "issuing-1"


def test_the_own_key_is_certified_only_where_the_settings_delegate(
    now: datetime, run_pipeline: Callable[[], None], settings: Any, tend: Callable[..., None]
) -> None:
    ocsp_signers.tend(now)
    settings.OCSP_SIGNERS = {"*": "issuer"}
    run_pipeline()
    assert Request.objects.get().error["code"] == "ocspSignerForeign"


def test_its_token_permits_nothing_else(tend: Callable[..., None], now: datetime) -> None:
    tend()
    token = Token.objects.get(label=ocsp_signers.LABEL)
    answers = pipeline.submit(token, [pipeline.Submission(csr=material.csr("a.internal"), profile=name) for name in LEAF], now)
    assert [answer.code for answer in answers if isinstance(answer, Problem)] == ["profileForbidden"] * len(LEAF)


@pytest.mark.usefixtures("other_time")
def test_without_its_token_there_is_another(tend: Callable[..., None], now: datetime) -> None:
    tend()
    tokens.revoke(Token.objects.get(label=ocsp_signers.LABEL).id, now, by="alice", why="test")
    tend(now + HALF + timedelta(days=1))
    assert len(certified()) == 2


# --- the setting


@pytest.mark.parametrize(
    ("text", "signers"),
    [
        ("issuer", {"*": "issuer"}),
        ("delegated", {"*": "delegated"}),
        ("issuing-1=delegated,issuing-2=issuer", {"*": "issuer", "issuing-1": "delegated", "issuing-2": "issuer"}),
        ("delegated issuing-2=issuer", {"*": "delegated", "issuing-2": "issuer"}),
    ],
)
def test_the_setting_is_read(text: str, signers: dict[str, str]) -> None:
    assert env.read({"QUICKLIME_OCSP_SIGNER": text})["QUICKLIME_OCSP_SIGNER"] == signers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "give issuer, delegated, or for example"),
        ("delegate", "'delegate' is neither issuer, delegated nor NAME=issuer"),
        ("a=b", "'a=b' is neither"),
        ("=issuer", "'=issuer' is neither"),
        ("A=issuer", "'A=issuer' is neither"),
        ("issuer,delegated", "twice who signs for the others"),
        ("a=issuer,a=delegated", "twice who signs for a"),
    ],
)
def test_a_wrong_setting_is_told_precisely(text: str, reason: str) -> None:
    with pytest.raises(env.SettingError, match=reason):
        env.read({"QUICKLIME_OCSP_SIGNER": text})
