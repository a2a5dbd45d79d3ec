"""What others make of the answers: OpenSSL, GnuTLS, curl, and nginx that staples them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca import pipeline
from ca.models import Certificate, Issuer, Request, Token
from ocsp import presign
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
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.fixture
def site(tmp_path: Path, token: Token, now: datetime, run_pipeline: object) -> Path:
    """A directory with root.pem, issuer.pem, leaf.pem, chain.pem and leaf.key of localhost."""
    key = new_key()
    (asked,) = pipeline.submit(token, [pipeline.Submission(csr=csr("localhost", key=key))], now)
    run_pipeline()  # type: ignore[operator]
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
    return tmp_path


@pytest.fixture
def running(site: Path) -> Iterator[Responder]:
    with responder(site) as it:
        yield it


def revoke(site: Path, now: datetime) -> None:
    leaf = x509.load_pem_x509_certificate((site / "leaf.pem").read_bytes())
    log(now, revoked(f"{leaf.serial_number:040x}", "keyCompromise"))
    follow()
    presign.sign_due(now, now)


@pytest.mark.parametrize("digest", ["-sha1", "-sha256"])
@pytest.mark.parametrize("nonce", ["-no_nonce", "-nonce"])
def test_openssl(running: Responder, site: Path, now: datetime, digest: str, nonce: str) -> None:
    openssl = tool("openssl")

    def ask() -> str:
        certificates = ("-CAfile", site / "root.pem", "-verify_other", site / "issuer.pem", "-issuer", site / "issuer.pem")
        return run(openssl, "ocsp", "-url", f"{running.url}/ocsp", *certificates, digest, nonce, "-cert", site / "leaf.pem")

    answer = ask()
    assert "Response verify OK" in answer, answer
    assert "leaf.pem: good" in answer
    assert "ERROR" not in answer
    revoke(site, now)
    eventually(lambda: "leaf.pem: revoked" in ask(), 10)
    assert "Reason: keyCompromise" in ask()


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


def test_nginx_staples_it_and_curl_believes_it(running: Responder, site: Path, now: datetime) -> None:
    curl = tool("curl")

    def ask(port: int) -> str:
        root = ("--cacert", site / "root.pem")
        return run(curl, "-sv", "--cert-status", *root, "--resolve", f"localhost:{port}:127.0.0.1", f"https://localhost:{port}/")

    with stapling(site, running.url) as port:
        eventually(lambda: "the page" in (answer := ask(port)) and "SSL certificate status: good (0)" in answer, 20)
    revoke(site, now)
    leaf, issuer = (x509.load_pem_x509_certificate((site / f"{name}.pem").read_bytes()) for name in ("leaf", "issuer"))
    eventually(lambda: running.status(request(leaf, issuer)) == "revoked", 10)
    with stapling(site, running.url) as port:
        eventually(lambda: ask(port) and 'certificate status "revoked" in the OCSP response' in (site / "nginx.log").read_text(), 20)
        answer = ask(port)
    assert "No OCSP response received" in answer  # nginx staples good ones only
    assert "the page" not in answer
