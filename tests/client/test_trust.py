"""trust: nothing is pinned before the fingerprint fits, and after that nobody else is talked to."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from quicklime_client.failures import Failure
from quicklime_client.pinning import fingerprint_of

from .conftest import Node, openssl
from .fake import Authority, Drop, Fake, Say, pem, serving


def test_the_right_fingerprint_pins_the_root(stranger: Node) -> None:
    said = stranger.run("trust", stranger.fake.url + "/", "--fingerprint", stranger.fake.fingerprint)
    assert said.startswith(f"trusted: {stranger.fake.url}\n")
    shown = openssl("x509", "-in", stranger.state / "root.pem", "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
    assert shown.replace(":", "").lower() == stranger.fake.fingerprint
    assert stranger.store.trust().url == stranger.fake.url
    assert stranger.state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("form", ["{}", " {} ", "SHA256:{}", "sha256={}", "SHA256 Fingerprint={}"])
def test_fingerprints_as_people_copy_them(form: str) -> None:
    digest = sha256(b"").hexdigest()
    with_colons = ":".join(digest[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (digest, with_colons):
        assert fingerprint_of(form.format(text)) == digest


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, "٠" * 64, "a" * 64 + "\x00"])
def test_what_is_no_fingerprint_is_said_so(text: str) -> None:
    with pytest.raises(Failure, match="not the 64 hex digits"):
        fingerprint_of(text)


def test_another_root_is_not_pinned(stranger: Node) -> None:
    """The server, or somebody in between, sends a root that is not the one asked for."""
    other = Authority("other")

    def lie(method: str, path: str) -> None:
        raise Say(200, "application/pem-certificate-chain", pem(other.root).encode())

    stranger.fake.before = lie
    said = stranger.run("trust", stranger.fake.url, "--fingerprint", stranger.fake.fingerprint, code=1)
    assert "the fingerprint does not fit" in said
    assert said.count("\n") == 1
    assert not stranger.state.exists()


@pytest.mark.parametrize("body", [b"", b"\x00" * 70_000, b"nothing", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_not_pinned(stranger: Node, body: bytes) -> None:
    def lie(method: str, path: str) -> None:
        raise Say(200, "application/pem-certificate-chain", body)

    stranger.fake.before = lie
    stranger.run("trust", stranger.fake.url, "--fingerprint", stranger.fake.fingerprint, code=1)
    assert not stranger.state.exists()


def test_an_unknown_fingerprint_is_said_so(stranger: Node) -> None:
    assert "no root with this fingerprint" in stranger.run("trust", stranger.fake.url, "--fingerprint", "0" * 64, code=1)


def test_a_server_that_the_root_does_not_vouch_for_is_not_trusted(tmp_path: Path) -> None:
    """A man in the middle passes the root on and shows his own certificate: the hash fits, the server does not."""
    with serving(Fake(), tmp_path, trusted=Authority("middle")) as fake:
        victim = Node(tmp_path, fake)
        said = victim.run("trust", fake.url, "--fingerprint", fake.fingerprint, code=1)
    assert "is not trusted" in said
    assert not victim.state.exists()


def test_no_order_goes_to_another_server_later(node: Node, tmp_path: Path) -> None:
    with serving(Fake(), tmp_path) as other:
        text = (node.state / "server.json").read_text().replace(node.fake.url, other.url)
        (node.state / "server.json").write_text(text)
        said = node.request(code=1)
        assert "is not trusted" in said
        assert other.seen == []


def test_an_operators_bundle_counts_beside_the_root(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy opens TLS under an authority of its own, which SSL_CERT_FILE names."""
    middle = Authority("middle")
    (tmp_path / "bundle.pem").write_text(pem(middle.root))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    with serving(node.fake, tmp_path, trusted=middle):
        node.trust()
        node.request()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
        assert "SSL_CERT_FILE" in node.run("trust", node.fake.url, "--fingerprint", node.fake.fingerprint, code=1)


def test_proxies_are_taken_from_the_environment(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert "cannot be reached" in node.request(code=1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    node.request()
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "gopher://127.0.0.1:9")
    assert "the proxy settings" in node.request("--label", "other", "--out", str(node.directory / "o"), code=1)


@pytest.mark.parametrize(
    "url", ["http://ca.internal", "ca.internal", "https://", "https://ca/x", "https://u:p@ca", "https://ca:99999", "https://[::1"]
)
def test_urls_that_are_none(stranger: Node, url: str) -> None:
    assert "not of the form https://HOST" in stranger.run("trust", url, "--fingerprint", "0" * 64, code=1)


def test_an_absent_server_is_one_line(stranger: Node) -> None:
    def drop(method: str, path: str) -> None:
        raise Drop

    stranger.fake.before = drop
    said = stranger.run("trust", stranger.fake.url, "--fingerprint", "0" * 64, code=1)
    assert "cannot be reached" in said
    assert said.count("\n") == 1


def test_a_second_trust_replaces_the_first(node: Node, tmp_path: Path) -> None:
    with serving(Fake(), tmp_path) as other:
        node.run("trust", other.url, "--fingerprint", other.fingerprint)
        assert node.store.trust().url == other.url
