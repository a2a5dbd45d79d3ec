"""Quicklime's settings, read from the environment.

Owns every environment variable the server knows: its name, cast, default and the sentence shown when it is wrong.
Must never be imported by anything but `settings`; the rest of the project reads `django.conf.settings`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ca import jwt_issuers
from ca.profiles import CHANNELS, LEAF, PROFILES
from dashboard import addresses, directory_settings, identity_settings, oidc_settings
from dashboard.smtp import Server

from .logs import FORMATS, JSON

ROLES = ("web", "worker", "manage")
OCSP_SIGNERS = ("issuer", "delegated")
_SECRET = ("SECRET_KEY", "QUICKLIME_KEY_PASSPHRASE", "DATABASE_URL", "REDIS_URL", "EMAIL_URL", "QUICKLIME_WEBHOOK_URL")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_LONGEST_SOCKET = 100  # sun_path holds 108 bytes with its NUL (unix(7)); Redis adds a suffix while it starts
_ISSUER = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MAIL = {"smtp": ("", 25), "smtp+tls": ("starttls", 587), "smtps": ("tls", 465)}  # scheme → how it is protected, and its port
_STANDARD_HEADERS = ("authorization", "host", "x-forwarded-for", "cookie", "accept", "prefer", "content-type", "content-length", "referer")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class SettingError(Exception):
    """A setting has a value Quicklime cannot run with; the text names it, the value's fault and what would do."""


@dataclass(frozen=True)
class Variable:
    """One environment variable: `cast` turns its text into a value or raises ValueError saying why it cannot."""

    name: str
    cast: Callable[[str], Any]
    default: str
    help: str


def _zones(text: str) -> tuple[str, ...]:
    zones = _words(text)
    if not zones:
        raise ValueError("name at least one DNS zone, for example: internal")
    for zone in zones:
        if len(zone) > 253 or not all(_LABEL.fullmatch(label) for label in zone.split(".")):
            raise ValueError(f"{zone!r} is not a DNS zone (lower-case labels, no leading dot), for example: fleet.internal")
    return zones


def _trust_domains(text: str) -> tuple[str, ...]:
    return _zones(text) if text.strip() else ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in re.split(r"[,\s]+", text) if word))


def _ip_ranges(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(word) for word in _words(text))


def _path(text: str) -> Path:
    if not text:
        raise ValueError("name a directory or file")
    return Path(text).absolute()


def _optional_path(text: str) -> Path | None:
    return Path(text).absolute() if text else None


def _served_path(text: str) -> Path | None:
    """nginx has no way to write "$" in a path, and others only quoted."""
    if not re.fullmatch(r"[A-Za-z0-9/._-]*", text):
        raise ValueError("give a path of letters, digits and / . _ -, as it stands in a configuration of nginx")
    return _optional_path(text)


def _split(text: str) -> SplitResult | None:
    """The URL's parts, None for what is no URL. urllib's own messages are dropped: they may repeat a password."""
    try:
        parts = urlsplit(text)
        return parts if parts.port != 0 and re.fullmatch(r"[!-~]*", text) else None
    except ValueError:
        return None


def _http_url(*schemes: str) -> Callable[[str], str]:
    def cast(text: str) -> str:
        parts = _split(text)
        if not parts or parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"give a URL such as {schemes[-1]}://ca.internal (scheme {' or '.join(schemes)}, no user, no query)")
        return text.rstrip("/")

    return cast


def _public_url(text: str) -> str:
    url = _http_url("http", "https")(text)
    if urlsplit(url).path:
        raise ValueError("give scheme, host and port only: the API is served from the root of its host")
    return url


def _ocsp_signers(text: str) -> dict[str, str]:
    """Issuer → issuer or delegated; "*" stands for those that are not named."""
    signers: dict[str, str] = {}
    for word in _words(text):
        name, _, who = word.rpartition("=")
        if who not in OCSP_SIGNERS or ("=" in word and not _ISSUER.fullmatch(name)):
            raise ValueError(f"{word!r} is neither issuer, delegated nor NAME=issuer or NAME=delegated with an intermediate's name")
        if (name or "*") in signers:
            raise ValueError(f"it says twice who signs for {name or 'the others'}")
        signers[name or "*"] = who
    if not signers:
        raise ValueError("give issuer, delegated, or for example: issuing-1=delegated,issuing-2=issuer")
    return {"*": OCSP_SIGNERS[0], **signers}


