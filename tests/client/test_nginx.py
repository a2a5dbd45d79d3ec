"""A real nginx, as most nodes have one: renewed, reloaded, and seen to serve the new certificate."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from quicklime_client import health
from tests.processes import eventually
from tests.site.test_whole import free_ports

from .conftest import Node

NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
START = datetime(2030, 1, 1, tzinfo=UTC)

CONFIGURATION = """
daemon off; master_process on; pid {home}/nginx.pid; error_log {home}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
  uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
  server {{
    listen 127.0.0.1:{port} ssl;
    {lines}
    return 200 "payroll\\n";
  }}
}}
"""


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def nginx(node: Node, port: int) -> Iterator[Node]:
    """A node whose nginx was set up with the lines that `request` printed."""
    configuration = node.directory / "nginx.conf"
    node.fake.now = START
    said = node.request("--serves", f"127.0.0.1:{port}", "--reload", f"{NGINX} -c {configuration} -e {node.directory}/error.log -s reload")
    lines = "\n".join(line for line in said.splitlines() if line.strip().startswith("ssl_certificate"))
    configuration.write_text(CONFIGURATION.format(home=node.directory, port=port, lines=lines))
    process = subprocess.Popen([NGINX, "-c", configuration, "-e", f"{node.directory}/error.log"], stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: served(node, START))
        yield node
    finally:
        process.terminate()
        process.wait(10)


def served(node: Node, now: datetime) -> bool:
    """Whether the agent, at the time `now`, finds its certificate served."""
    node.pass_at(now)
    (finding,) = health.judged(node.store, now)
    return finding.level == health.Level.OK and finding.record is not None and finding.record.served is not None


def test_nginx_serves_what_was_renewed(nginx: Node) -> None:
    late = START + timedelta(days=66)
    nginx.pass_at(late)
    current = nginx.record().current
    assert current
    assert current.generation == 2
    assert nginx.record().trouble is None
    eventually(lambda: served(nginx, late + timedelta(minutes=1)))
    seen = nginx.record().served
    assert seen
    assert seen.serial == current.serial
