"""Settings from the environment: each wrong value is named with its reason, and no secret is repeated."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quicklime_site import env

WRONG = {
    "QUICKLIME_STATE": ("", "name a directory"),
    "DATABASE_URL": ("mysql://ca@db/x", "postgresql://user:password@host:port/name"),
    "REDIS_URL": ("amqp://broker", "redis://host:port/db"),
    "QUICKLIME_ROLE": ("root", "web, worker, manage"),
    "QUICKLIME_ZONES": (".internal", "'.internal' is not a DNS zone"),
    "QUICKLIME_IP_RANGES": ("10.0.0.1/8", "10.0.0.1/8 has host bits set"),
    "QUICKLIME_SPIFFE_TRUST_DOMAINS": ("Fleet.example", "'Fleet.example' is not a DNS zone"),
    "QUICKLIME_PUBLIC_URL": ("localhost:8443", "https://ca.internal"),
    "QUICKLIME_AIA_URL": ("https://ca.internal", "http://ca.internal"),
    "QUICKLIME_OCSP_URL": ("ocsp.internal", "http://ca.internal"),
    "QUICKLIME_OCSP_HOURS": ("241", "from 2 to 240"),
    "QUICKLIME_APPROVAL": ("root", "'root' is no profile that is asked for"),
    "QUICKLIME_BACKUP_HOURS": ("0", "from 1 to 8784"),
    "QUICKLIME_APPROVAL_HOURS": ("0", "from 1 to 2160"),
    "QUICKLIME_TRUSTED_PROXIES": ("proxy.internal", "'proxy.internal' does not appear to be an IPv4 or IPv6 network"),
    "QUICKLIME_CLIENT_CERTIFICATE_HEADER": ("Host", "a header that has no other use"),
    "QUICKLIME_OIDC": ("/nowhere/oidc.json", "cannot be read: No such file"),
    "QUICKLIME_SECOND_FACTOR": ("root", "'root' is no role of a person; there are requester,"),
    "QUICKLIME_LDAP": ("/nowhere/ldap.json", "cannot be read: No such file"),
    "QUICKLIME_JWT_ISSUERS": ("/nowhere/issuers.json", "cannot be read: No such file"),
    "QUICKLIME_CRL_URL": ("https://ca.internal/crl", "http://ca.internal"),
    "QUICKLIME_CRL_SHARDS": ("1001", "from 0 to 1000"),
    "QUICKLIME_CRL_HOURS": ("1", "from 2 to 240"),
    "QUICKLIME_STATUS_CHANNELS": ("server=mail", "'server=mail' is not PROFILE=ocsp+crl"),
    "QUICKLIME_OCSP_SIGNER": ("issuing-1:delegated", "'issuing-1:delegated' is neither issuer, delegated nor NAME=issuer"),
    "QUICKLIME_OCSP_NONCES": ("many", "from 0 to 1000"),
    "QUICKLIME_STATUS_DIR": ("/srv/$host", "letters, digits and"),
    "SECRET_KEY": ("short", "at least 50"),
    "QUICKLIME_LOG_ORIGIN": ("my log", "without spaces"),
    "QUICKLIME_LOG_PUBLIC": ("maybe", "1 or 0"),
    "EMAIL_URL": ("mail.example.org:25", "smtp+tls://user:password@host:587"),
    "QUICKLIME_MAIL_FROM": ("CA <ca@example.org>", "is not a mail address such as team@example.org"),
    "QUICKLIME_MAIL_TO": ("ops@example.org,x", "'x' is not a mail address"),
    "QUICKLIME_WEBHOOK_URL": ("http://hooks.example.org", "https only"),
    "QUICKLIME_WEBHOOK_SECRET_FILE": ("/nowhere/secret", "cannot be read: No such file"),
    "QUICKLIME_PKILINT_SAMPLE": ("0", "from 1 to 1000000"),
    "QUICKLIME_RATE": ("fast", "whole number"),
    "QUICKLIME_WAITERS": ("-1", "from 0 to 10000"),
    "QUICKLIME_LOG_LEVEL": ("info", "DEBUG, INFO, WARNING, ERROR"),
    "QUICKLIME_LOG_FORMAT": ("text", "json, console"),
    "QUICKLIME_DB_POOL": ("1e3", "from 1 to 1000"),
}
NOTHING_IS_WRONG = {  # any text will do, and what is wrong with the file shows when it is opened
    "QUICKLIME_ALLOWED_HOSTS",
    "QUICKLIME_KEYS",
    "QUICKLIME_KEY_PASSPHRASE",
    "QUICKLIME_KEY_PASSPHRASE_FILE",
    "QUICKLIME_REVOCATION_KEY_FILE",
    "QUICKLIME_CHECKPOINT_DIR",
}


def test_every_variable_has_its_wrong_value_here() -> None:
    assert {variable.name for variable in env.VARIABLES} == set(WRONG) | NOTHING_IS_WRONG


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_with_the_reason(name: str) -> None:
    text, reason = WRONG[name]
    with pytest.raises(env.SettingError) as error:
        env.read({name: text})
    assert f"  {name}: " in str(error.value)
    assert reason in str(error.value)
    assert sum(variable.name + ":" in str(error.value) for variable in env.VARIABLES) == 1


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(env.SettingError) as error:
        env.read({name: text for name, (text, _) in WRONG.items()})
    assert all(f"\n  {name}: " in str(error.value) for name in WRONG)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DATABASE_URL", "postgresql://ca:hunter2@db:not-a-port/ca"),
        ("DATABASE_URL", "postgresql://ca:hunter2@[db/ca"),
        ("DATABASE_URL", "postgresql://ca:hunter2@\u2100/ca"),
        ("DATABASE_URL", "mysql://ca:hunter2@db/ca"),
        ("DATABASE_URL", "postgresql://ca:hunter2@db"),
        ("REDIS_URL", "rabbit://:hunter2@broker"),
        ("REDIS_URL", "redis://:hunter2@broker:99999"),
        ("SECRET_KEY", "hunter2"),
        ("EMAIL_URL", "smtp://ca:hunter2@mail.example.org"),
        ("EMAIL_URL", "imap://ca:hunter2@mail.example.org"),
        ("EMAIL_URL", "smtps://ca:hunter2@mail.example.org/inbox"),
        ("EMAIL_URL", "smtps://hunter2@mail.example.org"),
        ("EMAIL_URL", "smtps://ca:hunter2@mail.example.org:99999"),
        ("QUICKLIME_WEBHOOK_URL", "http://hooks.example.org/hunter2"),
        ("QUICKLIME_WEBHOOK_URL", "https://ca:hunter2@hooks.example.org/"),
        ("QUICKLIME_PUBLIC_URL", "https://ca.internal:99999"),
    ],
)
def test_no_password_is_repeated(name: str, text: str) -> None:
    with pytest.raises(env.SettingError) as error:
        env.read({name: text})
    assert name in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("url", ["https://user@ca.internal", "https://ca.internal/pki", "https://ca.internal?x=1", "https://:8443"])
def test_a_public_url_is_an_origin(url: str) -> None:
    with pytest.raises(env.SettingError, match="QUICKLIME_PUBLIC_URL"):
        env.read({"QUICKLIME_PUBLIC_URL": url})


def test_two_sources_of_the_passphrase_are_refused() -> None:
    with pytest.raises(env.SettingError, match="both set"):
        env.read({"QUICKLIME_KEY_PASSPHRASE": "a", "QUICKLIME_KEY_PASSPHRASE_FILE": "/b"})


def test_the_defaults_are_right() -> None:
    values = env.read({})
    assert values["QUICKLIME_ZONES"] == ("internal", "localhost")
    assert values["QUICKLIME_LOG_PUBLIC"] is False


def test_a_directory_needs_the_library_by_which_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ldap.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "ldap", None)
    monkeypatch.delitem(sys.modules, "dashboard.distinguished_names", raising=False)
    with pytest.raises(env.SettingError, match=r"QUICKLIME_LDAP: python-ldap is not installed.*quicklime\[ldap\]"):
        env.read({"QUICKLIME_LDAP": str(tmp_path / "ldap.json")})


def test_a_wrong_setting_stops_a_process_without_a_traceback(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "QUICKLIME_STATE": str(tmp_path), "QUICKLIME_RATE": "fast"}
    done = subprocess.run([sys.executable, "-c", "import quicklime_site.settings"], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "quicklime: wrong setting\n  QUICKLIME_RATE: give a whole number from 1 to 1000000 (it is 'fast')\n"


def test_an_impossible_state_directory_stops_a_process_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environ = {"PATH": os.environ["PATH"], "QUICKLIME_STATE": str(tmp_path / "file" / "state")}
    done = subprocess.run([sys.executable, "-c", "import quicklime_site.settings"], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "QUICKLIME_STATE" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_made_once_is_made_once_and_private(tmp_path: Path) -> None:
    path, seen = tmp_path / "state" / "key", list[str]()
    gate = threading.Barrier(8)

    def race() -> None:
        gate.wait()
        seen.append(env.made_once(path))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 1
    assert len(seen) == 8
    assert len(seen[0]) > 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]


def test_an_odd_state_directory_still_gives_a_database_and_a_short_socket(tmp_path: Path) -> None:
    state = tmp_path / ("100% ünsäfe? #" + "x" * 100)
    assert env.database("", state, 8, "web")["NAME"] == str(state / "quicklime.sqlite3")
    assert len(bytes(env.redis_socket(state))) <= 100
    assert env.redis_socket(state) != env.redis_socket(tmp_path / ("y" * 120))


def test_a_plain_state_directory_holds_the_socket() -> None:
    assert env.redis_socket(Path("/srv/quicklime")) == Path("/srv/quicklime/redis.sock")


def test_database_urls() -> None:
    full = env.database("postgresql://ca:p%40ss@db.internal:5433/quick", Path("/s"), 4, "manage")
    assert (full["NAME"], full["USER"], full["PASSWORD"], full["HOST"], full["PORT"]) == ("quick", "ca", "p@ss", "db.internal", "5433")
    assert env.database("postgresql://ca@/quick?host=/run/pg", Path("/s"), 4, "manage")["HOST"] == "/run/pg"
    assert env.database("sqlite:////srv/x.sqlite3", Path("/s"), 4, "manage")["NAME"] == "/srv/x.sqlite3"


# --- status channels


def test_every_profile_has_its_channels() -> None:
    assert env.read({})["QUICKLIME_STATUS_CHANNELS"] == {
        "server": ("ocsp", "crl"), "client": ("ocsp", "crl"), "peer": ("ocsp", "crl"),
        "short-lived": (), "ocsp-signer": (), "intermediate": (),
    }  # fmt: skip


def test_channels_of_a_profile_can_be_others() -> None:
    table = env.read({"QUICKLIME_STATUS_CHANNELS": "server=crl, client=none peer=crl+ocsp"})["QUICKLIME_STATUS_CHANNELS"]
    assert (table["server"], table["client"], table["peer"]) == (("crl",), (), ("crl", "ocsp"))


@pytest.mark.parametrize(
    "text", ["server", "server=", "=crl", "web=crl", "server=crl+", "server=crl+crl", "server=ocsp,crl", "server=ocsp|crl"]
)
def test_channels_that_are_none(text: str) -> None:
    with pytest.raises(env.SettingError, match="server=crl,client=none"):
        env.read({"QUICKLIME_STATUS_CHANNELS": text})


@pytest.mark.parametrize("profile", ["short-lived", "ocsp-signer", "intermediate"])
def test_no_channels_for_what_has_no_status(profile: str) -> None:
    with pytest.raises(env.SettingError, match=f"profile {profile} have no status"):
        env.read({"QUICKLIME_STATUS_CHANNELS": f"{profile}=crl"})
    assert env.read({"QUICKLIME_STATUS_CHANNELS": f"{profile}=none"})["QUICKLIME_STATUS_CHANNELS"][profile] == ()


# --- mail and webhook


@pytest.mark.parametrize(("url", "server"), [
    ("smtp://mail.internal", ("mail.internal", 25, "", "", "")),
    ("smtp://u:p@127.0.0.1:2525", ("127.0.0.1", 2525, "u", "p", "")),
    ("smtp+tls://u%40x:p%2F%3A@mail.example.org", ("mail.example.org", 587, "u@x", "p/:", "starttls")),
    ("smtps://u:p@[2001:db8::1]/", ("2001:db8::1", 465, "u", "p", "tls")),
])  # fmt: skip
def test_mail_servers(url: str, server: tuple[str, int, str, str, str]) -> None:
    found = env.read({"EMAIL_URL": url})["EMAIL_URL"]
    assert (found.host, found.port, found.user, found.password, found.tls) == server


def test_no_mail_server_is_no_mail() -> None:
    values = env.read({})
    assert values["EMAIL_URL"] is None
    assert values["QUICKLIME_MAIL_TO"] == ()


def test_no_password_goes_out_in_the_clear() -> None:
    with pytest.raises(env.SettingError, match="EMAIL_URL: a password would go out in the clear"):
        env.read({"EMAIL_URL": "smtp://ca:secret@mail.example.org"})


def test_a_webhook_needs_a_secret_that_is_long_enough(tmp_path: Path) -> None:
    url = {"QUICKLIME_WEBHOOK_URL": "https://hooks.example.org/x"}
    with pytest.raises(env.SettingError, match="QUICKLIME_WEBHOOK_SECRET_FILE is not set"):
        env.read(url)
    (tmp_path / "secret").write_text("hunter2")
    with pytest.raises(env.SettingError, match="less than 32 bytes") as error:
        env.read({**url, "QUICKLIME_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")})
    assert "hunter2" not in str(error.value)
    (tmp_path / "secret").write_text("x" * 32)
    assert (
        env.read({**url, "QUICKLIME_WEBHOOK_SECRET_FILE": str(tmp_path / "secret")})["QUICKLIME_WEBHOOK_URL"]
        == url["QUICKLIME_WEBHOOK_URL"]
    )
