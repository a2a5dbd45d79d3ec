"""The web server's own certificate: asked for through the pipeline, renewed in time, swapped whole, used without a restart."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ca import tokens
from ca.models import Issuer, Request, State, Token
from quicklime_site import gunicorn_conf, own_tls
from quicklime_site.own_tls import OwnTLS, Refused

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
