"""The keys of issuers: each for one algorithm, rotated, fetched seldom and within limits, believed for an hour without news."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey

from ca import jwks
from ca.jwks import Keys, KeysUnavailable
from tests.dashboard.tls import pair
from tests.jwt_issuer import rsa_key

ALL = ("RS256", "PS256", "ES256")
EC = ECKey.generate_key("P-256").as_dict(private=False) | {"kid": "ec"}
RSA = {**rsa_key().as_dict(private=False), "kid": "rsa"}


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def test_a_key_is_for_one_algorithm() -> None:
    found = jwks.parse(document(EC, RSA, {**RSA, "kid": "pss", "alg": "PS256"}), ALL)
    assert {kid: key.algorithm for kid, key in found.items()} == {"ec": "ES256", "rsa": "RS256", "pss": "PS256"}


@pytest.mark.parametrize(
    "key",
    [
        OctKey.generate_key(256).as_dict() | {"kid": "x"},
        OKPKey.generate_key("Ed25519").as_dict(private=False) | {"kid": "x"},
        ECKey.generate_key("P-521").as_dict(private=False) | {"kid": "x"},
        {**RSA, "kid": "x", "n": RSA["n"][:200]},
        {**rsa_key().as_dict(private=True), "kid": "x"},
        {**RSA, "kid": "x", "alg": "HS256"},
        {**RSA, "kid": "x", "alg": "RS512"},
        {**RSA, "kid": "x", "use": "enc"},
        {**RSA, "kid": "x", "key_ops": ["encrypt"]},
        {**EC, "kid": "x", "y": "AAAA"},
        {**EC, "kid": "x", "y": 7},
        {"kty": "EC", "kid": "x", "crv": "P-256"},
        {"kty": ["RSA"], "kid": "x"},
        {"kid": "x"},
        {**EC, "kid": 7},
        {name: value for name, value in EC.items() if name != "kid"},
        {**RSA, "kid": "ec"},
    ],
    ids=lambda key: f"{key.get('kty')}-{key.get('alg', key.get('use', key.get('kid')))}",
)
def test_what_does_not_verify_is_passed_over(key: dict[str, Any]) -> None:
    others = [{**EC, "kid": "other"}, EC] if key.get("kid") == "ec" else [{**EC, "kid": "other"}]
    assert jwks.parse(document(*others, key), ALL).keys() == {"other"}, "two keys of one kid are none"


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"7", b'{"keys": 7}', b'{"keys": [7]}', b"<html>", b"\xff", b"[" * 100_000, b" " * (jwks.MAX_BYTES + 1),
     document(*[{"kid": str(number)} for number in range(101)])],
    ids=lambda text: text[:12].decode("latin-1"),
)  # fmt: skip
def test_what_is_no_jwk_set(text: bytes) -> None:
    with pytest.raises(KeysUnavailable):
        jwks.parse(text, ALL)


# --- rotation and its limits


@dataclass
class Source:
    """A JWK Set that changes, fails, and counts how often it is asked for."""

    text: bytes | None
    now: float = 1000.0
    asked: int = 0

    def read(self) -> bytes:
        self.asked += 1
        if self.text is None:
            raise KeysUnavailable("down")
        return self.text


@pytest.fixture
def source() -> Source:
    return Source(document(EC))


@pytest.fixture
def keys(source: Source) -> Keys:
    return Keys(source.read, ALL, clock=lambda: source.now)


def test_keys_are_fetched_once_and_looked_at_anew(source: Source, keys: Keys) -> None:
    assert all(keys.find("ec") for _ in range(3))
    assert source.asked == 1
    source.now += jwks.FRESH + 1
    assert keys.find("ec")
    assert source.asked == 2


def test_a_new_key_is_found_at_its_first_use_and_an_old_one_forgotten(source: Source, keys: Keys) -> None:
    assert keys.find("ec")
    source.text, source.now = document(RSA), source.now + jwks.AGAIN + 1
    assert keys.find("rsa")
    assert keys.find("ec") is None


def test_unknown_keys_do_not_make_it_ask_again_and_again(source: Source, keys: Keys) -> None:
    assert [keys.find(f"made up {number}") for number in range(50)] == [None] * 50
    assert source.asked == 1
    source.now += jwks.AGAIN + 1
    assert [keys.find(f"made up {number}") for number in range(50)] == [None] * 50
    assert source.asked == 2


def test_an_issuer_that_is_down_is_believed_for_an_hour(source: Source, keys: Keys) -> None:
    assert keys.find("ec")
    source.text = None
    source.now += jwks.STALE
    assert keys.find("ec")
    assert keys.find("other") is None
    source.now += 1
    with pytest.raises(KeysUnavailable):
        keys.find("ec")
    asked = source.asked
    with pytest.raises(KeysUnavailable):
        keys.find("ec")
    assert source.asked == asked, "and is not asked by each caller"
    source.text, source.now = document(EC), source.now + jwks.AGAIN + 1
    assert keys.find("ec")


def test_who_knows_the_key_waits_for_nobody(source: Source) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def slow() -> bytes:
        if source.asked:
            arrived.set()
            assert go_on.wait(20)
        return source.read()

    keys = Keys(slow, ALL, clock=lambda: source.now)
    assert keys.find("ec")
    source.now += jwks.FRESH + 1
    asking = threading.Thread(target=lambda: keys.find("ec"))
    asking.start()
    assert arrived.wait(20)
    assert keys.find("ec")
    go_on.set()
    asking.join()
    assert source.asked == 2


def test_a_file_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="No such file"):
        jwks.from_file(str(tmp_path / "jwks.json"))


# --- over HTTPS


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], tuple[str, str]]]:
    files, servers = pair(tmp_path), list[ThreadingHTTPServer]()

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> tuple[str, str]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"https://127.0.0.1:{server.server_port}/jwks", str(files.certificate)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _answered(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def test_a_set_comes_from_its_own_host_alone(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    url, ca_file = serve(lambda handler: _answered(handler, 200, document(EC)))
    assert jwks.parse(jwks.fetch(url, ca_file), ALL).keys() == {"ec"}
    with pytest.raises(KeysUnavailable, match="ConnectError"):
        jwks.fetch(url, "")  # the system's roots do not know it
    elsewhere, _ = serve(lambda handler: _answered(handler, 302, b"", Location=url))
    with pytest.raises(KeysUnavailable, match="answered 302"):
        jwks.fetch(elsewhere, ca_file)


def test_what_does_not_end_is_given_up(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        try:
            _answered(handler, 200, b"")
            while True:
                handler.wfile.write(b" " * 65536)
        except OSError:
            pass

    with pytest.raises(KeysUnavailable, match="sends more than"):
        jwks.fetch(*serve(flood))

    def drip(handler: BaseHTTPRequestHandler) -> None:
        try:
            _answered(handler, 200, b"")
            while True:
                handler.wfile.write(b" ")
                time.sleep(0.01)
        except OSError:
            pass

    monkeypatch.setattr(jwks, "WHOLE", 0.1)
    with pytest.raises(KeysUnavailable, match="takes longer than"):
        jwks.fetch(*serve(drip))


def test_an_issuer_that_is_not_there() -> None:
    with pytest.raises(KeysUnavailable, match="ConnectError"):
        jwks.fetch("https://127.0.0.1:9/jwks", "")
    with pytest.raises(KeysUnavailable, match="FileNotFoundError"):
        jwks.fetch("https://127.0.0.1:9/jwks", "/nowhere/ca.pem")
