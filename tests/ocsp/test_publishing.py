"""Status as files: the right names and times, nothing that was taken back, and nginx serving them byte for byte."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as x509_ocsp
from django.core.management import CommandError, call_command

from ca.models import Certificate
from ocsp import crls, feed, presign, publishing, tasks
from ocsp.models import Crl, Feed, Issuer, Response
from tests.processes import eventually

from .support import Issue, follow, log, revoked

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hierarchy")]
HOUR = timedelta(hours=1)


@pytest.fixture
def directory(settings: Any, tmp_path: Path) -> Path:
    settings.STATUS_DIR, settings.CRL_URL, settings.CRL_SHARDS = tmp_path / "served" / "status", "http://pki.internal/crl", 2
    settings.OCSP_VALIDITY = settings.CRL_VALIDITY = 24 * HOUR
    tmp_path.chmod(0o755)
    return Path(settings.STATUS_DIR)


def publish(now: datetime) -> None:
    """All that is to be done, with the same `now`."""
    while crls.publish_due(now):
        pass
    while publishing.publish(now):
        pass


def sign(now: datetime) -> None:
    follow()
    while presign.sign_due(now, now).more:
        pass


def asked(certificate: Certificate, algorithm: hashes.HashAlgorithm) -> str:
    """The base64 that a GET client puts into the path, as pyca makes the request."""
    issuer = x509.load_der_x509_certificate(bytes(Issuer.objects.get(name=certificate.issuer).certificate))
    builder = x509_ocsp.OCSPRequestBuilder().add_certificate(x509.load_der_x509_certificate(bytes(certificate.der)), issuer, algorithm)
    return b64encode(builder.build().public_bytes(Encoding.DER)).decode()


def paths(certificate: Certificate) -> list[str]:
    return [asked(certificate, algorithm) for algorithm in (hashes.SHA1(), hashes.SHA256())]


def answers(directory: Path, certificate: Certificate) -> list[str | None]:
    """What the two files say: GOOD, REVOKED or None without a file."""
    found = []
    for path in paths(certificate):
        file = Path(f"{directory}/ocsp/{path}.der")
        answer = x509_ocsp.load_der_ocsp_response(file.read_bytes()) if file.exists() else None
        assert answer is None or answer.serial_number == int(certificate.serial, 16)
        found.append(answer and answer.certificate_status.name)
    return found


def everything(directory: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime)
        for path in directory.rglob("*") if path.is_file() and path.name != publishing._STATE
    }  # fmt: skip


# --- what lies there


def test_an_issuer_that_is_not_read_yet_holds_nobody_up(issue: Issue, directory: Path, now: datetime) -> None:
    (late,) = issue()
    sign(now)
    row = Issuer.objects.get(name="issuing-1")
    Issuer.objects.filter(name="issuing-1").delete()
    publish(now)
    assert publishing.behind() > 0
    row.save(force_insert=True)
    assert answers(directory, late) == [None, None]
    publish(now)
    assert answers(directory, late) == ["GOOD", "GOOD"]
    assert publishing.behind() == 0


def test_answers_crls_and_issuers(issue: Issue, directory: Path, now: datetime) -> None:
    certificates = issue(20)
    sign(now)
    publish(now)
    for certificate in certificates:
        row = Response.objects.get(serial=certificate.serial)
        for path, answer in zip(paths(certificate), (row.sha1, row.sha256), strict=True):
            file = Path(f"{directory}/ocsp/{path}.der")
            assert file.read_bytes() == bytes(answer)
            assert file.stat().st_mtime == row.this_update.timestamp()
            assert file.stat().st_mode & 0o777 == 0o644
    for row in Crl.objects.all():
        file = directory / "crl" / (f"{row.issuer}.crl" if row.shard < 0 else f"{row.issuer}/{row.shard}.crl")
        assert file.read_bytes() == bytes(row.der)
        assert file.stat().st_mtime == row.this_update.timestamp()
    assert {path.name for path in (directory / "crl").iterdir()} == {"root.crl", "issuing-1.crl", "issuing-1"}
    for issuer in Issuer.objects.all():
        assert (directory / "issuers" / f"{issuer.name}.der").read_bytes() == bytes(issuer.certificate)
    assert publishing.behind() == 0


def test_the_request_is_what_openssl_sends(issue: Issue, directory: Path, now: datetime, tmp_path: Path) -> None:
    (one,) = issue()
    follow()
    issuer = bytes(Issuer.objects.get(name=one.issuer).certificate)
    for name, data in (("leaf", bytes(one.der)), ("issuer", issuer)):
        (tmp_path / f"{name}.pem").write_bytes(x509.load_der_x509_certificate(data).public_bytes(Encoding.PEM))
    for algorithm in publishing._ALGORITHMS:
        command = ["openssl", "ocsp", f"-{algorithm}", "-no_nonce", "-issuer", "issuer.pem", "-cert", "leaf.pem", "-reqout", "request"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert publishing.request(issuer, algorithm, one.serial) == (tmp_path / "request").read_bytes()


@pytest.mark.parametrize("serial", ["00" * 19 + "01", "00" + "7f" * 19, "00" + "ff" * 19, "7f" * 20])
def test_serials_of_every_length(serial: str, now: datetime) -> None:
    follow()
    issuer = bytes(Issuer.objects.get(name="issuing-1").certificate)
    read = x509_ocsp.load_der_ocsp_request(publishing.request(issuer, "sha1", serial))
    assert read.serial_number == int(serial, 16)


# --- following


def test_a_revocation_goes_before_any_backlog(issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = issue(9)
    sign(now)
    monkeypatch.setattr(publishing, "CHUNK", 2)
    monkeypatch.setattr(publishing, "_SLICE", 0)
    monkeypatch.setattr(publishing, "_URGENT", 0)
    log(now, revoked(certificates[8].serial, "keyCompromise"))
    follow()  # takes the good answer back
    sign(now)
    assert publishing.publish(now)
    assert answers(directory, certificates[8]) == ["REVOKED", "REVOKED"]
    assert sum(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates) == 2
    publish(now)
    assert all(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates[:8])


def test_a_good_answer_that_was_taken_back_is_gone_before_the_revoked_one_is_signed(issue: Issue, directory: Path, now: datetime) -> None:
    (one,) = issue()
    sign(now)
    publish(now)
    assert answers(directory, one) == ["GOOD", "GOOD"]
    log(now, revoked(one.serial))
    follow()
    publish(now)
    assert answers(directory, one) == [None, None]
    sign(now)
    publish(now)
    assert answers(directory, one) == ["REVOKED", "REVOKED"]
    assert (directory / "crl" / "issuing-1.crl").read_bytes() == bytes(Crl.objects.get(issuer="issuing-1", shard=-1).der)


def test_only_what_is_new_is_written(issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(3)
    sign(now)
    publish(now)
    written: list[str] = []
    plain = publishing._write
    monkeypatch.setattr(publishing, "_write", lambda *given: (written.append(given[1].name), plain(*given)))
    publish(now)
    assert written == [publishing._STATE]
    (four,) = issue()
    sign(now)
    publish(now)
    assert len([name for name in written if name != publishing._STATE]) == 2
    assert answers(directory, four) == ["GOOD", "GOOD"]


def test_many_of_one_revision_are_followed_across_slices(
    issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = issue(7)
    sign(now)
    Response.objects.all().update(revision=Feed.objects.get().revision)
    monkeypatch.setattr(publishing, "CHUNK", 2)
    monkeypatch.setattr(publishing, "_SLICE", 0)
    monkeypatch.setattr(publishing, "_URGENT", 0)
    assert [publishing.publish(now) for _ in range(4)] == [True, True, True, False]
    assert all(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates)


def test_a_crash_between_files_and_state_is_made_good(
    issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = issue(2)
    sign(now)
    with monkeypatch.context() as patch:
        plain = os.replace

        def dies(source: Path, target: Path) -> None:
            if target.name == publishing._STATE:
                raise KeyboardInterrupt
            plain(source, target)

        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            publishing.publish(now)
    publish(now)
    assert answers(directory, one) == answers(directory, two) == ["GOOD", "GOOD"]
    assert not (directory / publishing._NEW).exists()


def test_a_state_that_the_database_is_behind_of_is_not_believed(issue: Issue, directory: Path, now: datetime) -> None:
    issue()
    sign(now)
    Feed.objects.all().update(revision=7)
    publish(now)
    before = everything(directory)
    shutil.rmtree(directory / "ocsp")
    Response.objects.all().update(revision=1)
    Feed.objects.all().update(revision=1)  # emptied and made again
    publish(now)
    assert everything(directory) == before


def test_state_that_cannot_be_read_begins_anew(issue: Issue, directory: Path, now: datetime) -> None:
    issue(2)
    sign(now)
    publish(now)
    before = everything(directory)
    for text in ("", "[]", '{"max_age": 1, "others": 3}', '{"unknown": 1}'):
        shutil.rmtree(directory / "ocsp")
        (directory / publishing._STATE).write_text(text)
        publish(now)
        assert everything(directory) == before


def test_one_process_at_a_time(issue: Issue, directory: Path, now: datetime) -> None:
    (one,) = issue()
    sign(now)
    with publishing._alone(directory) as alone:
        assert alone
        assert not publishing.publish(now)
        assert answers(directory, one) == [None, None]
    publish(now)
    assert answers(directory, one) == ["GOOD", "GOOD"]


def test_nothing_without_the_setting(issue: Issue, now: datetime, settings: Any) -> None:
    settings.STATUS_DIR = None
    assert not publishing.publish(now)
    assert publishing.behind() == 0
    with pytest.raises(CommandError, match="QUICKLIME_STATUS_DIR"):
        call_command("publish_status")


def test_the_command_publishes_everything(
    issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    certificates = issue(5)
    sign(now)
    monkeypatch.setattr(publishing, "CHUNK", 2)
    monkeypatch.setattr(publishing, "_SLICE", 0)
    monkeypatch.setattr(publishing, "_URGENT", 0)
    call_command("publish_status")
    assert all(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates)
    assert f"{directory}/nginx.conf" in capsys.readouterr().out
    shutil.rmtree(directory / "ocsp")
    call_command("publish_status")
    assert not (directory / "ocsp").exists()
    call_command("publish_status", "--anew")
    assert all(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates)


# --- expiry


def test_expired_answers_go(issue: Issue, directory: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = issue(5)
    sign(now)
    publish(now)
    Response.objects.all().delete()
    stray = directory / "ocsp" / "after a power cut.der"
    stray.touch()
    monkeypatch.setattr(publishing, "_SWEPT", 3)
    publishing._publisher.cache_clear()
    publish(now + 23 * HOUR)
    for _ in range(5):
        publish(now + 23 * HOUR)
    assert all(answers(directory, each) == ["GOOD", "GOOD"] for each in certificates)
    assert not stray.exists()
    for _ in range(5):
        publish(now + 24 * HOUR + timedelta(minutes=1))
    assert not list((directory / "ocsp").rglob("*"))  # nor an empty directory


def test_crls_that_expired_or_are_no_more_go(issue: Issue, directory: Path, now: datetime) -> None:
    issue()
    follow()
    publish(now)
    assert (directory / "crl" / "issuing-1" / "1.crl").exists()
    Crl.objects.filter(shard=1).delete()
    while publishing.publish(now):
        pass
    assert not (directory / "crl" / "issuing-1" / "1.crl").exists()
    while publishing.publish(now + 25 * HOUR):
        pass
    assert list((directory / "crl").iterdir()) == []


def test_answers_that_end_before_a_cache_would_ask_again_are_not_published(
    issue: Issue, directory: Path, now: datetime, settings: Any
) -> None:
    (one,) = issue()
    sign(now)
    publish(now)
    settings.OCSP_VALIDITY = 96 * HOUR  # caches may now keep answers for 48 hours; this one has 24
    publish(now)
    assert answers(directory, one) == [None, None]
    assert "expires modified 172800s;" in (directory / "nginx.conf").read_text()


# --- nginx


@pytest.fixture
def nginx(directory: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """nginx on a port of its own that includes nginx.conf; get(path, *curl options) → status, headers, body."""
    publish(datetime.now(UTC).replace(microsecond=0))
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    assert binary, "no nginx: install nginx-light"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "main.conf").write_text(f"""
        daemon off; worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/errors warn; {"user root;" if os.geteuid() == 0 else ""}
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/fastcgi;
            uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;
            server {{ listen 127.0.0.1:{port}; include {directory}/nginx.conf; }}
        }}
    """)
    process = subprocess.Popen([binary, "-p", tmp_path, "-c", tmp_path / "main.conf"], stderr=subprocess.DEVNULL)

    def get(path: str, *options: str) -> SimpleNamespace:
        command = [
            "curl",
            "-sS",
            "--path-as-is",
            "-D",
            tmp_path / "headers",
            "-o",
            tmp_path / "answer",
            *options,
            f"http://127.0.0.1:{port}{path}",
        ]
        (tmp_path / "answer").write_bytes(b"")
        subprocess.run(command, check=True, timeout=20)
        first, *lines = (tmp_path / "headers").read_text().strip().splitlines()
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        return SimpleNamespace(status=int(first.split()[1]), headers=headers, body=(tmp_path / "answer").read_bytes())

    def up() -> bool:
        assert process.poll() is None, (tmp_path / "errors").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(up)
        yield get
    finally:
        process.terminate()
        process.wait(10)


def spelled(path: str) -> list[str]:
    """The ways in which clients write base64 into a path."""
    return [path, quote(path, safe=""), quote(path, safe="/"), quote(path, safe="+="), quote(path, safe="/+")]


@pytest.fixture
def awkward(token: Any, directory: Path, now: datetime) -> dict[str, str]:
    """Paths with a "//", a "+", a "/" at the end, as base64 of requests for made-up serials; each with its answer stored."""
    from ocsp.feed import Ready

    follow()
    issuer, found, number = bytes(Issuer.objects.get(name="issuing-1").certificate), {}, 2**158
    wanted = {"//": lambda text: "//" in text, "+": lambda text: "+" in text, "end": lambda text: text.endswith("/")}
    while len(found) < len(wanted):
        number += 1
        serial = "3" + sha256(number.to_bytes(20, "big")).hexdigest()[:39]
        texts = [b64encode(publishing.request(issuer, algorithm, serial)).decode() for algorithm in publishing._ALGORITHMS]
        for name, fits in wanted.items():
            if name not in found and any(map(fits, texts)):
                text = next(filter(fits, texts))
                found[name] = text
                answer = [f"answer for {name}".encode() if each == text else b"other" for each in texts]
                feed.store([Ready(serial, "issuing-1", False, now, now + 24 * HOUR, now + 8 * HOUR, *answer, 0)])
                break  # a second name's answers would replace the first one's
    return found


@pytest.mark.unjudged("stores answers that are none")
def test_nginx_answers_every_spelling_alike(awkward: dict[str, str], nginx: Callable[..., Any]) -> None:
    for name, path in awkward.items():
        for text in spelled(path):
            answer = nginx(f"/ocsp/{text}")
            assert (answer.status, answer.body) == (200, f"answer for {name}".encode()), text


def test_nginx_and_openssl(issue: Issue, directory: Path, now: datetime, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    one, two = issue(2)
    log(now, revoked(two.serial, "superseded"))
    sign(now)
    publish(now)
    get = request.getfixturevalue("nginx")
    root, issuer = (x509.load_der_x509_certificate(bytes(Issuer.objects.get(name=name).certificate)) for name in ("root", "issuing-1"))
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "issuer.pem").write_bytes(issuer.public_bytes(Encoding.PEM))
    for certificate, verdict in ((one, "leaf.pem: good"), (two, "leaf.pem: revoked")):
        (tmp_path / "leaf.pem").write_bytes(x509.load_der_x509_certificate(bytes(certificate.der)).public_bytes(Encoding.PEM))
        for algorithm, path in zip(("-sha1", "-sha256"), paths(certificate), strict=True):
            (tmp_path / "response").write_bytes(get(f"/ocsp/{quote(path, safe='')}").body)
            command = [
                "openssl",
                "ocsp",
                algorithm,
                "-issuer",
                "issuer.pem",
                "-cert",
                "leaf.pem",
                "-respin",
                "response",
                "-CAfile",
                "root.pem",
            ]
            result = subprocess.run([*command, "-verify_other", "issuer.pem"], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert "Response verify OK" in result.stderr
            assert verdict in result.stdout
    (tmp_path / "full.crl").write_bytes(get("/crl/issuing-1.crl").body)
    command = ["openssl", "crl", "-inform", "DER", "-in", "full.crl", "-noout", "-text", "-CAfile", "issuer.pem", "-verify"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "verify OK" in result.stderr
    assert f"{int(two.serial, 16):X}" in result.stdout


def test_the_headers_of_nginx(issue: Issue, directory: Path, now: datetime, request: pytest.FixtureRequest) -> None:
    (one,) = issue()
    sign(now)
    get = request.getfixturevalue("nginx")
    row = Response.objects.get(serial=one.serial)
    answer = get(f"/ocsp/{paths(one)[0]}")
    assert answer.headers["content-type"] == ["application/ocsp-response"]
    assert parsedate_to_datetime(answer.headers["last-modified"][0]) == row.this_update
    assert parsedate_to_datetime(answer.headers["expires"][0]) == row.this_update + 12 * HOUR
    control = ", ".join(answer.headers["cache-control"])
    age = int(control.partition("max-age=")[2].split(",")[0])
    assert 0 < age <= (row.next_update - datetime.now(UTC)).total_seconds() / 2 + 60
    assert {"public", "no-transform", "must-revalidate"} <= set(control.split(", "))
    (tag,) = answer.headers["etag"]
    assert get(f"/ocsp/{paths(one)[0]}", "-H", f"If-None-Match: {tag}").status == 304
    assert get("/crl/issuing-1.crl").headers["content-type"] == ["application/pkix-crl"]
    assert get("/crl/issuing-1/0.crl").body == bytes(Crl.objects.get(issuer="issuing-1", shard=0).der)
    assert "max-age=60" in get("/crl/issuing-1.crl").headers["cache-control"]
    issuer = get("/issuers/issuing-1.der")
    assert issuer.headers["content-type"] == ["application/pkix-cert"]
    assert issuer.body == bytes(Issuer.objects.get(name="issuing-1").certificate)


def test_an_old_answer_is_not_to_be_cached(issue: Issue, directory: Path, now: datetime, request: pytest.FixtureRequest) -> None:
    (one,) = issue()
    sign(now)
    get = request.getfixturevalue("nginx")
    file = Path(f"{directory}/ocsp/{paths(one)[0]}.der")
    old = (datetime.now(UTC) - 13 * HOUR).timestamp()
    os.utime(file, (old, old))
    control = ", ".join(get(f"/ocsp/{paths(one)[0]}").headers["cache-control"])
    assert "no-cache" in control
    assert "max-age" not in control


def test_what_no_file_knows(nginx: Callable[..., Any], directory: Path) -> None:
    for path in (
        "/ocsp/MEow",
        "/ocsp/",
        "/ocsp",
        "/crl/nobody.crl",
        "/issuers/..%2f.published.json",
        "/ocsp/../.published.json",
        "/.published.json",
    ):
        answer = nginx(path)
        assert answer.status == 404, path
        assert b"max_age" not in answer.body
    assert nginx("/ocsp/MEow").headers["cache-control"] == ["no-store"]
    assert nginx("/ocsp", "-X", "POST", "-d", "x").status == 404


def test_what_no_file_knows_can_be_asked_elsewhere(directory: Path, now: datetime, request: pytest.FixtureRequest) -> None:
    class Responder(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.command.encode() + b" " + self.path.encode() + b" " + self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *given: object) -> None:
            pass

    publish(now)
    with ThreadingHTTPServer(("127.0.0.1", 0), Responder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (directory / "unknown.conf").write_text(f"proxy_pass http://127.0.0.1:{server.server_port};\n")
        get = request.getfixturevalue("nginx")
        assert get("/ocsp", "-d", "asked").body == b"POST /ocsp asked"
        assert get("/ocsp/ME//w+%2F=").body == b"GET /ocsp/ME//w+%2F= "
        server.shutdown()


def test_a_directory_that_cannot_be_written_is_told_and_stops_nothing_else(
    settings: Any, tmp_path: Path, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STATUS_DIR = tmp_path / "file" / "status"
    (tmp_path / "file").touch()
    tasks.follow()
    assert Crl.objects.exists()
    assert "QUICKLIME_STATUS_DIR fall behind" in caplog.text


def test_unknown_conf_is_the_operators(directory: Path, now: datetime) -> None:
    publish(now)
    (directory / "unknown.conf").write_text("proxy_pass http://127.0.0.1:8080;\n")
    (directory / "nginx.conf").write_text("somebody's")
    publish(now)
    assert (directory / "unknown.conf").read_text() == "proxy_pass http://127.0.0.1:8080;\n"
    assert (directory / "nginx.conf").read_text() == publishing.configuration(directory)
