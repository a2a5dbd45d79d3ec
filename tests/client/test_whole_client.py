"""The client against a whole real Quicklime: what the first page of docs/client.md says works as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import eventually
from tests.site.test_whole import ROOT, Instance, free_ports, services

from .conftest import check_pair, openssl

__all__ = ["services"]  # a fixture
pytestmark = pytest.mark.timeout(240)
REQUEST = ("request", "--service", "payroll", "--node", "payroll-1", "--name", "payroll.internal")


@dataclass
class Client:
    """The command line of a node, in processes of its own."""

    instance: Instance
    state: Path

    @property
    def environ(self) -> dict[str, str]:
        own = {"QUICKLIME_CLIENT_STATE": str(self.state), "QUICKLIME_TOKEN_FILE": str(self.instance.state / "token")}
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(self.state.parent), **own}

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self.process(arguments)
        said, faults = done.communicate(timeout=90)
        assert done.returncode == code, f"{said}\n{faults}"
        return said + faults

    def process(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "quicklime_client.cli", *arguments]
        return subprocess.Popen(command, env=self.environ, cwd=self.state.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def pair(self) -> Path:
        return self.state / "pairs/payroll.internal/current"

    def check(self) -> int:
        return check_pair(self.pair, self.instance.state / "root.pem")


@pytest.fixture
def client(tmp_path: Path, services: dict[str, str]) -> Iterator[Client]:
    """A node that trusts a Quicklime which runs."""
    instance = Instance(tmp_path, *free_ports(2), services)
    try:
        fingerprint = re.search(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", instance.start())
        assert fingerprint
        made = Client(instance, tmp_path / "node")
        url = f"https://localhost:{instance.https}"
        assert "no root with this fingerprint" in made.run("trust", url, "--fingerprint", "0" * 64, code=1)
        made.run("trust", url, "--fingerprint", fingerprint[0])
        yield made
    finally:
        if instance.process and instance.process.poll() is None:
            instance.stop()


def offers(client: Client, what: str) -> bool:
    paths = json.loads(client.instance.get("/api/v1/schema/"))["paths"]
    return any(path.endswith(f"/{what}/") for path in paths)


def test_a_node_from_trust_to_revocation(client: Client) -> None:
    said = client.run(*REQUEST, "--ip", "127.0.0.1")
    serial = client.check()
    assert f"serial {serial:040x}" in said
    names = openssl("x509", "-in", client.pair / "fullchain.pem", "-noout", "-ext", "subjectAltName")
    assert "DNS:payroll.internal, IP Address:127.0.0.1" in names

    # the server knows it as that node's
    shown = json.loads(client.instance.get(f"/api/v1/certificates/{serial:x}/"))
    assert (shown["service"], shown["node"], shown["names"]) == ("payroll", "payroll-1", ["dns:payroll.internal", "ip:127.0.0.1"])

    # again: nothing new; status is well; what may not be had is refused in one line and leaves nothing
    client.run(*REQUEST, "--ip", "127.0.0.1")
    assert client.check() == serial
    status = json.loads(client.run("status", "--json"))
    assert [(each["serial"], each["level"]) for each in status["certificates"]] == [(f"{serial:040x}", "ok")]
    refused = client.run("request", "--service", "s", "--name", "www.example.com", code=1)
    assert "nameOutsideZones" in refused
    assert refused.count("\n") == 1
    assert len(json.loads(client.run("status", "--json"))["certificates"]) == 1

    # every kind of key and layout
    for kind, layout in [("P-384", "haproxy"), ("Ed25519", "separate"), ("RSA-2048", "pkcs12")]:
        name = f"{layout}.internal"
        client.run("request", "--service", "s", "--name", name, "--key-type", kind, "--layout", layout, "--profile", "peer")

    # the server is away: the agent says so, and nothing is lost
    client.instance.stop()
    assert "check-in: " in client.run("agent", "--once")
    assert "cannot be reached" in client.run("renew", "payroll.internal", code=1)
    assert client.check() == serial
    client.instance.start()
    if offers(client, "renew"):
        renewed(client, serial)
    if offers(client, "revoke"):
        revoked(client)


def renewed(client: Client, serial: int) -> None:
    """The renewal that was begun while the server was away is finished, by proof alone, and then by the agent."""
    client.run("renew", "payroll.internal")
    second = client.check()
    assert second != serial
    shown = json.loads(client.instance.get(f"/api/v1/certificates/{serial:x}/"))
    assert int(shown["replaced_by"], 16) == second
    for name in ("haproxy.internal", "separate.internal", "pkcs12.internal"):
        client.run("renew", name)
    replaced(client)

    record = client.state / "certificates/payroll.internal.json"
    text = re.sub(r'"renew_at": "[^"]*"', '"renew_at": "2020-01-01T00:00:00+00:00"', record.read_text())
    record.write_text(text)
    assert "generation 3" in client.run("agent", "--once")
    assert client.check() != second


def replaced(client: Client) -> None:
    """An order reaches the node when it checks in, with every kind of key; what it renews early is served before the old one goes."""
    said = client.instance.manage("replace_certificates", "--service", "s", "--why", "a drill", "--deadline", "4h", "--yes")
    order = re.search(r"order ([0-9a-f]{16})", said)
    assert order
    assert client.run("agent", "--once").count("to be replaced, so it will be renewed at") == 3
    shown = {each["label"]: each for each in json.loads(client.run("status", "--json"))["certificates"]}
    for name in ("haproxy.internal", "separate.internal", "pkcs12.internal"):
        assert shown[name]["check_in"]["error"] is None
        assert shown[name]["renew_at"] < shown[name]["check_in"]["replace_by"] < shown[name]["not_after"]
        client.run("renew", name)
    assert "6 marked, 6 replaced, " in client.instance.manage("replace_certificates", "--status", order[1])


def revoked(client: Client) -> None:
    """By secret and by key."""
    serials = {each["label"]: each["serial"] for each in json.loads(client.run("status", "--json"))["certificates"]}
    for name, more in [("payroll.internal", ()), ("separate.internal", ("--by-key",)), ("pkcs12.internal", ("--by-key",))]:
        client.run("revoke", name, "--yes", "--reason", "superseded", *more)
        shown = json.loads(client.instance.get(f"/api/v1/certificates/{serials[name]}/"))
        assert (shown["status"], shown["reason"]) == ("revoked", "superseded")


def test_an_answer_lost_on_the_way_costs_no_second_certificate(client: Client) -> None:
    """The client is killed while the server is at it; the same command continues."""
    process = client.process((*REQUEST, "--profile", "short-lived"))
    record = client.state / "certificates/payroll.internal.json"
    eventually(lambda: record.exists() or process.poll() is not None)
    process.kill()
    process.communicate()
    client.run(*REQUEST, "--profile", "short-lived")
    client.check()
    listed = json.loads(client.instance.get("/api/v1/certificates/?service=payroll"))["results"]
    assert len(listed) == 1
