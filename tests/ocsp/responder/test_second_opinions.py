"""What others make of the answers, whoever signs them: OpenSSL, GnuTLS, curl, and nginx that staples them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.ocsp import load_der_ocsp_response

from ca import ocsp_signers, pipeline
from ca.models import Certificate, Issuer, Request, Token
from ocsp import presign
from ocsp.models import Response
from tests.material import csr, new_key
from tests.ocsp.support import follow, log, revoked
from tests.processes import eventually

from .support import Responder, free_port, request, responder

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed"
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run([str(each) for each in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture(params=["issuer", "delegated"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, token: Token, now: datetime, run_pipeline: Callable[[], None], settings: Any
) -> Path:
    """A directory with root.pem, issuer.pem, leaf.pem, chain.pem and leaf.key of localhost, whose answers the issuer signs, or
    its delegate."""
    settings.OCSP_SIGNERS = {"*": request.param}
    ocsp_signers.tend(now)
    run_pipeline()
    follow()
    key = new_key()
    (asked,) = pipeline.submit(token, [pipeline.Submission(csr=csr("localhost", key=key))], now)
    run_pipeline()
    assert isinstance(asked, Request)
    follow()
    leaf = Certificate.objects.get(request=asked.id)
    ders = {
        "root": Issuer.objects.get(name="root").certificate,
        "issuer": Issuer.objects.get(name="issuing-1").certificate,
        "leaf": leaf.der,
    }
    pems = {name: x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM) for name, der in ders.items()}
    for name, pem in pems.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
    (tmp_path / "chain.pem").write_bytes(pems["leaf"] + pems["issuer"])
    (tmp_path / "leaf.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _assert_signed_by(request.param)
    return tmp_path


def _assert_signed_by(who: str) -> None:
    row = Response.objects.get()
    for answer in (row.sha1, row.sha256):
        assert len(load_der_ocsp_response(bytes(answer)).certificates) == (who == "delegated")


@pytest.fixture
def running(site: Path) -> Iterator[Responder]:
    with responder(site) as it:
        yield it


def revoke(site: Path, now: datetime) -> None:
    leaf = x509.load_pem_x509_certificate((site / "leaf.pem").read_bytes())
    log(now, revoked(f"{leaf.serial_number:040x}", "keyCompromise"))
    follow()
    presign.sign_due(now, now)


def test_openssl(running: Responder, site: Path, now: datetime) -> None:
    openssl, every = tool("openssl"), list(product(("-sha1", "-sha256"), ("-no_nonce", "-nonce")))

    def ask(options: tuple[str, str]) -> str:
        certificates = ("-CAfile", site / "root.pem", "-verify_other", site / "issuer.pem", "-issuer", site / "issuer.pem")
        return run(openssl, "ocsp", "-url", f"{running.url}/ocsp", *certificates, *options, "-cert", site / "leaf.pem")

    for options in every:
        answer = ask(options)
        assert "Response verify OK" in answer, (options, answer)
        assert "leaf.pem: good" in answer, (options, answer)
        assert "ERROR" not in answer, (options, answer)
    revoke(site, now)
    eventually(lambda: "leaf.pem: revoked" in ask(every[0]), 10)
    for options in every:
        answer = ask(options)
        assert "Response verify OK" in answer, (options, answer)
        assert "leaf.pem: revoked" in answer, (options, answer)
        assert "Reason: keyCompromise" in answer, (options, answer)


def test_gnutls(running: Responder, site: Path, now: datetime) -> None:
    ocsptool = tool("ocsptool")

    def ask() -> str:
        certificates = ("--load-issuer", site / "issuer.pem", "--load-cert", site / "leaf.pem", "--load-trust", site / "issuer.pem")
        return run(ocsptool, f"--ask={running.url}/ocsp", *certificates)

    answer = ask()
    assert "Certificate Status: good" in answer, answer
    assert "Verifying OCSP Response: Success" in answer
    revoke(site, now)
    eventually(lambda: "Certificate Status: revoked" in ask(), 10)


@contextmanager
def stapling(site: Path, responder_url: str) -> Iterator[int]:
    """nginx with the leaf's chain, which asks the responder and staples what it says; its port."""
    port = free_port()
    (site / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; pid {site}/nginx.pid; error_log {site}/nginx.log info;
        {"" if os.geteuid() else "user root;"}
        events {{ worker_connections 64; }}
        http {{ access_log off; client_body_temp_path {site}/t1; proxy_temp_path {site}/t2;
          fastcgi_temp_path {site}/t3; uwsgi_temp_path {site}/t4; scgi_temp_path {site}/t5;
          server {{ listen 127.0.0.1:{port} ssl; server_name localhost;
            ssl_certificate {site}/chain.pem; ssl_certificate_key {site}/leaf.key;
            ssl_stapling on; ssl_stapling_verify on; ssl_trusted_certificate {site}/trusted.pem;
            ssl_stapling_responder {responder_url}/ocsp;
            location / {{ return 200 "the page"; }} }} }}"""
    )
    (site / "trusted.pem").write_bytes((site / "issuer.pem").read_bytes() + (site / "root.pem").read_bytes())
    process = subprocess.Popen([tool("nginx"), "-p", site, "-c", site / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_nginx_staples_it_and_curl_and_openssl_believe_it(running: Responder, site: Path, now: datetime) -> None:
    curl, openssl = tool("curl"), tool("openssl")

    def ask(port: int) -> str:
        root = ("--cacert", site / "root.pem")
        return run(curl, "-sv", "--cert-status", *root, "--resolve", f"localhost:{port}:127.0.0.1", f"https://localhost:{port}/")

    def shake_hands(port: int) -> str:
        return run(
            openssl, "s_client", "-status", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile", site / "root.pem"
        )

    with stapling(site, running.url) as port:
        eventually(lambda: "the page" in (answer := ask(port)) and "SSL certificate status: good (0)" in answer, 20)
        answer = shake_hands(port)
        assert "OCSP Response Status: successful (0x0)" in answer, answer
        assert "Cert Status: good" in answer
        assert "Verify return code: 0 (ok)" in answer
    revoke(site, now)
    leaf, issuer = (x509.load_pem_x509_certificate((site / f"{name}.pem").read_bytes()) for name in ("leaf", "issuer"))
    eventually(lambda: running.status(request(leaf, issuer)) == "revoked", 10)
    with stapling(site, running.url) as port:
        eventually(lambda: ask(port) and 'certificate status "revoked" in the OCSP response' in (site / "nginx.log").read_text(), 20)
        answer, without = ask(port), shake_hands(port)
    assert "No OCSP response received" in answer  # nginx staples good ones only
    assert "the page" not in answer
    assert "OCSP response: no response sent" in without
