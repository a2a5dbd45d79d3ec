"""Sign-in by the company's directory, a real one on this machine: who gets in as what, and that nothing else lets anybody in."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("ldap", reason="python-ldap is not installed: `make ldap` does, with a C compiler and libldap2-dev libsasl2-dev")

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client

from dashboard import accounts, directory, directory_connection, directory_settings
from dashboard.directory_settings import Directory, Server
from dashboard.models import Identity, Ownership
from dashboard.roles import Role
from eventlog.models import Event

from . import slapd
from .slapd import GROUPS, PEOPLE, READER, READER_PASSWORD, Slapd
from .tls import Pair, pair

pytestmark = pytest.mark.django_db
LOGIN, ADA, ROOT = "/dashboard/login/", "ada's pä55word", "correct horse battery"
ODD = 'cn=Gräfin\\, \\"A\\+B\\" \\<x\\>+sn=odd'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, files: Pair) -> Iterator[Slapd]:
    with slapd.running(tmp_path_factory.mktemp("slapd"), files) as found:
        found.person("ada", ADA)
        found.person("odd", ADA, name=ODD)
        for unit in ("a", "b"):
            found.add(f"ou={unit},{PEOPLE}", ["organizationalUnit"], ou=unit)
            found.person("twin", ADA, below=f"ou={unit},{PEOPLE}")
        yield found


@pytest.fixture
def said(server: Slapd, tmp_path: Path) -> dict[str, Any]:
    """The setting, as it is written down."""
    (tmp_path / "password").write_text(f"{READER_PASSWORD}\n")
    groups = {"operators": ["operator"], "admins": ["administrator"], "approvers": ["approver"], "payments": ["requester"]}
    return {
        "name": "company", "title": "Example Inc.", "url": f"ldapi://{quote(str(server.path), safe='')}", "base": PEOPLE,
        "bind_dn": READER, "bind_password_file": str(tmp_path / "password"), "group_base": GROUPS,
        "roles": {f"CN={name}, {GROUPS}": roles for name, roles in groups.items()},
        "owners": {f"cn=payments,{GROUPS}": ["payments"]},
    }  # fmt: skip


@pytest.fixture
def company(server: Slapd, said: dict[str, Any], settings: Any) -> Iterator[Slapd]:
    """ada and odd are operators."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # a real one takes most of the time of these tests
    settings.LDAP = directory_settings.parse(json.dumps(said))
    settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS[:1], "dashboard.directory_sign_in.DirectoryBackend"]
    server.group("operators", f"uid=ada,{PEOPLE}", f"{ODD},{PEOPLE}")
    accounts.create("root", accounts.Access([Role.ADMINISTRATOR]), by="test", why="", now=datetime.now(UTC), password=ROOT)
    cache.clear()
    yield server
    cache.clear()
    for name in ("operators", "payments", "admins", "approvers"):
        server.group(name)


def sign_in(password: str = ADA, name: str = "ada", browser: Client | None = None) -> HttpResponse:
    answer: HttpResponse = (browser or Client()).post(LOGIN, {"login": name, "password": password}, secure=True)
    return answer


def is_in(browser: Client) -> bool:
    return bool(browser.get("/dashboard/log/", secure=True).status_code == 200)


def refused(answer: HttpResponse, why: str, status: int = 200) -> None:
    assert (answer.status_code, why in answer.content.decode()) == (status, True), answer.content.decode()
    assert ADA not in answer.content.decode()


WRONG = "are not correct"


# --- who gets in, and as what


def test_a_member_gets_in_with_the_roles_of_the_groups(company: Slapd) -> None:
    browser = Client()
    assert b"Example Inc." in browser.get(LOGIN, secure=True).content
    assert sign_in(browser=browser)["Location"] == "/dashboard/"
    assert is_in(browser)
    user = Identity.objects.get(issuer="ldap:company:entryuuid").user
    assert (user.username, [group.name for group in user.groups.all()], user.has_usable_password()) == ("company-ada", ["operator"], False)
    (event,) = Event.objects.filter(type="account.changed", subject="company-ada")
    assert json.loads(bytes(event.body))["data"]["by"] == "LDAP"
    sign_in(name="ADA")
    assert Identity.objects.count() == 1


@pytest.mark.parametrize("change", [{}, {"identifier": "dn"}, {"group_base": ""}], ids=["member", "dn", "memberOf"])
def test_whatever_is_in_somebodys_name(company: Slapd, said: dict[str, Any], settings: Any, change: dict[str, str]) -> None:
    settings.LDAP = directory_settings.parse(json.dumps({**said, **change}))
    browser = Client()
    sign_in(name="odd", browser=browser)
    assert is_in(browser)


