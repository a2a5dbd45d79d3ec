"""A hierarchy, certificates of it with their answers ready, and the responder over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from ca.models import Issuer
from tests.ocsp.support import Issue, follow

from .support import Responder, responder


@pytest.fixture
def issuer(hierarchy: None) -> x509.Certificate:
    return x509.load_der_x509_certificate(bytes(Issuer.objects.get(name="issuing-1").certificate))


@pytest.fixture
def leaves(issue: Issue) -> list[x509.Certificate]:
    found = [x509.load_der_x509_certificate(bytes(each.der)) for each in issue(3)]
    follow()
    return found


@pytest.fixture
def running(leaves: list[x509.Certificate], tmp_path: Path) -> Iterator[Responder]:
    with responder(tmp_path) as it:
        yield it
