"""Sign-in through a real identity provider on this machine: who gets in as what, and nobody by an answer that is not right."""

from __future__ import annotations

import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from joserfc.jwk import ECKey

from ca import jwks
from dashboard import accounts, identity_settings, oidc, oidc_settings
from dashboard.models import Identity, Ownership
from dashboard.roles import Role
from eventlog.models import Event
from tests.jwt_issuer import part, signed

from .tls import Pair, pair

pytestmark = pytest.mark.django_db
BEGIN, DONE, SECRET = "/dashboard/login/company/", "/dashboard/login/company/done/", "s3cret"
ROLES = {"ca-operators": ["operator"], "ca-admins": ["administrator"], "ca-approvers": ["approver"], "payments": ["requester"]}
KEY = ECKey.generate_key("P-256")


@dataclass
class IdP:
    """An identity provider. `person` are claims of whoever sits at its login page; `lie` changes an ID token before it is signed."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "preferred_username": "ada", "groups": ["ca-operators"]})
    lie: Callable[[dict[str, Any]], Any] = lambda claims: None
    sign: Callable[[dict[str, Any]], str] = lambda claims: signed({"alg": "ES256", "kid": "k"}, claims, KEY)
    config: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    drip: bool = False
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def authorize(self, url: str) -> str:
        """What the person's browser gets there: the way back, with a code."""
        assert url.startswith(f"{self.url}/authorize?")
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (query["response_type"], query["client_id"], query["code_challenge_method"]) == ("code", "quicklime", "S256")
        assert "openid" in query["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        back = urlsplit(query["redirect_uri"])
        return f"{back.path}?code={code}&state={query['state']}"

    def token(self, form: dict[str, str]) -> tuple[int, bytes]:
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        fits = asked is not None and challenge == asked["code_challenge"] and form["redirect_uri"] == asked["redirect_uri"]
        if not fits or form["client_secret"] != SECRET:
            return 400, b'{"error": "invalid_grant"}'
        now = int(time.time())
        claims = {"iss": self.url, "aud": "quicklime", "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.person}
        self.lie(claims)
        return 200, json.dumps({"access_token": "x", "token_type": "Bearer", "id_token": self.sign(claims)}).encode()

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(path)
        if path == "/token":
            return self.token(form)
        if path == "/jwks":
            return 200, json.dumps({"keys": [{**KEY.as_dict(private=False), "kid": "k"}]}).encode()
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
        return 200, json.dumps({"issuer": self.url, **{name: f"{self.url}/{at}" for name, at in names.items()}, **self.config}).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("idp"))


@pytest.fixture(scope="module")
def server(files: Pair) -> Iterator[list[IdP]]:
    """A server that answers as the provider in the list."""
    current: list[IdP] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (idp,) = current
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            status, answer = idp.answer(self.path, {name: values[0] for name, values in parse_qs(body).items()})
            self.send_response(status if idp.status == 200 else idp.status)
            self.send_header("Location", f"{idp.url}/elsewhere")
            self.end_headers()
            try:
                while idp.drip:
                    self.wfile.write(b" ")
                    time.sleep(0.01)
                self.wfile.write(answer)
            except OSError:
                pass

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    current.append(IdP(f"https://127.0.0.1:{listening.server_port}"))
    yield current
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def idp(server: list[IdP], files: Pair, settings: Any, tmp_path: Path) -> IdP:
    server[:] = [IdP(server[0].url)]
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    said = {
        "name": "company", "title": "Company login", "issuer": server[0].url, "client_id": "quicklime", "ca_file": str(files.certificate),
        "client_secret_file": str(tmp_path / "secret"), "algorithms": ["ES256"], "groups": "groups", "roles": ROLES,
        "owners": {"payments": ["payments"]},
    }  # fmt: skip
    settings.OIDC, settings.PUBLIC_URL = oidc_settings.parse(json.dumps(said)), "https://testserver"
    oidc._endpoints.cache_clear()
    jwks.known.cache_clear()
    accounts.create(
        "root", accounts.Access([Role.ADMINISTRATOR]), by="test", why="", now=datetime.now(UTC), password="correct horse battery"
    )
    return server[0]


def sign_in(idp: IdP, browser: Client | None = None, next_url: str = "") -> HttpResponse:
    """As a browser does: there, back without its strict cookies, and once more with them."""
    browser = browser or Client()
    there = browser.get(BEGIN, {"next": next_url}, secure=True)
    assert there.status_code == 302, there.content
    back = idp.authorize(there["Location"])
    bounced = Client().get(back, secure=True)
    assert b'http-equiv="refresh"' in bounced.content
    answer: HttpResponse = browser.get(f"{back}&again=1", secure=True)
    return answer


def refused(answer: HttpResponse, why: str) -> None:
    assert answer.status_code == 403
    assert why in answer.content.decode()
    assert "sign in with a password" in answer.content.decode()
    assert "s3cret" not in answer.content.decode()


# --- who gets in, and as what


def test_a_member_gets_in_with_the_roles_of_the_groups(idp: IdP) -> None:
    browser = Client()
    assert b"Company login" in browser.get("/dashboard/login/", secure=True).content
    answer = sign_in(idp, browser, "/dashboard/log/")
    assert (answer.status_code, answer["Location"]) == (302, "/dashboard/log/")
    assert browser.get("/dashboard/log/", secure=True).status_code == 200
    user = Identity.objects.get(issuer=idp.url, subject="u-1").user
    assert (user.username, [group.name for group in user.groups.all()], user.has_usable_password()) == ("company-ada", ["operator"], False)
    (event,) = Event.objects.filter(type="account.changed", subject="company-ada")
    assert json.loads(bytes(event.body))["data"]["by"] == "OpenID Connect"


def test_groups_are_followed_at_each_sign_in(idp: IdP) -> None:
    sign_in(idp)
    idp.person["groups"] = ["payments", "somebody-elses"]
    browser = Client()
    sign_in(idp, browser)
    user = User.objects.get(username="company-ada")
    assert [group.name for group in user.groups.all()] == ["requester"]
    assert list(Ownership.objects.filter(user=user).values_list("owner", flat=True)) == ["payments"]
    idp.person["groups"] = []
    refused(sign_in(idp), "None of your groups has a role here")
    assert browser.get("/dashboard/log/", secure=True).status_code == 403
    assert User.objects.filter(username__startswith="company").count() == 1


def test_somebody_is_issuer_and_subject_and_neither_name_nor_mail(idp: IdP) -> None:
    sign_in(idp)
    idp.person |= {"preferred_username": "grace", "email": "new@example.org"}
    sign_in(idp)
    assert Identity.objects.count() == 1
    idp.person |= {"sub": "u-2", "preferred_username": "ada", "email": "root@example.org"}
    sign_in(idp)
    first, second = Identity.objects.order_by("subject")
    assert (first.user.username, first.user_id != second.user_id) == ("company-ada", True)
    assert second.user.username.startswith("company-ada-")


@pytest.mark.parametrize("name", ["root", "<script>alert(1)</script>", "", None, 7, "x" * 500, "a b", "\u202eada"])
def test_no_name_makes_anybody_somebody_else(idp: IdP, name: Any) -> None:
    idp.person["preferred_username"] = name
    assert sign_in(idp).status_code == 302
    user = Identity.objects.get().user
    assert user.username.startswith("company-")
    assert len(user.username) <= 150
    assert [group.name for group in User.objects.get(username="root").groups.all()] == ["administrator"]


@pytest.mark.parametrize("groups", [None, "ca-operators", [], ["others"], [["ca-operators"]], {"ca-operators": True}])
def test_without_a_group_that_has_a_role_there_is_no_account(idp: IdP, groups: Any) -> None:
    idp.person["groups"] = groups
    refused(sign_in(idp), "None of your groups has a role here")
    assert not Identity.objects.exists()


def test_nobody_becomes_what_nobody_may_be(idp: IdP) -> None:
    idp.person["groups"] = ["ca-admins", "ca-approvers"]
    refused(sign_in(idp), "Your groups cannot be followed here")
    assert not Identity.objects.exists()


def test_an_account_that_was_closed_stays_closed(idp: IdP) -> None:
    sign_in(idp)
    accounts.set_access("company-ada", accounts.Access([Role.OPERATOR], active=False), by="root", why="left", now=datetime.now(UTC))
    refused(sign_in(idp), "This account is closed")
    assert not User.objects.get(username="company-ada").is_active


# --- answers that are not right


def _alg_none(claims: dict[str, Any]) -> str:
    return f"{part({'alg': 'none', 'kid': 'k'})}.{part(claims)}.AA"


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another nonce": lambda claims: claims.update(nonce="x"),
    "no nonce": lambda claims: claims.pop("nonce"),
    "another client's": lambda claims: claims.update(aud="other"),
    "several clients'": lambda claims: claims.update(aud=["other", "quicklime"]),
    "given to another": lambda claims: claims.update(azp="other"),
    "another issuer": lambda claims: claims.update(iss="https://evil.example"),
    "expired": lambda claims: claims.update(exp=int(time.time()) - 1),
    "no subject": lambda claims: claims.pop("sub"),
    "subject as number": lambda claims: claims.update(sub=1),
    "a long subject": lambda claims: claims.update(sub="x" * 256),
    "an odd subject": lambda claims: claims.update(sub="a\nb"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_provider_that_says_something_else(idp: IdP, lie: str) -> None:
    idp.lie = LIES[lie]
    refused(sign_in(idp), "is not valid here")
    assert not Identity.objects.exists()


@pytest.mark.parametrize("sign", [
    _alg_none, lambda claims: signed({"alg": "ES256", "kid": "k"}, claims, ECKey.generate_key("P-256")), lambda claims: "no JWT",
    lambda claims: signed({"alg": "ES256", "kid": "other"}, claims, KEY),
])  # fmt: skip
def test_a_token_that_it_did_not_sign(idp: IdP, sign: Callable[[dict[str, Any]], str]) -> None:
    idp.sign = sign
    refused(sign_in(idp), "is not valid here")
    assert not Identity.objects.exists()


def test_an_answer_counts_once_and_in_its_own_browser(idp: IdP) -> None:
    mine, thiefs = Client(), Client()
    back = idp.authorize(mine.get(BEGIN, secure=True)["Location"])
    thiefs.get(BEGIN, secure=True)
    refused(thiefs.get(back, secure=True), "did not begin in this browser")
    refused(Client().get(f"{back}&again=1", secure=True), "did not begin in this browser")
    assert mine.get(back, secure=True).status_code == 302
    refused(mine.get(f"{back}&again=1", secure=True), "did not begin in this browser")


@pytest.mark.parametrize(
    "query", ["", "?error=access_denied&error_description=<b>x</b>", "?code=&state=x", "?code=x&state=%00", "?state=é"]
)
def test_odd_ways_back(idp: IdP, query: str) -> None:
    browser = Client()
    browser.get(BEGIN, secure=True)
    answer = browser.get(f"{DONE}{query}", secure=True)
    refused(answer, "sign in with a password")
    assert b"<b>x" not in answer.content


def test_a_code_that_the_provider_does_not_know(idp: IdP) -> None:
    browser = Client()
    there = browser.get(BEGIN, secure=True)["Location"]
    state = parse_qs(urlsplit(there).query)["state"][0]
    refused(browser.get(DONE, {"code": "made up", "state": state}, secure=True), "did not confirm this sign-in")


@pytest.mark.parametrize("target", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)"])
def test_it_leads_nowhere_else(idp: IdP, target: str) -> None:
    assert sign_in(idp, next_url=target)["Location"] == "/dashboard/"


# --- a provider that is down, slow or lies about itself


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": 503}, "does not answer"),
        ({"status": 302}, "does not answer"),
        ({"drip": True}, "does not answer"),
        ({"config": {"issuer": "https://evil.example"}}, "is not that of the issuer"),
        ({"config": {"token_endpoint": "http://127.0.0.1/token"}}, "is not that of the issuer"),
        ({"config": {"jwks_uri": 7}}, "is not that of the issuer"),
        ({"url": "https://127.0.0.1:9"}, "does not answer"),
    ],
)
def test_everybody_else_still_gets_in(idp: IdP, change: dict[str, Any], why: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(jwks, "WHOLE", 0.1)
    if "url" in change:
        settings.OIDC = replace(settings.OIDC, issuer=change["url"])
    for name, value in change.items():
        setattr(idp, "_" if name == "url" else name, value)
    refused(Client().get(BEGIN, secure=True), why)
    local = Client()
    answer = local.post("/dashboard/login/", {"login": "root", "password": "correct horse battery"}, secure=True)
    assert answer.status_code == 302
    assert local.get("/dashboard/log/", secure=True).status_code == 200


def test_one_that_fails_in_the_middle(idp: IdP) -> None:
    browser = Client()
    back = idp.authorize(browser.get(BEGIN, secure=True)["Location"])
    idp.status = 500
    refused(browser.get(back, secure=True), "did not confirm this sign-in")


def test_without_the_setting_there_is_no_such_way(settings: Any) -> None:
    settings.OIDC = None
    assert Client().get(BEGIN, secure=True).status_code == 404
    assert Client().get(DONE, secure=True).status_code == 404
    assert b"Company login" not in Client().get("/dashboard/login/", secure=True).content


# --- the setting


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"issuer": "http://idp.example"}, "issuer: .* https"),
        ({"client_secret_file": "/nowhere"}, "client_secret_file: it cannot be read"),
        ({"client_secret_file": "secret"}, "client_secret_file: .*absolute"),
        ({"algorithms": ["none"]}, r"algorithms\[0\]"),
        ({"algorithms": []}, "algorithms: give at least one"),
        ({"roles": {"x": ["root"]}}, r"roles.x\[0\]: 'root' .* of requester"),
        ({"roles": []}, "roles: give an object"),
        ({"extra": 1}, ".extra. not known"),
        ({"name": "Big Co"}, "name: "),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    (tmp_path / "s").write_text("hunter2")
    right = {
        "name": "c", "title": "C", "issuer": "https://idp.example", "client_id": "q", "client_secret_file": str(tmp_path / "s"),
        "algorithms": ["RS256"], "groups": "groups", "roles": {},
    }  # fmt: skip
    assert "hunter2" not in repr(oidc_settings.parse(json.dumps(right)))
    with pytest.raises(ValueError, match=said):
        oidc_settings.parse(json.dumps({**right, **change}))
    with pytest.raises(ValueError, match="a member is there twice"):
        oidc_settings.parse(json.dumps(right).replace('"roles": {}', '"roles": {}, "roles": {"x": ["operator"]}'))


def test_its_roles_are_the_roles() -> None:
    assert tuple(Role) == identity_settings.ROLES
