"""Three nodes of one service, and what becomes of the one whose agent stops: real nodes, a real Quicklime, a real mail server, and
certificates that live for seconds (see hasty)."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.dashboard.postoffice import PostOffice, opened
from tests.processes import eventually
from tests.site.test_whole import Instance, free_ports, services

from .conftest import check_pair
from .test_whole_client import Client

__all__ = ["services"]  # a fixture
pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="takes long, and asks nothing of the database that the other half does not"),
]
NODES = ("payroll-1", "payroll-2", "payroll-3")
OWNER = "payroll-team@example.org"


class Node(Client):
    """A node, and its agent while one runs."""

    agent: subprocess.Popen[str] | None = None

    def enrol(self, name: str, fingerprint: str) -> None:
        self.run("trust", f"https://localhost:{self.instance.https}", "--fingerprint", fingerprint)
        reload = f"echo reloaded >> {shlex.quote(str(self.reloads))}"
        self.run("request", "--service", "payroll", "--node", name, "--name", "payroll.internal", "--profile", "peer", "--reload", reload)

    @property
    def reloads(self) -> Path:
        return self.state.with_suffix(".reloads")

    def start_agent(self) -> None:
        self.agent = self.process(["agent"])
        assert self.agent.stdout
        assert "looking after" in self.agent.stdout.readline()

    def stop_agent(self) -> None:
        """As a service manager does."""
        assert self.agent
        self.agent.terminate()
        _, faults = self.agent.communicate(timeout=30)
        assert self.agent.returncode == 0, faults
        self.agent = None

    @property
    def current(self) -> dict[str, Any]:
        """Of what the client remembers, its pair."""
        found: dict[str, Any] = json.loads((self.state / "certificates/payroll.internal.json").read_text())["current"]
        return found


@pytest.fixture
def office() -> Iterator[PostOffice]:
    with opened() as made:
        yield made


@pytest.fixture
def instance(tmp_path: Path, services: dict[str, str], office: PostOffice) -> Iterator[Instance]:
    hurry = {"DJANGO_SETTINGS_MODULE": "tests.client.hasty", "EMAIL_URL": office.url}
    made = Instance(tmp_path, *free_ports(2), services | hurry)
    try:
        yield made
    finally:
        if made.process and made.process.poll() is None:
            made.stop()


@pytest.fixture
def fleet(tmp_path: Path, instance: Instance) -> Iterator[dict[str, Node]]:
    """Node by name: each trusts the CA and has a certificate, which its agent looks after."""
    fingerprint = re.search(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}", instance.start())
    assert fingerprint
    instance.manage("set_contacts", "--service", "payroll", OWNER)
    nodes = {name: Node(instance, tmp_path / name) for name in NODES}
    with ExitStack() as stack:
        for node in nodes.values():
            stack.callback(lambda node=node: node.agent and node.stop_agent())
        threads = stack.enter_context(ThreadPoolExecutor(len(nodes)))
        list(threads.map(lambda name: nodes[name].enrol(name, fingerprint[0]), nodes))
        list(threads.map(Node.start_agent, nodes.values()))
        yield nodes


def test_the_node_whose_agent_stops_is_named_and_told_of_until_it_is_replaced(
    instance: Instance, fleet: dict[str, Node], office: PostOffice
) -> None:
    *others, stopped = fleet.values()
    stopped.stop_agent()
    old = stopped.current

    # the others go on: new pairs in place, their services told
    eventually(lambda: all(node.current["generation"] > 1 for node in others))
    for node in others:
        check_pair(node.pair, instance.state / "root.pem")
        eventually(lambda node=node: len(node.reloads.read_text().splitlines()) > 1)

    # the API and the readiness page name the node, with its old generation
    page = eventually(lambda: (found := service(instance))["laggards"] and found)
    assert [(each["node"], each["serial"], each["generation"]) for each in page["laggards"]] == [("payroll-3", old["serial"], 1)]
    assert (page["nodes"], page["left_behind"], page["current"]) == (3, 1, 2)
    newest = {each["node"]: each["generations"][0] for each in page["results"]}
    assert all(newest[name]["generation"] > 1 and newest[name]["status"] == "current" for name in NODES[:2])
    ready = eventually(lambda: (found := renewals(instance))["left_behind"] and found)
    assert [(each["service"], each["node"], each["serial"], each["generation"]) for each in ready["nodes"]] == [
        ("payroll", "payroll-3", old["serial"], 1)
    ]

    # its owner is told, and of this node alone
    eventually(lambda: office.delivered)

    # its agent runs again: nobody is left behind, and nobody is told of anything any more
    stopped.start_agent()
    eventually(lambda: stopped.current["generation"] > 1)
    check_pair(stopped.pair, instance.state / "root.pem")
    eventually(lambda: not service(instance)["laggards"])
    eventually(lambda: not renewals(instance)["left_behind"])
    told = len(office.delivered)
    instance.manage("send_reminders")
    assert len(office.delivered) == told

    assert list(office.letters) == [OWNER]
    subjects = [letter["Subject"] for letter in office.delivered]
    assert len(set(subjects)) == len(subjects), "one for each threshold"
    for letter in office.delivered:
        text = letter.get_body(("plain",))
        assert text is not None
        assert re.findall(r"payroll-\d", text.get_content()) == ["payroll-3"]


def service(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(instance.get("/api/v1/services/payroll/"))
    return found


def renewals(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(instance.get("/readyz"))["checks"]["renewals"]
    return found
