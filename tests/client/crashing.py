"""A process that dies by SIGKILL at its n-th write to the disk, as a child of a test.

Owns the seam: every system call by which the client changes the disk is counted, and the n-th is the last. A write is torn:
half of it is done. Needs no help from the client, so that a step which is added there is killed at, too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from quicklime_client import agent, api, cli
from quicklime_client.store import Store

from .fake import TOKEN

STEPS = ("mkdir", "open", "write", "fsync", "replace", "rename", "symlink", "unlink", "rmdir")
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])  # a child is then a fork of a process that has imported all this


def die_at(number: int) -> None:
    """From now on the `number`-th step kills this process, before it is done; a write when it is half done."""
    left = [number]

    def mortal(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if name == "write":
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return step

    for name in STEPS:
        setattr(os, name, mortal(name, getattr(os, name)))


def one_pass(state: Path, now: datetime, number: int) -> None:
    """A pass of the agent that dies at step `number`."""
    die_at(number)
    agent.look_after_all(Store(state), lambda trust: api.Server(trust, TOKEN), now, lambda line: None)


def command(state: Path, arguments: tuple[str, ...], number: int) -> None:
    """A command that dies at step `number`; one that fails counts as a fault of the test."""
    die_at(number)
    cli.app([*arguments, "--state", str(state)], standalone_mode=False)


def killed(target: Callable[..., None], *arguments: Any) -> bool:
    """Run `target` in a child; whether it was killed, rather than having come to its end."""
    child = _CONTEXT.Process(target=target, args=arguments)
    child.start()
    child.join(30)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    code = child.exitcode
    child.close()
    return code != 0