def _optional_http_url(text: str) -> str:
    return _http_url("http")(text) if text else ""


def _redis_url(text: str) -> str:
    parts = _split(text)
    if text and not (parts and (parts.hostname if parts.scheme in ("redis", "rediss") else parts.scheme == "unix" and parts.path)):
        raise ValueError("give redis://host:port/db, rediss://… or unix:///path/to/socket")
    return text


def _database_url(text: str) -> str:
    parts = _split(text)
    if text and not (parts and parts.scheme in ("postgresql", "postgres", "sqlite") and parts.path.strip("/")):
        raise ValueError("give postgresql://user:password@host:port/name or sqlite:///path/to/file")
    return text


def _email_url(text: str) -> Server | None:
    parts = _split(text)
    if not text:
        return None
    if not parts or parts.scheme not in _MAIL or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            "give smtp+tls://user:password@host:587, smtps://…:465, or smtp://host:25 without TLS; quote what is special with %"
        )
    tls, port = _MAIL[parts.scheme]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(user) != bool(password):
        raise ValueError("give both user and password, or neither")
    if user and not tls and parts.hostname not in _LOOPBACK:
        raise ValueError("a password would go out in the clear: use smtp+tls:// (STARTTLS) or smtps://")
    return Server(parts.hostname, parts.port or port, user, password, tls)


def _sender(text: str) -> str:
    return addresses.checked(text) if text else ""


def _recipients(text: str) -> tuple[str, ...]:
    return tuple(addresses.checked(word) for word in _words(text))


def _webhook_url(text: str) -> str:
    parts = _split(text)
    if text and not (parts and parts.scheme == "https" and parts.hostname and "@" not in parts.netloc and not parts.fragment):
        raise ValueError("give a URL such as https://hooks.example.org/quicklime (https only, no user, no fragment)")
    return text


def _secret_file(text: str) -> Path | None:
    if not text:
        return None
    try:
        long_enough = len(Path(text).read_bytes().strip()) >= 32
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    if not long_enough:
        raise ValueError("the file holds less than 32 bytes: make it with `openssl rand -hex 32`")
    return Path(text).absolute()


