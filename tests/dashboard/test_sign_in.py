"""Signing in: by password and second factor; who guesses locks out himself; and what the cookies are."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client
from django.urls import NoReverseMatch, reverse
from fido2 import cbor
from fido2.cose import ES256

from dashboard import accounts
from dashboard.models import Identity
from dashboard.roles import Role
from quicklime_site import settings as real
from tests.material import new_key

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
LOGIN, ACCOUNT, HOME = "/dashboard/login/", "/dashboard/account/", "/dashboard/"


@pytest.fixture(autouse=True)
def _fresh_counts() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def ada(db: None) -> User:
    access = accounts.Access([Role.ADMINISTRATOR])
    return accounts.create("ada", access, by="test", why="", now=datetime.now(UTC), password=PASSWORD)


class Browser(Client):
    """One at an address of its own, on HTTPS."""

    def __init__(self, address: str = "203.0.113.1", **more: Any) -> None:
        super().__init__(REMOTE_ADDR=address, **more)

    def request(self, **request: Any) -> Any:
        return super().request(**{**request, "wsgi.url_scheme": "https", "SERVER_PORT": "443"})

    def sign_in(self, password: str = PASSWORD, name: str = "ada", **more: str) -> HttpResponse:
        answer: HttpResponse = self.post(LOGIN, {"login": name, "password": password, **more})
        return answer

    def say_it_again(self) -> None:
        """Show the password before something about the account is changed."""
        answer = self.post(f"{ACCOUNT}again/", {"password": PASSWORD, "next": HOME})
        assert answer.status_code == 302, words(answer)

    @property
    def is_in(self) -> bool:
        return bool(self.get("/dashboard/log/").status_code == 200)


def words(answer: HttpResponse) -> str:
    return answer.content.decode()


# --- by password


def test_a_password_leads_in_and_the_session_is_a_new_one(ada: User) -> None:
    browser = Browser()
    browser.get(LOGIN)
    browser.cookies["sessionid"] = "x" * 32  # planted
    answer = browser.sign_in(next="/dashboard/tokens/")
    assert (answer.status_code, answer["Location"]) == (302, "/dashboard/tokens/")
    assert browser.cookies["sessionid"].value != "x" * 32
    assert browser.is_in


def test_its_cookies_are_for_this_host_and_no_script(ada: User) -> None:
    browser = Browser()
    browser.get(LOGIN)
    browser.sign_in()
    for name in ("sessionid", "csrftoken"):
        cookie = browser.cookies[name]
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
            True,
            True,
            "Strict",
            "/",
            "",
        )
    assert browser.cookies["sessionid"]["expires"] == "", "it ends with the browser"
    assert (real.SESSION_COOKIE_NAME, real.CSRF_COOKIE_NAME) == ("__Host-sessionid", "__Host-csrftoken")


@pytest.mark.parametrize("name", ["account_signup", "account_reset_password", "account_email", "account_set_password"])
def test_what_is_not_used_is_not_there(name: str) -> None:
    with pytest.raises(NoReverseMatch):
        reverse(name)


@pytest.mark.parametrize("target", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)", "/\\elsewhere.example"])
def test_it_leads_nowhere_else(ada: User, target: str) -> None:
    assert Browser().sign_in(next=target)["Location"] == HOME


def test_a_closed_account_and_an_unknown_one_are_told_alike(ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(is_active=False)
    closed, unknown = Browser().sign_in("wrong"), Browser().sign_in("wrong", name="bob")
    assert closed.status_code == unknown.status_code == 200
    assert "are not correct" in words(closed)
    assert "are not correct" in words(unknown)
    browser = Browser()
    browser.sign_in()
    assert not browser.is_in


def test_who_guesses_locks_out_himself_and_nobody_else(ada: User) -> None:
    guesser, owner = Browser("203.0.113.66"), Browser("198.51.100.2")
    for _ in range(5):
        assert "are not correct" in words(guesser.sign_in("wrong"))
    refused = guesser.sign_in()
    assert "Too many failed login attempts" in words(refused)
    assert not guesser.is_in
    assert owner.sign_in().status_code == 302
    assert owner.is_in


def test_a_forged_form_and_a_link_do_nothing(ada: User) -> None:
    browser = Browser(enforce_csrf_checks=True)
    assert browser.sign_in().status_code == 403
    browser.force_login(ada)
    assert browser.get("/dashboard/logout/").status_code == 405
    assert browser.is_in


# --- by a second factor


def code_of(secret: str) -> str:
    value = totp.hotp_value(secret, next(iter(totp.yield_hotp_counters_from_time())))
    return str(totp.format_hotp_value(value))


def with_app(browser: Browser) -> str:
    """The secret of an authenticator app that the account has from now on."""
    assert browser.get(f"{ACCOUNT}totp/activate/")["Location"].startswith(f"{ACCOUNT}again/"), "a session alone is not enough"
    browser.say_it_again()
    browser.get(f"{ACCOUNT}totp/activate/")
    secret = str(browser.session["mfa.totp.secret"])
    answer = browser.post(f"{ACCOUNT}totp/activate/", {"code": code_of(secret)})
    assert answer.status_code == 302, words(answer)
    return secret


@pytest.fixture
def secret(ada: User) -> str:
    browser = Browser()
    browser.sign_in()
    found = with_app(browser)
    cache.clear()  # a code counts once, also the one that activated it
    return found


def test_a_password_alone_is_half_of_it(secret: str) -> None:
    browser = Browser()
    answer = browser.sign_in()
    assert answer["Location"].startswith(f"{ACCOUNT}authenticate/")
    assert not browser.is_in
    assert browser.get("/admin/").status_code == 302
    assert "Incorrect code" in words(browser.post(f"{ACCOUNT}authenticate/", {"code": "000000"}))
    assert not browser.is_in
    assert browser.post(f"{ACCOUNT}authenticate/", {"code": code_of(secret)}).status_code == 302
    assert browser.is_in


def test_a_code_counts_once(secret: str) -> None:
    code = code_of(secret)
    first, second = Browser(), Browser("203.0.113.2")
    for browser in (first, second):
        browser.sign_in()
        browser.post(f"{ACCOUNT}authenticate/", {"code": code})
    assert (first.is_in, second.is_in) == (True, False)


@pytest.fixture
def _asked_of_administrators(settings: Any) -> None:
    settings.SECOND_FACTOR = frozenset({"administrator", "approver"})


@pytest.mark.usefixtures("_asked_of_administrators")
def test_a_role_that_needs_a_factor_opens_nothing_before_there_is_one(ada: User) -> None:
    browser = Browser()
    browser.sign_in()
    for path in (HOME, "/dashboard/log/", "/dashboard/tokens/"):
        assert browser.get(path)["Location"] == ACCOUNT
    assert browser.get("/admin/", follow=True).redirect_chain[-1][0] == ACCOUNT
    assert browser.post("/admin/auth/user/create/", {"name": "eve"}).status_code == 302
    assert not User.objects.filter(username="eve").exists()
    assert "Your role needs a second factor" in words(browser.get(ACCOUNT))
    with_app(browser)
    assert browser.is_in
    assert "Your role needs" not in words(browser.get(ACCOUNT))
    Authenticator.objects.exclude(type="recovery_codes").delete()
    assert not browser.is_in, "recovery codes alone are no factor"


@pytest.mark.usefixtures("_asked_of_administrators")
def test_other_roles_need_none_and_a_security_key_is_one(key: SecurityKey, ada: User) -> None:
    browser = Browser()
    browser.force_login(ada)
    assert browser.is_in
    Authenticator.objects.all().delete()
    assert not browser.is_in
    accounts.create("root", accounts.Access([Role.ADMINISTRATOR]), by="test", why="", now=datetime.now(UTC))
    accounts.set_access("ada", accounts.Access([Role.AUDITOR]), by="test", why="", now=datetime.now(UTC))
    assert browser.is_in


@pytest.mark.usefixtures("_asked_of_administrators")
@pytest.mark.parametrize(("issuer", "password", "opens"), [
    ("https://idp.example.org", None, True),  # whose business it is
    ("https://idp.example.org", PASSWORD, False),  # there is another way in
    ("ldap:company:entryuuid", None, False),
])  # fmt: skip
def test_a_factor_of_the_identity_providers_counts(ada: User, issuer: str, password: str | None, opens: bool) -> None:
    ada.set_password(password)
    ada.save()
    Identity.objects.create(issuer=issuer, subject="x", user=ada)
    browser = Browser()
    browser.force_login(ada)
    assert browser.is_in is opens


def test_guessing_codes_is_slowed_down(secret: str) -> None:
    browser = Browser()
    browser.sign_in()
    answers = [words(browser.post(f"{ACCOUNT}authenticate/", {"code": f"{number:06}"})) for number in range(7)]
    assert "Too many failed" in answers[-1]
    browser.post(f"{ACCOUNT}authenticate/", {"code": code_of(secret)})
    assert not browser.is_in


def test_the_database_holds_no_secret(secret: str) -> None:
    stored = [json.dumps(data) for data in Authenticator.objects.values_list("data", flat=True)]
    assert stored
    assert not any(secret in text for text in stored)
    seeds = [data["seed"] for data in Authenticator.objects.filter(type="recovery_codes").values_list("data", flat=True)]
    assert all(seed.startswith("gAAAA") for seed in seeds), "recovery codes are sealed, too"


def test_a_recovery_code_counts_once(secret: str, ada: User) -> None:
    codes = Authenticator.objects.get(user=ada, type="recovery_codes").wrap().get_unused_codes()
    first, second = Browser(), Browser("203.0.113.2")
    for browser in (first, second):
        browser.sign_in()
        browser.post(f"{ACCOUNT}authenticate/", {"code": codes[0]})
    assert (first.is_in, second.is_in) == (True, False)


def test_a_factor_is_taken_away_only_by_who_shows_one_again(secret: str, ada: User) -> None:
    browser = Browser()
    browser.sign_in()
    browser.post(f"{ACCOUNT}authenticate/", {"code": code_of(secret)})
    assert browser.post(f"{ACCOUNT}totp/deactivate/")["Location"].startswith(f"{ACCOUNT}again/")
    assert Authenticator.objects.filter(user=ada, type="totp").exists()
    browser.say_it_again()
    browser.post(f"{ACCOUNT}totp/deactivate/")
    assert not Authenticator.objects.filter(user=ada).exists()


class SecurityKey:
    """An authenticator with one key for this site (WebAuthn level 2 §6)."""

    def __init__(self) -> None:
        self.key, self.id, self.count = new_key(), b"k" * 16, 0

    def _said(self, kind: str, options: dict[str, Any], origin: str) -> bytes:
        challenge = options["publicKey"]["challenge"]
        return json.dumps({"type": f"webauthn.{kind}", "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()

    def _data(self, flags: int) -> bytes:
        self.count += 1
        return sha256(b"testserver").digest() + bytes([flags]) + self.count.to_bytes(4)

    def made(self, options: dict[str, Any], origin: str = "https://testserver") -> str:
        cose = cbor.encode(dict(ES256.from_cryptography_key(self.key.public_key())))
        data = self._data(0x45) + b"\0" * 16 + len(self.id).to_bytes(2) + self.id + cose
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        return self._credential(clientDataJSON=self._said("create", options, origin), attestationObject=attestation)

    def shown(self, options: dict[str, Any], origin: str = "https://testserver", key: ec.EllipticCurvePrivateKey | None = None) -> str:
        said, data = self._said("get", options, origin), self._data(0x05)
        signature = (key or self.key).sign(data + sha256(said).digest(), ec.ECDSA(hashes.SHA256()))
        return self._credential(clientDataJSON=said, authenticatorData=data, signature=signature)

    def _credential(self, **response: bytes) -> str:
        coded = {name: b64(value) for name, value in response.items()}
        return json.dumps(
            {"id": b64(self.id), "rawId": b64(self.id), "type": "public-key", "response": coded, "clientExtensionResults": {}}
        )


def b64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def options_of(answer: HttpResponse) -> dict[str, Any]:
    """The data that the page hands to its script, which is no script."""
    text = words(answer).partition('<script id="js_data" type="application/json">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(text)
    return found.get("creation_options") or found["request_options"]


@pytest.fixture
def key(ada: User) -> SecurityKey:
    browser, made = Browser(), SecurityKey()
    browser.sign_in()
    browser.say_it_again()
    credential = made.made(options_of(browser.get(f"{ACCOUNT}webauthn/add/")))
    answer = browser.post(f"{ACCOUNT}webauthn/add/", {"name": "blue", "credential": credential})
    assert answer.status_code == 302, words(answer)
    return made


def test_a_security_key_opens(key: SecurityKey) -> None:
    browser = Browser()
    browser.sign_in()
    options = options_of(browser.get(f"{ACCOUNT}authenticate/"))
    answer = browser.post(f"{ACCOUNT}authenticate/", {"credential": key.shown(options)})
    assert answer.status_code == 302, words(answer)
    assert browser.is_in


@pytest.mark.parametrize("how", ["origin", "key", "challenge", "nonsense"])
def test_what_is_not_that_key_here_and_now_does_not(key: SecurityKey, how: str) -> None:
    browser = Browser()
    browser.sign_in()
    options = options_of(browser.get(f"{ACCOUNT}authenticate/"))
    shown = {
        "origin": lambda: key.shown(options, origin="https://testserver.evil.example"),
        "key": lambda: key.shown(options, key=new_key()),
        "challenge": lambda: key.shown({"publicKey": {"challenge": b64(b"x" * 32)}}),
        "nonsense": lambda: '{"id": 7}',
    }[how]()
    assert browser.post(f"{ACCOUNT}authenticate/", {"credential": shown}).status_code == 200
    assert not browser.is_in


# --- how the pages are made


@pytest.mark.parametrize(
    "path", ["", "totp/activate/", "webauthn/add/", "webauthn/", "recovery-codes/generate/", "password/", "authenticate/"]
)
def test_the_pages_have_our_look_and_no_inline_script(key: SecurityKey, path: str, ada: User) -> None:
    browser = Browser()
    browser.sign_in()
    if path != "authenticate/":
        options = options_of(browser.get(f"{ACCOUNT}authenticate/"))
        browser.post(f"{ACCOUNT}authenticate/", {"credential": key.shown(options)})
        browser.say_it_again()
    answer = browser.get(f"{ACCOUNT}{path}")
    assert answer.status_code == 200
    assert "dashboard/dashboard.css" in words(answer)
    assert "unsafe" not in answer["Content-Security-Policy"]
    scripts = [tag for tag in words(answer).split("<script")[1:] if "src=" not in tag[:200] and 'type="application/json"' not in tag[:200]]
    assert scripts == []
    assert "style=" not in words(answer)
    assert " onclick=" not in words(answer)
