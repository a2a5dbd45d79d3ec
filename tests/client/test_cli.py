"""The command line itself: help that explains, completion, and no waiting for the server's code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import LABEL, Node

COMMANDS = ("trust", "request", "renew", "revoke", "status", "agent")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(stranger: Node, command: str) -> None:
    said = stranger.run(command, "--help")
    assert f"quicklime {command}" in said.split("Example", 1)[1]
    assert "--state" in said


def test_no_option_takes_a_token(stranger: Node) -> None:
    for command in COMMANDS:
        assert "--token " not in stranger.run(command, "--help")


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("request",), ("request", "--service", "s", "--layout", "iis"), ("trust",), ("renew",)]
)
def test_a_wrong_command_line_is_status_2(stranger: Node, arguments: tuple[str, ...]) -> None:
    stranger.run(*arguments, code=2)


def complete(node: Node, words: str) -> list[str]:
    environ = {**os.environ, "QUICKLIME_CLIENT_STATE": str(node.state), "_QUICKLIME_COMPLETE": "complete_bash"}
    environ |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    program = "import sys; sys.argv[0] = 'quicklime'; from quicklime_client.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    return done.stdout.split()


def test_completion_knows_commands_and_labels(node: Node) -> None:
    node.request()
    assert complete(node, "quicklime re") == ["request", "renew", "revoke"]
    assert complete(node, "quicklime renew p") == [LABEL]
    assert complete(node, "quicklime request --layout n") == ["nginx"]


def test_a_nodes_commands_load_nothing_of_the_server(node: Node) -> None:
    program = (
        "import sys; from quicklime_client.cli import app\n"
        "try: app(['status'], prog_name='quicklime')\n"
        "except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    environ = {**os.environ, "QUICKLIME_CLIENT_STATE": str(node.state)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert not set(done.stderr.split()) & {"django", "celery", "ca", "eventlog", "ocsp", "dashboard", "quicklime_site"}