def test_groups_are_followed_at_each_sign_in(company: Slapd) -> None:
    browser = Client()
    sign_in(browser=browser)
    company.group("operators")
    company.group("payments", f"uid=ada,{PEOPLE}")
    sign_in()
    user = User.objects.get(username="company-ada")
    assert [group.name for group in user.groups.all()] == ["requester"]
    assert list(Ownership.objects.filter(user=user).values_list("owner", flat=True)) == ["payments"]
    company.group("payments")
    refused(sign_in(), "None of your groups has a role here", 403)
    assert not user.groups.exists()
    assert not is_in(browser)
    company.group("operators", f"uid=ada,{PEOPLE}")
    assert sign_in().status_code == 302
    assert is_in(browser)


def test_without_a_group_that_has_a_role_there_is_no_account(company: Slapd) -> None:
    company.group("operators")
    refused(sign_in(), "None of your groups has a role here", 403)
    company.group("admins", f"uid=ada,{PEOPLE}")
    company.group("approvers", f"uid=ada,{PEOPLE}")
    refused(sign_in(), "Your groups cannot be followed here", 403)
    assert not Identity.objects.exists()


def test_somebody_is_the_entry_and_not_its_name(company: Slapd) -> None:
    entry = company.person("bob", ADA)
    company.group("operators", entry)
    sign_in(name="bob")
    company.master.rename_s(entry, "uid=robert")
    company.group("operators", f"uid=robert,{PEOPLE}")
    assert sign_in(name="robert").status_code == 302
    assert Identity.objects.get().user.username == "company-bob"
    company.group("operators", company.person("bob", ADA))
    assert sign_in(name="bob").status_code == 302
    assert Identity.objects.count() == 2, "who is called bob now is somebody else"
    company.master.delete_s(f"uid=robert,{PEOPLE}")
    company.master.delete_s(entry)


def test_an_account_that_was_closed_stays_closed(company: Slapd) -> None:
    sign_in()
    accounts.set_access("company-ada", accounts.Access([Role.OPERATOR], active=False), by="root", why="left", now=datetime.now(UTC))
    refused(sign_in(), "This account is closed", 403)


def test_a_second_factor_is_asked_for_as_of_others(company: Slapd) -> None:
    sign_in()
    Authenticator.objects.create(user=User.objects.get(username="company-ada"), type="totp", data={"secret": "x"})
    browser = Client()
    assert sign_in(browser=browser)["Location"].startswith("/dashboard/account/authenticate/")
    assert not is_in(browser)


def test_a_password_that_is_kept_elsewhere_is_not_changed_here(company: Slapd) -> None:
    browser = Client()
    sign_in(browser=browser)
    assert browser.get("/dashboard/account/password/", secure=True).status_code == 403
    assert b"/account/password/" not in browser.get("/dashboard/account/", secure=True).content


# --- who does not


def test_a_wrong_password_and_an_unknown_name_are_told_alike(company: Slapd) -> None:
    refused(sign_in("wrong"), WRONG)
    refused(sign_in(name="nobody"), WRONG)
    assert not Identity.objects.exists()


@pytest.mark.parametrize("password", ["", "\0", f"{ADA}\0"])
def test_an_empty_password_never_reaches_the_directory(company: Slapd, settings: Any, password: str) -> None:
    assert directory.person(settings.LDAP, "ada", password) is None
    assert sign_in(password).status_code == 200


@pytest.mark.parametrize("name", ["*", "a*", "*)(uid=*", "ada)(objectClass=*", "ada)", "\\61da", "a\u00adda", "ａda", "a" * 500, "(", ""])
def test_no_name_finds_an_entry_that_has_another(company: Slapd, settings: Any, name: str) -> None:
    assert directory.person(settings.LDAP, name, ADA) is None


def test_a_local_account_of_that_name_is_never_taken_over(company: Slapd, settings: Any) -> None:
    access = accounts.Access([Role.ADMINISTRATOR])
    accounts.create("Ada", access, by="test", why="", now=datetime.now(UTC), password="a password of here")
    refused(sign_in(), WRONG)
    settings.LDAP = replace(settings.LDAP, server=Server("127.0.0.1", slapd.free_port(), "", ""))
    refused(sign_in("mistyped"), WRONG)
    browser = Client()
    sign_in("a password of here", browser=browser)
    assert is_in(browser)
    assert not Identity.objects.exists()


def test_who_guesses_locks_himself_out(company: Slapd) -> None:
    for name in ("ada", "ADA", "ada", "Ada", "ada"):
        refused(sign_in("wrong", name), WRONG)
    refused(sign_in(), "Too many failed login attempts")


