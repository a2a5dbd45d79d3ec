"""The server's HTTP API, as a node uses it.

Owns TLS trust, proxies, time limits and the reading of answers. Must never send a token or a request to a server that the
pinned root does not vouch for; only `fetch_root` talks to an unverified one, and it sends nothing.
"""

from __future__ import annotations

import math
import os
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from .failures import Failure, Refused, Unreached, plain
from .store import Trust

WAIT = 25  # seconds that the server is asked to hold a request; less than what it grants and proxies bear
_TIMEOUT = httpx.Timeout(10, read=WAIT + 20)
_PEM = "application/pem-certificate-chain"
_PASSING = (401, 408, 425, 429)  # 4xx that speak of the moment or the token, not of what was asked
_ADVICE = {
    401: "give a token that is valid: --token-file, QUICKLIME_TOKEN or the file `token` in the state directory",
    409: "if this node's state is an old copy, `quicklime request --new`",
    403: "ask whoever made the token, or use another",
}


@dataclass(frozen=True)
class Issued:
    """A certificate as the server handed it out. `challenge`: base64."""

    serial: str
    pem: str
    chain: str
    challenge: str
    secret: str | None = field(repr=False)


@dataclass(frozen=True)
class CheckedIn:
    """What the server said of a certificate that was checked in. `replace_by`: it is to be renewed before then, or None."""

    status: str
    revoked_at: datetime | None
    replaced_by: str | None
    replace_by: datetime | None


class Server:
    """A connection to the trusted server, to be used in a with statement. `token` is sent where there is one."""

    def __init__(self, trust: Trust, token: str | None) -> None:
        self._url, self._token = trust.url, token
        self._client = _client(trust.url, _context(trust.root))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def submit(self, path: str, body: dict[str, Any], idempotency_key: str, patience: float) -> Issued:
        """POST a request and wait up to `patience` seconds for its certificate. Raises Failure: Refused for a no, with
        retry_after if it is not decided yet. Repeated with the same key and body, it is the same request; that is also how it
        is asked for again, as whoever renews by proof may have no token, which a look at requests/{id}/ would need."""
        until = time.monotonic() + patience
        while True:
            answer = self._post(path, body, {"Idempotency-Key": idempotency_key, **_preference(until - time.monotonic())})
            request = _members(answer)
            if request.get("status") in ("issued", "rejected"):
                break
            pause = max(1.0, _retry_after(answer) or 0)
            if time.monotonic() + pause > until:
                raise _undecided(request, pause)
            time.sleep(pause)
        if request["status"] == "rejected":
            raise Refused("the request was rejected", _problem(request.get("error")), stored=True)
        return _issued(request.get("certificate"))

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        """Where there is a proof, a token only adds to it: one that has expired must not be the end of every renewal."""
        try:
            return self._call("POST", path, headers, body)
        except Failure as failure:
            if failure.status not in (401, 403) or self._token is None or "proof" not in body:
                raise
        self._token = None
        return self._call("POST", path, headers, body)

    def revoke(self, serial: str, evidence: dict[str, str]) -> None:
        """POST certificates/{serial}/revoke/ with a reason and the secret or the proof. Raises Failure."""
        self._call("POST", f"certificates/{serial}/revoke/", json=evidence)

    def check_in(self, serial: str, word: dict[str, str | None]) -> CheckedIn:
        """POST certificates/{serial}/checkin/. Raises Failure."""
        return _checked_in(_members(self._call("POST", f"certificates/{serial}/checkin/", json=word)))

    def check(self) -> None:
        """Whether the server is reached and is who it should be. Raises Failure."""
        self._call("GET", "issuers/")

    def _call(self, method: str, path: str, headers: dict[str, str] | None = None, json: Any = None) -> httpx.Response:
        headers = {**(headers or {}), **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        try:
            answer = self._client.request(method, f"/api/v1/{path}", headers=headers, json=json)
        except httpx.HTTPError as error:
            raise _unreached(self._url, error) from None
        if not answer.is_success:
            raise _refusal(answer)
        return answer


def fetch_root(url: str, fingerprint: str) -> bytes:
    """GET roots/{sha256}/ from a server that nobody has vouched for yet. What comes is worth nothing until its hash is
    compared. At most 64 KiB. Raises Failure."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with _client(url, context) as client, client.stream("GET", f"/api/v1/roots/{fingerprint}/", headers={"Accept": _PEM}) as answer:
            return _at_most(65_536, answer)
    except httpx.HTTPError as error:
        raise _unreached(url, error) from None


def _at_most(size: int, answer: httpx.Response) -> bytes:
    if answer.status_code == 404:
        raise Failure("the server has no root with this fingerprint", "it answers 404", "compare the fingerprint with the operator's")
    if not answer.is_success:
        raise Failure("the root cannot be fetched", f"the server answers {answer.status_code}", "check the URL")
    body = b""
    for part in answer.iter_bytes():
        body += part
        if len(body) > size:
            raise Failure("the root cannot be fetched", "the answer is too long to be a certificate", "check the URL")
    return body


def checked_url(url: str) -> str:
    """`url` as a base: https, a host, no path. Raises Failure."""
    try:
        parts = urlsplit(url)
        plausible = parts.scheme == "https" and parts.hostname and (parts.port or 443) and not parts.username
    except ValueError:
        plausible = None
    if not plausible or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Failure(f"the URL {url!r}", "it is not of the form https://HOST[:PORT]", "give the address of the server's API")
    return f"https://{parts.netloc}"


def _context(root: str) -> ssl.SSLContext:
    """Trusts the pinned root, and a bundle only if the operator names one by SSL_CERT_FILE or SSL_CERT_DIR, as where a proxy
    opens TLS. The public authorities have no say about a private one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root)
    bundle, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if bundle or directory:
        try:
            context.load_verify_locations(bundle or None, directory or None)
        except OSError as error:
            raise Failure("SSL_CERT_FILE or SSL_CERT_DIR", f"it cannot be read ({error})", "correct or unset it") from None
    return context


