"""manage.py status_channels: where certificates point to, and until when a channel must go on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID
from django.core.management import call_command

from ca.models import Certificate
from ocsp.models import Status

from .support import Issue, follow

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hierarchy")]
BOTH = {
    "server": ("ocsp", "crl"),
    "client": ("ocsp", "crl"),
    "peer": ("ocsp", "crl"),
    "short-lived": (),
    "ocsp-signer": (),
    "intermediate": (),
}


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.OCSP_URL, settings.CRL_URL, settings.CRL_SHARDS = "http://pki.internal/ocsp", "http://pki.internal/crl", 0
    settings.STATUS_CHANNELS = BOTH


def table(capsys: Any) -> list[list[str]]:
    follow()
    capsys.readouterr()
    call_command("status_channels")
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["profile", "channel", "new", "ones", "certificates", "drained", "after"]
    return [line.replace("no URL", "no-URL").split() for line in lines]


def pointers(certificate: Certificate) -> tuple[list[str], list[str]]:
    """The OCSP URLs and the CRL URLs of a certificate."""
    found = x509.load_der_x509_certificate(bytes(certificate.der)).extensions
    access = found.get_extension_for_class(x509.AuthorityInformationAccess).value
    ocsp = [place.access_location.value for place in access if place.access_method == AuthorityInformationAccessOID.OCSP]
    points = [point for extension in found if isinstance(extension.value, x509.CRLDistributionPoints) for point in extension.value]
    return ocsp, [name.value for point in points for name in point.full_name or ()]


OCSP, CRL = ["http://pki.internal/ocsp"], ["http://pki.internal/crl/issuing-1.crl"]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(("ocsp", "crl"), (OCSP, CRL)), (("ocsp",), (OCSP, [])), (("crl",), ([], CRL)), ((), ([], []))],
)  # fmt: skip
def test_certificates_point_where_the_settings_say(
    issue: Issue, settings: Any, channels: tuple[str, ...], expected: tuple[list[str], list[str]]
) -> None:
    settings.STATUS_CHANNELS = BOTH | {"server": channels}
    (one,), (other,) = issue(), issue(profile="client")
    assert pointers(one) == expected
    assert pointers(other) == (OCSP, CRL)
    follow()
    assert Status.objects.get(serial=one.serial).channels == " ".join(channels)


def test_short_lived_ones_point_nowhere(issue: Issue) -> None:
    (one,) = issue(profile="short-lived")
    assert pointers(one) == ([], [])


def test_without_urls_nothing_is_pointed_to(issue: Issue, settings: Any) -> None:
    settings.OCSP_URL = settings.CRL_URL = ""
    (one,) = issue()
    assert pointers(one) == ([], [])


def test_the_table_of_a_new_ca(capsys: Any) -> None:
    rows = [[profile, channel, "on", "0", "-"] for profile in ("server", "client", "peer") for channel in ("ocsp", "crl")]
    assert table(capsys) == rows


def test_a_channel_is_retired(issue: Issue, settings: Any, capsys: Any, now: datetime) -> None:
    issue(2)
    settings.STATUS_CHANNELS = BOTH | {"server": ("crl",), "client": ()}
    (last,) = issue(not_after=now + timedelta(days=100))
    issue(profile="peer")
    rows = {(row[0], row[1]): row[2:] for row in table(capsys)}
    ends = Status.objects.exclude(serial=last.serial).filter(profile="server").values_list("not_after", flat=True)
    assert rows["server", "ocsp"] == ["off", "2", f"{max(filter(None, ends)):%Y-%m-%dT%H:%M:%SZ}"]
    assert rows["server", "crl"] == ["on", "3", f"{last.not_after:%Y-%m-%dT%H:%M:%SZ}"]
    assert rows["peer", "ocsp"][:2] == ["on", "1"]
    assert ("client", "crl") not in rows


def test_a_profile_that_is_gone_is_shown_while_certificates_point(issue: Issue, settings: Any, capsys: Any) -> None:
    issue(profile="client")
    settings.STATUS_CHANNELS = {"server": ("ocsp", "crl")}
    rows = {(row[0], row[1]): row[2:4] for row in table(capsys)}
    assert rows["client", "ocsp"] == rows["client", "crl"] == ["off", "1"]


@pytest.mark.unjudged("ages the projection by hand")
def test_expired_ones_do_not_count_and_a_missing_url_is_said(issue: Issue, settings: Any, capsys: Any, now: datetime) -> None:
    issue()
    follow()
    Status.objects.all().update(not_after=now - timedelta(seconds=1))
    settings.OCSP_URL = ""
    rows = {(row[0], row[1]): row[2:] for row in table(capsys)}
    assert rows["server", "ocsp"] == ["no-URL", "0", "-"]
    assert rows["server", "crl"] == ["on", "0", "-"]
