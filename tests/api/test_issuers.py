"""The hierarchy, for everybody."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
PEM, DER = "application/pem-certificate-chain", "application/pkix-cert"


def test_list_and_one(hierarchy: None, nobody: Caller) -> None:
    root, issuing = nobody.get("issuers/").json()["results"]
    assert (root["name"], root["kind"], root["parent"], root["profiles"]) == ("root", "root", None, [])
    assert (issuing["name"], issuing["kind"], issuing["parent"]) == ("issuing-1", "intermediate", "root")
    assert "server" in issuing["profiles"]
    assert nobody.get("issuers/issuing-1/").json() == issuing
    certificate = x509.load_pem_x509_certificate(issuing["pem"].encode())
    assert issuing["not_after"] == f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert bytes.fromhex(issuing["key_id"]) == certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_pem_and_der(hierarchy: None, nobody: Caller) -> None:
    pem, der = nobody.get("issuers/issuing-1.pem"), nobody.get("issuers/issuing-1.der")
    assert (pem["Content-Type"], der["Content-Type"]) == (PEM, DER)
    assert x509.load_pem_x509_certificate(pem.content).public_bytes(Encoding.DER) == der.content
    assert nobody.get("issuers/issuing-1.pem", Accept="application/json").status_code == 406


def test_a_root_is_found_by_its_fingerprint_alone(hierarchy: None, nobody: Caller) -> None:
    root, issuing = nobody.get("issuers/").json()["results"]
    path = f"roots/{root['fingerprint']}/"
    assert nobody.get(path).content.decode() == root["pem"]
    assert sha256(nobody.get(path, Accept=DER).content).hexdigest() == root["fingerprint"]
    assert nobody.get(path)["Vary"] == "Accept"
    assert nobody.get(path, Accept="text/html").status_code == 406
    assert code(nobody.get(f"roots/{issuing['fingerprint']}/")) == "notFound", "an intermediate is no root"


@pytest.mark.parametrize(
    "path",
    [
        "issuers/none/", "issuers/none.pem", "issuers/none.der", "issuers/issuing-1.key", "issuers/issuing-1", "issuers/../issuers/",
        "issuers/%00/", "issuers/issuing-1%0A/", "issuers/ISSUING-1/", "roots/00/", f"roots/{'0' * 64}/", f"roots/{'g' * 64}/",
        f"roots/{'0' * 63}%0a/", "certificates/xyz/", "certificates/FF/", f"certificates/{'1' * 41}/", "certificates/0/", "certificates/1",
        "certificates/%31%00/", "certificates/\u0661/", "certificates/1/receipt", "certificates/1/renewal/", "certificates/1//receipt/",
        "requests/1/", "requests/0190-x/", "requests/01900000-0000-7000-8000-00000000000g/",
        "requests/01900000-0000-7000-8000-000000000000", "", "nothing/", "x" * 20_000,
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(path: str, charlie: Caller) -> None:
    answer = charlie.get(path)
    assert (answer.status_code, code(answer)) == (404, "notFound")
