"""The web server's own certificate: asked for through the pipeline, renewed in time, swapped whole, used without a restart."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from django.db import transaction

from ca import pipeline, revocation, tokens
from ca.models import Certificate, Issuer, Request, State, Token
from quicklime_site import first_start, gunicorn_conf, middleware, own_tls
from quicklime_site.own_tls import OwnTLS, Refused
from tests.dashboard import tls
from tests.material import csr, new_key

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hierarchy")]
HOSTS = ("localhost", "ca.internal", "127.0.0.1")


@pytest.fixture
def own(tmp_path: Path) -> OwnTLS:
    return OwnTLS(tmp_path / "tls" / "web.pem", HOSTS)


@pytest.fixture
def issued(own: OwnTLS, run_pipeline: Callable[[], None]) -> OwnTLS:
    now = datetime.now(UTC)
    assert own.tend(now) is False
    run_pipeline()
    assert own.tend(now) is True
    return own


def leaf(own: OwnTLS) -> x509.Certificate:
    return x509.load_pem_x509_certificates(own.path.read_bytes())[0]


def test_the_file_holds_key_leaf_and_chain_and_is_private(issued: OwnTLS) -> None:
    key = load_pem_private_key(issued.path.read_bytes(), None)
    certificates = x509.load_pem_x509_certificates(issued.path.read_bytes())
    assert key.public_key() == certificates[0].public_key()
    assert [certificate.public_bytes(Encoding.DER) for certificate in certificates[1:]] == [
        bytes(Issuer.objects.get(kind="intermediate").certificate)
    ]
    names = leaf(issued).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(map(str, names.get_values_for_type(x509.DNSName))) == {"localhost", "ca.internal"}
    assert issued.path.stat().st_mode & 0o777 == 0o600
    assert issued.path.parent.stat().st_mode & 0o777 == 0o700


def test_nothing_is_asked_twice_while_the_answer_is_awaited(own: OwnTLS) -> None:
    for _ in range(3):
        assert own.tend(datetime.now(UTC)) is False
    assert Request.objects.count() == 1


@pytest.mark.parametrize(("part", "due"), [(0.0, False), (0.66, False), (0.67, True), (1.5, True)])
def test_it_is_due_from_two_thirds_of_its_life(issued: OwnTLS, part: float, due: bool) -> None:
    begin, end = leaf(issued).not_valid_before_utc, leaf(issued).not_valid_after_utc
    assert own_tls.due(issued.path, HOSTS, begin + (end - begin) * part) is due


def test_other_hosts_make_it_due(issued: OwnTLS) -> None:
    assert own_tls.due(issued.path, (*HOSTS, "other.internal"), datetime.now(UTC))
    assert not own_tls.due(issued.path, tuple(reversed(HOSTS)), datetime.now(UTC))


def test_a_revoked_one_is_due(issued: OwnTLS) -> None:
    now = datetime.now(UTC)
    serial = Certificate.objects.get(owner=own_tls.SELF).serial
    with transaction.atomic():
        revocation.revoke([serial], revocation.Cause("superseded", "operator", "test"), now)
    assert own_tls.due(issued.path, HOSTS, now)
    assert issued.tend(now) is False, "another is on its way"


@pytest.mark.parametrize("content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_unusable_file_makes_it_due(own: OwnTLS, content: bytes) -> None:
    own.path.parent.mkdir()
    own.path.write_bytes(content)
    assert own_tls.due(own.path, HOSTS, datetime.now(UTC))


def test_a_name_outside_the_zones_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"www\.example\.com|zone"):
        OwnTLS(tmp_path / "web.pem", ("www.example.com",)).tend(datetime.now(UTC))


def test_a_rejected_request_is_told_and_then_asked_anew(own: OwnTLS) -> None:
    own.tend(datetime.now(UTC))
    Request.objects.update(state=State.REJECTED, error={"code": "x", "detail": "because", "where": ""})
    with pytest.raises(Refused, match="because"):
        own.tend(datetime.now(UTC))
    assert own.tend(datetime.now(UTC)) is False
    assert Request.objects.count() == 2


def test_its_token_is_for_these_names_only_and_goes_when_they_change(issued: OwnTLS, tmp_path: Path) -> None:
    first = Token.objects.get(owner=own_tls.SELF)
    assert (first.actions, first.profiles, first.names, first.ips) == (
        ["issue"],
        ["server"],
        ["localhost", "ca.internal"],
        ["127.0.0.1/32"],
    )
    OwnTLS(tmp_path / "other.pem", ("localhost",)).tend(datetime.now(UTC))
    first.refresh_from_db()
    assert first.revoked_at is not None
    assert Token.objects.get(owner=own_tls.SELF, revoked_at=None).names == ["localhost"]


def test_a_renewal_uses_the_token_it_has(issued: OwnTLS) -> None:
    begin, end = leaf(issued).not_valid_before_utc, leaf(issued).not_valid_after_utc
    assert issued.tend(begin + (end - begin) * 0.7) is False
    assert Token.objects.filter(owner=own_tls.SELF).count() == 1


def test_without_its_token_it_makes_another(issued: OwnTLS) -> None:
    tokens.revoke(Token.objects.get(owner=own_tls.SELF).id, datetime.now(UTC), by="alice", why="test")
    issued.path.unlink()
    assert issued.tend(datetime.now(UTC)) is False
    assert Token.objects.filter(owner=own_tls.SELF).count() == 2


# --- the server's side


def served(path: Path) -> bytes:
    """The certificate (DER) that gunicorn's hook shows to one new connection."""
    config = SimpleNamespace(certfile=str(path))

    def default() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path, path)
        return context

    here, there = socket.socketpair()
    server = threading.Thread(target=lambda: _handshake(gunicorn_conf.ssl_context(config, default), there))
    server.start()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(here) as tls:
        found = tls.getpeercert(binary_form=True)
    server.join()
    assert found
    return found