def _header(text: str) -> str:
    if text and (not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{2,50}", text) or text.lower() in _STANDARD_HEADERS):
        raise ValueError("give the name of a header that has no other use, for example: Client-Cert")
    return text


def _in_file(parse: Callable[[str], Any], unset: Any) -> Callable[[str], Any]:
    """What `parse` makes of the file that is named; `unset` where none is."""

    def read_file(text: str) -> Any:
        if not text:
            return unset
        try:
            return parse(Path(text).read_text())
        except OSError as error:
            raise ValueError(f"the file cannot be read: {error.strerror}") from None

    return read_file


def _secret_key(text: str) -> str:
    if text and (len(text) < 50 or len(set(text)) < 5):
        raise ValueError("give at least 50 random characters, or leave it unset")
    return text


def _log_level(text: str) -> str:
    if text not in LOG_LEVELS:
        raise ValueError(f"give one of {', '.join(LOG_LEVELS)}")
    return text


def _log_format(text: str) -> str:
    if text not in FORMATS:
        raise ValueError(f"give one of {', '.join(FORMATS)}")
    return text


def _flag(text: str) -> bool:
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[text.lower()]
    except KeyError:
        raise ValueError("give 1 or 0") from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def cast(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(text)

    return cast


def _hours(low: int, high: int) -> Callable[[str], timedelta]:
    return lambda text: timedelta(hours=_whole(low, high)(text))


def _channels(text: str) -> dict[str, tuple[str, ...]]:
    """Profile → the channels its certificates point to: the profile's own, unless `text` names others."""
    table = {name: profile.channels for name, profile in PROFILES.items()}
    for word in _words(text):
        name, _, chosen = word.partition("=")
        channels = () if chosen == "none" else tuple(chosen.split("+"))
        if name not in PROFILES or len(set(channels)) < len(channels) or not set(channels) <= set(CHANNELS):
            raise ValueError(f"{word!r} is not PROFILE={'+'.join(CHANNELS)}, one of them or none, for example: server=crl,client=none")
        if channels and not PROFILES[name].channels:
            raise ValueError(f"certificates of the profile {name} have no status to point to")
        table[name] = channels
    return table


def _each_of(known: Collection[str], what: str) -> Callable[[str], tuple[str, ...]]:
    """Words, each one of `known`, which are called `what`."""

    def read_words(text: str) -> tuple[str, ...]:
        names = _words(text)
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is no {what}; there are {', '.join(known)}")
        return names

    return read_words


def _role(text: str) -> str:
    if text not in ROLES:
        raise ValueError(f"give one of {', '.join(ROLES)}")
    return text


def _hosts(text: str) -> tuple[str, ...]:
    return _words(text)


def _origin(text: str) -> str:
    if not re.fullmatch(r"[!-*,-~]{1,200}", text):
        raise ValueError("give a name without spaces or plus signs, for example: internal/quicklime")
    return text


# fmt: off
VARIABLES = (
    Variable("QUICKLIME_STATE", _path, "var", "directory of the embedded database, keys and certificates"),
    Variable("DATABASE_URL", _database_url, "", "PostgreSQL or SQLite; unset: SQLite in the state directory"),
    Variable("REDIS_URL", _redis_url, "", "broker and wake-ups; unset: the private server's socket in the state directory"),
    Variable("QUICKLIME_ROLE", _role, "manage", "what this process is: web (holds no CA key), worker or manage"),
    Variable("QUICKLIME_ZONES", _zones, "internal,localhost", "DNS zones below which names are issued"),
    Variable("QUICKLIME_IP_RANGES", _ip_ranges, "127.0.0.0/8,::1/128", "IP ranges whose addresses may be named in certificates"),
    Variable("QUICKLIME_SPIFFE_TRUST_DOMAINS", _trust_domains, "", "trust domains whose spiffe:// URIs may be named"),
    Variable("QUICKLIME_PUBLIC_URL", _public_url, "https://localhost:8443", "where clients reach the API"),
    Variable("QUICKLIME_AIA_URL", _http_url("http"), "http://localhost:8080", "plain-HTTP base, written into certificates, of issuers"),
    Variable("QUICKLIME_OCSP_URL", _optional_http_url, "", "OCSP URL written into certificates; unset: none is written"),
    Variable("QUICKLIME_OCSP_HOURS", _hours(2, 240), "24", "how long an OCSP response is valid; the next one comes before half of it"),
    Variable("QUICKLIME_OCSP_SIGNER", _ocsp_signers, "issuer",
             "who signs OCSP responses: issuer, delegated (a key of its own), or by name: issuing-1=delegated,issuing-2=issuer"),
    Variable("QUICKLIME_OCSP_NONCES", _whole(0, 1_000), "0",
             "OCSP responses with a nonce that one host has signed per second; further ones come without it"),
    Variable("QUICKLIME_CRL_URL", _optional_http_url, "", "base URL of the CRLs, written into certificates; unset: none is written"),
    Variable("QUICKLIME_CRL_SHARDS", _whole(0, 1000), "0",
             "how many parts the CRL that new certificates point to is divided into; 0: they point to the full one"),
    Variable("QUICKLIME_CRL_HOURS", _hours(2, 240), "24", "how long a CRL is valid; the next one comes before half of it"),
    Variable("QUICKLIME_STATUS_CHANNELS", _channels, "",
             "profiles whose certificates point to other channels than ocsp+crl, for example: server=crl,client=none"),
    Variable("QUICKLIME_STATUS_DIR", _served_path, "", "where OCSP answers, CRLs and issuers lie as files for nginx; unset: nowhere"),
    Variable("QUICKLIME_TRUSTED_PROXIES", _ip_ranges, "",
             "addresses whose X-Forwarded-For is believed, for example: 10.0.0.5,10.1.0.0/24; unset: nobody's"),
    Variable("QUICKLIME_CLIENT_CERTIFICATE_HEADER", _header, "",
             "header in which these proxies, and nobody else, tell a TLS client's certificate, for example: Client-Cert; unset: in none"),
    Variable("QUICKLIME_JWT_ISSUERS", _in_file(jwt_issuers.parse, ()), "",
             "JSON file of issuers whose JWTs are API tokens, see docs/sign-in.md; unset: nobody's are"),
    Variable("QUICKLIME_OIDC", _in_file(oidc_settings.parse, None), "",
             "JSON file of the identity provider by which people may sign in, see docs/sign-in.md; unset: by passwords alone"),
    Variable("QUICKLIME_LDAP", _in_file(directory_settings.parse, None), "",
             "JSON file of the directory by whose passwords people may sign in, see docs/sign-in.md; unset: by none"),
    Variable("QUICKLIME_SECOND_FACTOR", _each_of(identity_settings.ROLES, "role of a person"), "",
             "roles that open nothing before the account has a second factor, for example: administrator,approver,operator"),
    Variable("QUICKLIME_ALLOWED_HOSTS", _hosts, "", "further Host names the API answers to, besides the public URL's and loopback"),
    Variable("SECRET_KEY", _secret_key, "", "Django's secret; unset: made once in the state directory"),
    Variable("QUICKLIME_KEYS", _optional_path, "", "directory of the sealed keys; unset: keys/ in the state directory"),
    Variable("QUICKLIME_KEY_PASSPHRASE", str, "", "passphrase that opens the sealed keys; not for web processes"),
    Variable("QUICKLIME_KEY_PASSPHRASE_FILE", _optional_path, "",
             "file with it, mode 0600; unset: passphrase in the state directory, made with the first key"),
    Variable("QUICKLIME_REVOCATION_KEY_FILE", _optional_path, "",
             "key that revocation secrets are derived from; unset: revocation.key in the state directory"),
    Variable("QUICKLIME_CHECKPOINT_DIR", _optional_path, "",
             "where checkpoints are kept outside the database; unset: checkpoints/ in the state directory"),
    Variable("QUICKLIME_BACKUP_HOURS", _hours(1, 8784), "26",
             "how old the newest backup that was noted may be before it is said to be late"),
    Variable("QUICKLIME_LOG_ORIGIN", _origin, "quicklime/log", "the log's name in its checkpoints"),
    Variable("QUICKLIME_LOG_PUBLIC", _flag, "0", "1: the log may be read without a token"),
    Variable("EMAIL_URL", _email_url, "",
             "mail server: smtp+tls://user:password@host:587, smtps://… or smtp://…; unset: nobody is reminded by mail"),
    Variable("QUICKLIME_MAIL_FROM", _sender, "", "sender of reminders; unset: quicklime@ the public URL's host"),
    Variable("QUICKLIME_MAIL_TO", _recipients, "", "who is reminded of certificates that have no contact of their own"),
    Variable("QUICKLIME_WEBHOOK_URL", _webhook_url, "", "where reminders are posted as signed JSON too; unset: nowhere"),
    Variable("QUICKLIME_WEBHOOK_SECRET_FILE", _secret_file, "", "file with the key of that signature, at least 32 bytes"),
    Variable("QUICKLIME_PKILINT_SAMPLE", _whole(1, 1_000_000), "1000",
             "pkilint examines every new shape and then one certificate in N (1: each one)"),
    Variable("QUICKLIME_APPROVAL", _each_of(LEAF, "profile that is asked for"), "",
             "profiles whose certificates a person must approve, for example: peer,client"),
    Variable("QUICKLIME_APPROVAL_HOURS", _hours(1, 2160), "168", "how long a request waits for approval before it is rejected"),
    Variable("QUICKLIME_RATE", _whole(1, 1_000_000), "5000", "requests per second one token may make of one web process"),
    Variable("QUICKLIME_WAITERS", _whole(0, 10_000), "128",
             "requests one web process lets wait at once; further ones are answered 202 immediately"),
    Variable("QUICKLIME_LOG_LEVEL", _log_level, "INFO", "least level of the log lines on standard error: DEBUG, INFO, WARNING or ERROR"),
    Variable("QUICKLIME_LOG_FORMAT", _log_format, JSON, "form of these lines: json, an object each, or console, text for people"),
    Variable("QUICKLIME_DB_POOL", _whole(1, 1_000), "8", "PostgreSQL connections one process may hold"),
)
# fmt: on


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Every variable of VARIABLES, cast. Raises SettingError naming all that are wrong, one line each."""
    values, wrong = {}, []
    for variable in VARIABLES:
        text = environ.get(variable.name, variable.default)
        try:
            values[variable.name] = variable.cast(text)
        except ValueError as error:
            wrong.append(f"{variable.name}: {error} (it is {_shown(variable.name, text)})")
    if values.get("QUICKLIME_KEY_PASSPHRASE") and values.get("QUICKLIME_KEY_PASSPHRASE_FILE"):
        wrong.append("QUICKLIME_KEY_PASSPHRASE and QUICKLIME_KEY_PASSPHRASE_FILE are both set: set one")
    if values.get("QUICKLIME_WEBHOOK_URL") and values.get("QUICKLIME_WEBHOOK_SECRET_FILE", "") is None:
        wrong.append("QUICKLIME_WEBHOOK_SECRET_FILE is not set, and QUICKLIME_WEBHOOK_URL is: its receiver could not tell who calls")
    if values.get("QUICKLIME_CLIENT_CERTIFICATE_HEADER") and values.get("QUICKLIME_TRUSTED_PROXIES", "") == ():
        wrong.append("QUICKLIME_TRUSTED_PROXIES is not set, and QUICKLIME_CLIENT_CERTIFICATE_HEADER is: nobody would be believed")
    if wrong:
        raise SettingError("wrong setting\n  " + "\n  ".join(wrong))
    return values


def _shown(name: str, text: str) -> str:
    """Values that may carry a password are not repeated in an error."""
    return "not shown" if name in _SECRET else repr(text)


_REPEATED = 5  # times that a statement is sent before PostgreSQL keeps it read


def database(url: str, state: Path, pool: int, role: str) -> dict[str, Any]:
    """Django's DATABASES["default"] for `url`, in a process of that role.

    PostgreSQL: the pool gives a lost connection up after a second, so that the next request tries anew. Its default of five
    minutes, with ever longer pauses, would keep an outage going for as long again after the server is back.
    SQLite: IMMEDIATE transactions, so that two writers queue rather than deadlock; WAL with synchronous=FULL, so that a
    commit survives a power cut; recursive_triggers, without which REPLACE INTO passes by the log's DELETE trigger.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "sqlite"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": unquote(parts.path)[1:] if url else str(state / "quicklime.sqlite3"),  # sqlite:///relative, sqlite:////absolute
            "CONN_MAX_AGE": None,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON;",
            },
        }
    from eventlog import patience  # only here: psycopg is not loaded where the database is a file

    options: dict[str, Any] = {
        "pool": {"min_size": 1, "max_size": pool, "timeout": 2, "reconnect_timeout": 1},
        "connect_timeout": 2,
        # a server that vanished without a word is given up within seconds: who waits for it would go on with what it knew
        "keepalives_idle": 3,
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "tcp_user_timeout": 5000,
        "server_side_binding": True,  # arrays travel in binary
    }
    if role in patience.SECONDS:
        # The same few statements for ever. Each is planned anew for its values all the same: a plan of when a table was empty would
        # be kept while it grows. Commands prepare nothing, as a rebuild has temporary tables of the same names.
        options |= {"prepare_threshold": _REPEATED, "options": "-c plan_cache_mode=force_custom_plan"}
    patience.limit(options, patience.SECONDS.get(role))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or "") or _query(parts.query).get("host", ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }


def _query(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in unquote(text).split("&") if "=" in pair)


def redis_socket(state: Path) -> Path:
    """Where the private Redis of `state` listens: in it, or, if that is too long or too odd for a socket's address, in
    the user's runtime directory, under a name made from it."""
    path = state / "redis.sock"
    if len(bytes(path)) <= _LONGEST_SOCKET and re.fullmatch(r"[A-Za-z0-9/._-]+", str(path)):
        return path
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"{tempfile.gettempdir()}/quicklime-{os.getuid()}")
    return runtime / f"quicklime-{hashlib.sha256(bytes(state)).hexdigest()[:16]}" / "redis.sock"


def made_once(path: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(48)) -> str:
    """The text of `path`, made with mode 0600 if it is not there. Two processes that start together agree on one, and a
    crash leaves no empty one: the file is complete before it gets its name. Raises SettingError where it cannot be made."""
    try:
        if not path.exists():
            _make(path, make())
        return path.read_text().strip()
    except OSError as error:
        raise SettingError(f"cannot keep {path.name} in the state directory (QUICKLIME_STATE): {error}") from None


def _make(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    try:
        with open(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)  # unlike rename, never replaces what another process made meanwhile
    except FileExistsError:
        pass
    finally:
        os.unlink(name)
