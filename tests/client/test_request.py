"""request: the key stays here, the pair is right, and every way to be interrupted or refused leaves something sensible."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from quicklime_client import keys

from .conftest import LABEL, Node, check_pair, openssl
from .fake import FOREVER, TOKEN, Authority, Body, Drop, Say, pem


def test_a_key_is_made_here_and_a_pair_is_in_place(node: Node) -> None:
    said = node.request("--ip", "127.0.0.1", "--name", "www.payroll.internal")
    (made,) = node.fake.certificates.values()
    assert said.startswith(f"payroll.internal: generation 1, serial {made.serial}\n")
    assert " UTC, in 89 d\n" in said
    assert f"ssl_certificate_key {node.current()}/key.pem;" in said
    assert check_pair(node.current(), node.state / "root.pem") == made.leaf.serial_number
    assert {name: made.body[name] for name in ("service", "node", "profile")} == {
        "service": "payroll",
        "node": "payroll-1",
        "profile": "server",
    }
    csr = openssl("req", "-noout", "-text", "-verify", stdin=made.body["csr"].encode())
    assert "DNS:payroll.internal, DNS:www.payroll.internal, IP Address:127.0.0.1" in csr


def test_secrets_are_for_their_owner_only_and_never_sent(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    said = node.request()
    modes = {path.name: path.stat().st_mode & 0o777 for path in node.state.rglob("*") if path.is_file()}
    assert modes[f"{LABEL}.json"] == modes["key.pem"] == 0o600
    assert modes["fullchain.pem"] == 0o644
    record = node.record()
    assert record.current
    secret = str(record.current.secret)
    for text in (said, repr(record), node.run("status", "--json"), caplog.text):
        assert "PRIVATE KEY" not in text
        assert secret not in text
        assert TOKEN not in text


@pytest.mark.parametrize(
    ("kind", "made"),
    [("P-256", ec.EllipticCurvePrivateKey), ("p-384", ec.EllipticCurvePrivateKey), ("ed25519", ed25519.Ed25519PrivateKey),
     ("RSA-2048", rsa.RSAPrivateKey)],
)  # fmt: skip
def test_kinds_of_keys_and_their_renewal(node: Node, kind: str, made: type) -> None:
    node.request("--key-type", kind)
    first = node.record().current
    assert first
    assert isinstance(keys.load(first.key), made)
    node.run("renew", LABEL)
    check_pair(node.current(), node.state / "root.pem")
    node.run("revoke", LABEL, "--by-key", "--yes", "--reason", "superseded")


def test_again_it_changes_nothing(node: Node) -> None:
    node.request()
    before = node.current().readlink()
    node.request()
    assert node.current().readlink() == before
    assert len(node.fake.certificates) == 1


def test_other_names_are_another_certificate_in_the_same_place(node: Node) -> None:
    node.request()
    node.request("--name", "www.payroll.internal")
    record = node.record()
    assert record.current
    assert record.current.generation == 2
    assert check_pair(node.current(), node.state / "root.pem") == int(record.current.serial, 16)


def test_a_revoked_or_expired_one_is_replaced(node: Node) -> None:
    node.request()
    node.run("revoke", LABEL, "--yes")
    node.request()
    record = node.record()
    assert record.revoked_at is None
    assert record.current
    assert record.current.generation == 2


def test_a_node_with_an_old_copy_of_its_state_asks_anew(node: Node) -> None:
    node.request()
    record = node.state / "certificates" / f"{LABEL}.json"
    copy = record.read_bytes()
    node.run("renew", LABEL)
    record.write_bytes(copy)
    assert "quicklime request --new" in node.run("renew", LABEL, code=1)
    node.request("--new")
    check_pair(node.current(), node.state / "root.pem")
    node.run("renew", LABEL)
    assert len(node.fake.certificates) == 4


def test_modes_do_not_depend_on_the_umask(node: Node) -> None:
    before = os.umask(0o077)
    try:
        node.request()
    finally:
        os.umask(before)
    assert (node.current() / "fullchain.pem").stat().st_mode & 0o777 == 0o644
    assert node.current().stat().st_mode & 0o777 == 0o755
    os.umask(0)
    try:
        node.request("--new")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in node.current().iterdir()}
    assert modes == {"key.pem": 0o600, "fullchain.pem": 0o644}


def test_layouts_and_places_can_change_later(node: Node, tmp_path: Path) -> None:
    node.request("--reload", f"echo told >> {tmp_path}/told")
    node.request("--layout", "haproxy", "--out", str(tmp_path / "haproxy"), "--reload", f"echo moved >> {tmp_path}/told")
    assert (tmp_path / "haproxy/current/combined.pem").is_file()
    assert (tmp_path / "told").read_text() == "moved\n"
    assert len(node.fake.certificates) == 1


def test_two_certificates_cannot_share_a_place(node: Node, tmp_path: Path) -> None:
    node.request("--out", str(tmp_path / "tls"))
    said = node.run("request", "--service", "s", "--name", "b.internal", "--out", str(tmp_path / "tls"), code=1)
    assert "the pair of payroll.internal goes there" in said
    assert len(node.fake.certificates) == 1


def test_a_place_that_cannot_be_written_is_said_before_anything_is_asked(node: Node, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = node.request("--out", str(tmp_path / "file/tls"), code=1)
    assert "Not a directory" in said
    (tmp_path / "tls/current").mkdir(parents=True)
    assert "was not made by quicklime" in node.request("--out", str(tmp_path / "tls"), code=1)
    assert node.fake.certificates == {}
    assert node.store.labels() == []


def test_it_waits_for_what_takes_time(node: Node) -> None:
    node.fake.undecided = 2
    node.request()
    posted = [(headers["prefer"], headers["idempotency-key"]) for method, _, headers in node.fake.seen if method == "POST"]
    assert posted == [("wait=25", posted[0][1])] * 3


def test_what_is_not_decided_in_time_is_taken_up_later(node: Node) -> None:
    node.fake.undecided = 1
    said = node.request("--wait", "0", code=1)
    assert "no certificate yet" in said or "still at it" in said
    pending = node.record().pending
    assert pending
    node.request()
    assert len(node.fake.requests) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_costs_no_second_certificate(node: Node, moment: str) -> None:
    def drop(method: str, path: str) -> None:
        setattr(node.fake, moment, lambda method, path: None)
        raise Drop

    setattr(node.fake, moment, drop)
    assert "cannot be reached" in node.request(code=1)
    node.request()
    assert len(node.fake.certificates) == 1
    check_pair(node.current(), node.state / "root.pem")


def test_a_refusal_leaves_nothing_behind(node: Node) -> None:
    said = node.run("request", "--service", "s", "--name", "forbidden.internal", code=1)
    assert "the token does not permit it (nameForbidden)" in said
    assert node.store.labels() == []


def test_a_refusal_of_other_names_leaves_what_there_was(node: Node) -> None:
    node.request()
    before = node.record()
    node.request("--name", "forbidden.internal", code=1)
    assert node.record() == before


def test_a_rejected_request_is_not_sent_again(node: Node) -> None:
    node.fake.undecided = 1
    node.request("--wait", "0", code=1)
    node.fake.rejection = {"code": "caaForbidden", "detail": "no"}
    assert "no (caaForbidden)" in node.request(code=1)
    node.fake.rejection = None
    node.request()
    assert len(node.fake.requests) == 2


def test_a_wrong_token_is_said_and_can_be_put_right(node: Node) -> None:
    (node.state / "token").write_text("wrong")
    said = node.request(code=1)
    assert "--token-file" in said
    (node.state / "token").write_text("two\nlines")
    assert "not one line" in node.request(code=1)
    (node.state / "token").write_text(TOKEN)
    node.request()


def test_where_tokens_come_from(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (node.state / "token").write_text("wrong")
    (tmp_path / "right").write_text(TOKEN)
    monkeypatch.setenv("QUICKLIME_TOKEN", "wrong-too")
    node.request("--token-file", str(tmp_path / "right"))
    monkeypatch.setenv("QUICKLIME_TOKEN", TOKEN)
    node.request("--name", "b.internal")


# --- bad answers


def _another_key(body: Body) -> Body:
    authority = Authority("x")
    names = x509.SubjectAlternativeName([x509.DNSName(LABEL)])
    return {**body, "pem": pem(authority.leaf(authority.key.public_key(), names, *FOREVER))}


@pytest.mark.parametrize(
    "spoil",
    [
        _another_key,
        lambda body: {**body, "chain": ""},
        lambda body: {**body, "chain": pem(Authority("fake").intermediate)},
        lambda body: {**body, "chain": "no PEM"},
        lambda body: {**body, "pem": ""},
        lambda body: {**body, "pem": None},
        lambda body: {**body, "renewal_challenge": 5},
        lambda body: {**body, "revocation_secret": 5},
        lambda body: {},
    ],
)
def test_a_certificate_that_cannot_be_used_never_replaces_one_that_can(node: Node, spoil: object) -> None:
    node.request()
    before = check_pair(node.current(), node.state / "root.pem")
    node.fake.shown = spoil  # type: ignore[assignment]
    said = node.run("renew", LABEL, code=1)
    assert said.count("\n") == 1
    assert check_pair(node.current(), node.state / "root.pem") == before
    node.fake.shown = lambda body: body
    node.run("renew", LABEL)
    assert check_pair(node.current(), node.state / "root.pem") != before
    assert len(node.fake.certificates) == 2


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<h1>captive portal</h1>"),
        (200, "application/json", b"[]"),
        (201, "application/json", b'{"status": "issued"}'),
        (302, "text/html", b""),
        (403, "text/html", b"proxy says no"),
        (500, "application/problem+json", b"{}"),
        (503, "application/problem+json", b"\xff"),
        (422, "application/problem+json", json.dumps({"detail": "bad\x1b[2J\n\rnews", "code": "x"}).encode()),
    ],
)
def test_answers_that_are_none(node: Node, status: int, kind: str, body: bytes) -> None:
    def lie(method: str, path: str) -> None:
        raise Say(status, kind, body)

    node.fake.before = lie
    said = node.request(code=1)
    assert said.count("\n") == 1
    assert said.strip().isprintable()


# --- bad input


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--name", ""),
        ("--name", "a..b"),
        ("--name", "ü.internal"),
        ("--name", "a.internal\n"),
        ("--name", "x" * 254),
        ("--name", "10.0.0.7"),
        ("--ip", "10.0.0"),
        ("--name", "a.internal", "--label", "../x"),
        ("--name", "a.internal", "--label", ""),
        ("--name", "a.internal", "--serves", "nowhere"),
        ("--name", "a.internal", "--serves", "a:99999999999"),
    ],
)
def test_input_that_cannot_be_meant(node: Node, arguments: tuple[str, ...]) -> None:
    said = node.run("request", "--service", "s", *arguments, code=1)
    assert said.count("\n") == 1
    assert [path.name for path in node.state.rglob("*.json")] == ["server.json"]


def test_wildcards_have_labels_too(node: Node) -> None:
    node.run("request", "--service", "s", "--name", "*.Payroll.internal")
    assert node.store.labels() == ["_wildcard.payroll.internal"]


def test_without_trust_it_says_what_to_do(stranger: Node) -> None:
    assert "quicklime trust" in stranger.request(code=1)
    stranger.state.mkdir(exist_ok=True)
    (stranger.state / "server.json").write_text("{")
    assert "damaged" in stranger.request(code=1)


# --- layouts, with second opinions


def _renewed(node: Node, times: int) -> None:
    for _ in range(times):
        node.run("renew", LABEL)


@pytest.mark.parametrize("renewals", [0, 1])
def test_haproxy_wants_one_file(node: Node, renewals: int) -> None:
    node.request("--layout", "haproxy")
    _renewed(node, renewals)
    combined = node.current() / "combined.pem"
    assert combined.stat().st_mode & 0o777 == 0o600
    assert openssl("pkey", "-in", combined, "-pubout") == openssl("x509", "-in", combined, "-noout", "-pubkey")
    assert combined.read_text().count("BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("renewals", [0, 1])
def test_separate_files(node: Node, renewals: int) -> None:
    node.request("--layout", "separate")
    _renewed(node, renewals)
    at = node.current()
    assert openssl("pkey", "-in", at / "key.pem", "-pubout") == openssl("x509", "-in", at / "cert.pem", "-noout", "-pubkey")
    openssl("verify", "-CAfile", node.state / "root.pem", "-untrusted", at / "chain.pem", at / "cert.pem")


@pytest.mark.parametrize("renewals", [0, 1])
def test_pkcs12_opens_in_openssl_and_java(node: Node, renewals: int) -> None:
    node.request("--layout", "pkcs12", "--key-type", "RSA-2048")
    store, password = node.current() / "keystore.p12", node.current().parent / "keystore.password"
    told = password.read_text()
    _renewed(node, renewals)
    assert password.read_text() == told
    assert (store.stat().st_mode & 0o777, password.stat().st_mode & 0o777) == (0o600, 0o600)
    shown = openssl("pkcs12", "-in", store, "-passin", f"file:{password}", "-nodes")
    assert shown.count("BEGIN CERTIFICATE") == 2
    assert openssl("pkey", "-pubout", stdin=shown.encode()) == openssl("x509", "-noout", "-pubkey", stdin=shown.encode())
    if not shutil.which("keytool"):
        pytest.skip("no keytool here: openssl alone was asked")
    listed = subprocess.run(
        ["keytool", "-list", "-v", "-keystore", store, "-storetype", "PKCS12", "-storepass:file", password],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert listed.returncode == 0, listed.stdout
    assert "PrivateKeyEntry" in listed.stdout
    assert f"Alias name: {LABEL}" in listed.stdout


def test_a_password_that_was_put_there_is_used(node: Node, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/keystore.password").write_text("changeit\n")
    node.request("--layout", "pkcs12", "--out", str(tmp_path / "tls"))
    openssl("pkcs12", "-in", tmp_path / "tls/current/keystore.p12", "-passin", "pass:changeit", "-nokeys")