def _client(url: str, context: ssl.SSLContext) -> httpx.Client:
    """Proxies come from the environment, as everywhere with httpx."""
    try:
        return httpx.Client(
            base_url=url, verify=context, timeout=_TIMEOUT, headers={"User-Agent": "quicklime", "Accept": "application/json"}
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:  # what httpx raises for a proxy that it cannot use
        raise Failure("the proxy settings", str(error), "correct HTTPS_PROXY or ALL_PROXY") from None


def _preference(seconds: float) -> dict[str, str]:
    """RFC 7240 §4.3, whole seconds; an odd fraction is rounded up, as a little more patience costs nobody anything."""
    return {"Prefer": f"wait={min(WAIT, math.ceil(seconds))}"} if seconds > 0 else {}


# --- answers


def _unreached(url: str, error: httpx.HTTPError) -> Unreached:
    why = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in why:
        do = "the address or the server is not the one that was trusted; if the CA has a new root, `quicklime trust` it"
        return Unreached(f"{url} is not trusted", why, do)
    return Unreached(f"{url} cannot be reached", why, "check the address, the network and HTTPS_PROXY")


def _refusal(answer: httpx.Response) -> Failure:
    """What a status other than 2xx means."""
    failure = _meant(answer)
    failure.status = answer.status_code
    return failure


def _meant(answer: httpx.Response) -> Failure:
    """Only an answer in the server's own form is its word; another may be a proxy's."""
    problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    status = answer.status_code
    if not problem or status >= 500 or status in _PASSING:
        why = _problem(_members(answer)) if problem else f"status {status}"
        return Failure("the server does not answer as it should", why, _ADVICE.get(status, ""), _retry_after(answer))
    # A request that was stored before it was rejected has a place, which the answer names.
    return Refused("the server refused", _problem(_members(answer)), _ADVICE.get(status, ""), stored="location" in answer.headers)


def _undecided(request: dict[str, Any], pause: float) -> Failure:
    why = "it awaits approval" if request.get("status") == "awaiting_approval" else "the server is still at it"
    return Failure("no certificate yet", why, "the agent will take it, or the same command again", pause)


def _members(answer: httpx.Response) -> dict[str, Any]:
    try:
        members = answer.json()
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise Failure("the server's answer is not understood", "it is no JSON object", "check that the URL is Quicklime's")
    return members


def _problem(problem: Any) -> str:
    """The words of a problem object (RFC 9457)."""
    if not isinstance(problem, dict):
        return "it says not why"
    return f"{problem.get('detail') or problem.get('title')} ({problem.get('code')})"


def _issued(certificate: Any) -> Issued:
    values = certificate if isinstance(certificate, dict) else {}
    texts = [values.get(name) for name in ("serial", "pem", "chain", "renewal_challenge")]
    secret = values.get("revocation_secret")
    if not all(isinstance(text, str) for text in texts) or not isinstance(secret, str | None):
        raise Failure("the server's answer is not understood", "it has no complete certificate in it", "check the versions of both")
    serial, pem, chain, challenge = map(str, texts)
    return Issued(serial, pem, chain, challenge, secret)


def _checked_in(values: dict[str, Any]) -> CheckedIn:
    """Members that an older server does not know are None."""
    status, replaced_by = values.get("status"), values.get("replaced_by")
    try:
        if not isinstance(status, str) or not isinstance(replaced_by, str | None):
            raise ValueError
        return CheckedIn(plain(status), _time(values.get("revoked_at")), replaced_by, _time(values.get("replace_by")))
    except ValueError:
        raise Failure(
            "the server's answer is not understood", "it does not say how the certificate is", "check the versions of both"
        ) from None


def _time(value: Any) -> datetime | None:
    """Raises ValueError."""
    if value is None:
        return None
    time = datetime.fromisoformat(value) if isinstance(value, str) else None
    if time is None or time.tzinfo is None:
        raise ValueError("a time with zone is missing")
    return time.astimezone(UTC)


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds, of either form (RFC 9110 §10.2.3); None without the header or if it is neither."""
    text = answer.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