def _handshake(context: ssl.SSLContext, connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as tls:
        tls.recv(1)


def test_a_renewed_certificate_is_shown_to_the_next_connection(issued: OwnTLS, run_pipeline: Callable[[], None]) -> None:
    before = leaf(issued)
    assert served(issued.path) == before.public_bytes(Encoding.DER)
    issued.path.unlink()
    issued.tend(datetime.now(UTC))
    run_pipeline()
    issued.tend(datetime.now(UTC) + timedelta(seconds=1))
    assert leaf(issued) != before
    assert served(issued.path) == leaf(issued).public_bytes(Encoding.DER)


def test_the_context_is_read_once_per_file() -> None:
    made: list[ssl.SSLContext] = []

    def default() -> ssl.SSLContext:
        made.append(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
        return made[-1]

    config = SimpleNamespace(certfile=__file__)
    assert gunicorn_conf.ssl_context(config, default) is gunicorn_conf.ssl_context(config, default)
    assert len(made) == 1
    assert made[0].minimum_version >= ssl.TLSVersion.TLSv1_2


# --- client certificates


def _shown(issued: OwnTLS, tmp_path: Path, pair: Path | None) -> bytes | None:
    """The client certificate (DER) that a server with the arguments of quicklime_site.start sees. Raises ssl.SSLError."""
    roots = tmp_path / "root.pem"
    first_start.write_roots(roots)
    here, there = socket.socketpair()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(roots))
    server.load_cert_chain(issued.path)
    server.verify_mode = ssl.CERT_OPTIONAL
    client = ssl.create_default_context()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    if pair:
        client.load_cert_chain(pair)
    found: list[bytes | Exception | None] = []

    def serve() -> None:
        try:
            with server.wrap_socket(there, server_side=True) as tls:
                found.append(middleware._of_connection(tls))
        except ssl.SSLError as error:
            found.append(error)
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with suppress(ssl.SSLError, OSError), client.wrap_socket(here) as tls:
        tls.recv(1)
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def test_a_client_shows_its_certificate_or_none(issued: OwnTLS, tmp_path: Path, run_pipeline: Callable[[], None], now: datetime) -> None:
    assert _shown(issued, tmp_path, None) is None
    token, _ = tokens.create("t", "alice", tokens.Scope(profiles=("client",)), now, by="test")
    key = new_key()
    pipeline.submit(Token.objects.get(id=token), [pipeline.Submission(csr=csr("n1.internal", key=key), profile="client")], now)
    run_pipeline()
    certificate = Certificate.objects.get(profile="client")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair = tmp_path / "client.pem"
    pair.write_bytes(pem + b"".join(own_tls.chain(certificate)))
    assert _shown(issued, tmp_path, pair) == bytes(certificate.der)


def test_a_certificate_for_servers_or_of_another_ca_ends_the_handshake(issued: OwnTLS, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match="verify failed"):
        _shown(issued, tmp_path, issued.path)
    stranger = tls.pair(tmp_path)
    (tmp_path / "stranger.pem").write_bytes(stranger.key.read_bytes() + stranger.certificate.read_bytes())
    with pytest.raises(ssl.SSLError, match="verify failed"):
        _shown(issued, tmp_path, tmp_path / "stranger.pem")