def test_an_entry_that_is_elsewhere_is_nobody(company: Slapd, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    below = replace(settings.LDAP, base=f"ou=a,{PEOPLE}")
    assert directory.person(below, "twin", ADA)
    real = directory._found

    def lying(speaking: Any, base: str, *more: Any, **most: Any) -> Any:
        return real(speaking, PEOPLE if base == below.base else base, *more, **most)

    monkeypatch.setattr(directory, "_found", lying)
    assert directory.person(below, "ada", ADA) is None


# --- the way there


@pytest.mark.parametrize("tls", ["tls", "starttls", ""])
def test_by_tls_and_on_this_host_without(company: Slapd, settings: Any, files: Pair, tls: str) -> None:
    port = company.secure if tls == "tls" else company.plain
    settings.LDAP = replace(settings.LDAP, server=Server("127.0.0.1", port, "", tls), ca_file=str(files.certificate))
    browser = Client()
    sign_in(browser=browser)
    assert is_in(browser)


def listening(stack: ExitStack, says: bytes = b"", first: int = 0) -> int:
    """The port of a server that says this to everybody, once it heard `first` bytes, and then nothing more."""
    found = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def serve() -> None:
        with ExitStack() as held, suppress(OSError):
            while True:
                visitor = held.enter_context(found.accept()[0])
                if first:
                    visitor.recv(first)
                visitor.sendall(says)

    thread = threading.Thread(target=serve)
    thread.start()
    stack.callback(thread.join)
    stack.callback(found.shutdown, socket.SHUT_RDWR)
    return int(found.getsockname()[1])


AGREED = b"\x30\x84\x00\x00\x00\x10\x02\x01\x01\x78\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"  # as Active Directory writes it
At = Callable[[Slapd, ExitStack, Directory], Directory]


def at(tls: str, says: bytes = b"", first: int = 0) -> At:
    return lambda server, stack, now: replace(now, server=Server("127.0.0.1", listening(stack, says, first), "", tls))


HUNG: dict[str, tuple[At, str]] = {
    "silent": (at(""), "did not answer within"),
    "silent in TLS": (at("tls"), "cannot be reached"),
    "silent to StartTLS": (at("starttls"), "cannot be reached"),
    "silent after StartTLS": (at("starttls", AGREED, 1), "cannot be reached"),
    "silent in a message": (at("", b"\x30\x20\x02\x01\x01", 1), "did not answer within"),
    "endless": (at("", b"\x30\x84\x7f\xff\xff\xff" + b"x" * 300_000, 1), "did not answer within"),
}  # fmt: skip
UNUSABLE: dict[str, tuple[At, str]] = {
    **HUNG,
    "down": (lambda server, stack, now: replace(now, server=Server("127.0.0.1", slapd.free_port(), "", "")), "cannot be reached"),
    "no socket": (lambda server, stack, now: replace(now, server=Server("", 0, "/nowhere", "")), "cannot be reached"),
    "no LDAP": (at("", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, 1), "ended the connection"),
    "no LDAP to StartTLS": (at("starttls", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9, 1), "does not speak LDAP"),
    "StartTLS refused": (at("starttls", AGREED.replace(b"\x0a\x01\x00", b"\x0a\x01\x02"), 1), "refuses StartTLS"),
    "unknown root": (lambda server, stack, now: replace(now, server=Server("127.0.0.1", server.secure, "", "tls")), "ca_file"),
    "another's certificate": (
        lambda server, stack, now: replace(now, server=Server("localhost", server.secure, "", "tls")), "certificate is not believed"
    ),
    "reader refused": (lambda server, stack, now: replace(now, bind_password="x"), "it refuses bind_dn"),
    "no base": (lambda server, stack, now: replace(now, base=f"ou=x,{PEOPLE}"), "base or group_base is not there"),
    "no filter": (lambda server, stack, now: replace(now, filter="(&&)"), "does not understand filter"),
    "no identifier": (lambda server, stack, now: replace(now, identifier="employeeNumber"), "has no single employeeNumber"),
}  # fmt: skip


@pytest.mark.parametrize("how", UNUSABLE)
def test_everybody_else_still_gets_in(
    company: Slapd, settings: Any, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, files: Pair
) -> None:
    if how in HUNG:
        monkeypatch.setattr(directory_connection, "WHOLE", 0.15)
    make, advice = UNUSABLE[how]
    with ExitStack() as stack:
        believed = str(files.certificate) if how == "another's certificate" else ""
        settings.LDAP = make(company, stack, replace(settings.LDAP, ca_file=believed))
        with caplog.at_level(logging.ERROR):
            answer = sign_in()
        refused(answer, "The directory cannot be asked at the moment", 503)
        (line,) = [record for record in caplog.records if record.name == "dashboard.directory_sign_in"]
        assert advice in line.getMessage()
        assert not any(secret in f"{caplog.text}{line.__dict__}{answer.content!r}" for secret in (ADA, READER_PASSWORD))
        assert "ldap" not in answer.content.decode().lower()
        local = Client()
        assert sign_in(ROOT, "root", local).status_code == 302
        assert is_in(local)


def test_a_name_that_is_not_resolved_costs_no_more_time(
    company: Slapd, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name_server_is_back = threading.Event()
    settings.LDAP = replace(settings.LDAP, server=Server("ldap.invalid", 636, "", "tls"))
    monkeypatch.setattr(directory_connection, "WHOLE", 0.15)
    monkeypatch.setattr(directory_connection, "_addresses", lambda server: name_server_is_back.wait(60) and [])
    try:
        refused(sign_in(), "The directory cannot be asked at the moment", 503)
    finally:
        name_server_is_back.set()
    assert "its name is not resolved in time" in caplog.text


def test_a_referral_is_not_followed(company: Slapd, settings: Any) -> None:
    """Whoever may write an entry could have the passwords sent anywhere. What is elsewhere is not found; whoever is here gets in."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, company.referring(f"ou=elsewhere,{PEOPLE}", elsewhere) as entry:
        elsewhere.setblocking(False)
        assert sign_in().status_code == 302
        refused(sign_in(name="eve"), WRONG)
        for base in (entry, f"ou=below,{entry}"):
            settings.LDAP = replace(settings.LDAP, base=base)
            refused(sign_in(), "The directory cannot be asked at the moment", 503)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_two_entries_of_one_name_are_nobody(company: Slapd, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    refused(sign_in(name="twin"), "The directory cannot be asked at the moment", 503)
    assert f"uid=twin,ou=a,{PEOPLE} and uid=twin,ou=b,{PEOPLE}" in caplog.text


def test_an_outage_is_nobodys_failure_and_holds_few_threads(company: Slapd, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    held = [directory._slots.acquire(blocking=False) for _ in range(directory.AT_ONCE)]
    try:
        for _ in range(6):
            refused(sign_in(), "The directory cannot be asked at the moment", 503)
        assert "sign-ins wait for it already" in caplog.text
    finally:
        for _ in held:
            directory._slots.release()
    assert sign_in().status_code == 302


def test_without_the_setting_there_is_no_such_way(settings: Any, company: Slapd) -> None:
    settings.LDAP = None
    refused(sign_in(), WRONG)


# --- the setting


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"url": "http://ldap.example"}, "url: .* ldaps://"),
        ({"url": "ldap://user@ldap.example"}, "url: "),
        ({"url": "ldaps://"}, "url: "),
        ({"url": "ldaps://ldap.example:0"}, "url: "),
        ({"url": "ldapi://run"}, "url: "),
        ({"ca_file": "/dev/null"}, "ca_file: it cannot be read as certificates"),
        ({"base": ""}, "base: "),
        ({"base": "people"}, "'people' is no distinguished name"),
        ({"bind_dn": ""}, "both bind_dn and bind_password_file"),
        ({"bind_dn": "x"}, "'x' is no distinguished name"),
        ({"bind_password_file": "/nowhere"}, "bind_password_file: it cannot be read"),
        ({"filter": "objectClass=*"}, "filter: "),
        ({"filter": "(a=b"}, "filter: "),
        ({"login": "uid)(x"}, "login: "),
        ({"identifier": ""}, "identifier: "),
        ({"group_member": "member)(x"}, "group_member: "),
        ({"roles": {"operators": ["operator"]}}, "'operators' is no distinguished name"),
        ({"roles": {GROUPS: [], GROUPS.upper(): ["operator"]}}, "is there twice"),
        ({"roles": {GROUPS: ["root"]}}, r"'root' .* of requester"),
        ({"tls": False}, ".tls. not known"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(said: dict[str, Any], change: dict[str, Any], wrong: str) -> None:
    assert READER_PASSWORD not in repr(directory_settings.parse(json.dumps(said)))
    with pytest.raises(ValueError, match=wrong):
        directory_settings.parse(json.dumps({**said, **change}))


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("ldaps://ldap.example", Server("ldap.example", 636, "", "tls")),
        ("ldap://ldap.example", Server("ldap.example", 389, "", "starttls")),
        ("ldap://localhost.example:3389", Server("localhost.example", 3389, "", "starttls")),
        ("ldap://localhost", Server("localhost", 389, "", "")),
        ("ldap://[::1]:3389/", Server("::1", 3389, "", "")),
        ("ldapi://%2Frun%2Fldapi", Server("", 0, "/run/ldapi", "")),
    ],
)
def test_no_password_can_be_had_in_the_clear_from_a_network(said: dict[str, Any], url: str, server: Server) -> None:
    assert directory_settings.parse(json.dumps({**said, "url": url})).server == server
