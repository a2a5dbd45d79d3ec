"""`python -m ocsp.responder --bind 127.0.0.1:8080 [--processes N]`: the OCSP responder on plain HTTP.

Owns the sockets and the signals, and stays while all else is replaced: SIGTERM ends it once the clients have their answers; SIGHUP
starts a new generation, with the code and settings of now, and lets the old one go when the new one serves; with SIGUSR1 a
generation asks for another one. As both have the same sockets, no client notices. Imports nothing that could fail: what
can, runs in the generations.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

_TICK = 0.05
_AGAIN, _SELDOM = 1.0, 60.0  # seconds from the start of a generation that failed to the next: at first, and while another feeds, at most
_GRACE = 9.0  # seconds that a generation has to end


@dataclass
class _Generation:
    """A process of generation.py in a process group of its own, with its servers. `ready`: one octet for each that listens."""

    process: subprocess.Popen[bytes]
    ready: int
    servers: int
    deadline: float | None = None  # when it is killed; None until it is asked to end

    def serves(self) -> bool:
        """Whether all its servers listen."""
        if self.servers:
            with contextlib.suppress(BlockingIOError):
                self.servers -= len(os.read(self.ready, self.servers))
        return self.servers == 0

    def lives(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        """Ask all its processes to end."""
        self.deadline = time.monotonic() + _GRACE
        self._signal(signal.SIGTERM)

    def ended(self) -> bool:
        """Whether none of its processes is left, which are killed in the end."""
        late = self.deadline is not None and time.monotonic() > self.deadline
        self.process.poll()
        if not self._signal(signal.SIGKILL if late else 0) or late:
            os.close(self.ready)
            return True
        return False

    def _signal(self, number: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
            return True
        return False


@dataclass
class Master:
    """Keeps one generation serving on `sockets`."""

    sockets: Sequence[socket.socket]
    _serving: _Generation | None = None
    _coming: _Generation | None = None
    _leaving: list[_Generation] = field(default_factory=list)
    _stop: bool = False
    _replace: bool = True
    _started: float = float("-inf")  # when the last generation was
    _pause: float = _AGAIN

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_hangup)
        signal.signal(signal.SIGUSR1, self._on_asked)
        self._lifeline, self._alive = os.pipe()  # the second end is held as long as this process lives
        while not self._stop:
            self._step()
            time.sleep(_TICK)
        self._end_all()

    def _step(self) -> None:
        if self._coming and self._coming.serves():
            self._take_over()
        feeds = self._serving is not None and self._serving.lives()
        if self._serving and not feeds and not self._coming and not self._replace:
            _say("error", f"the generation that fed the servers ended (status {self._serving.process.returncode}); another one starts")
            self._replace = True  # its servers go on meanwhile
        if self._coming and not self._coming.lives():
            _say("error", f"a generation did not start (status {self._coming.process.returncode})")
            self._coming.end()
            self._leaving.append(self._coming)
            self._coming, self._replace, self._pause = None, True, min(2 * self._pause, _SELDOM)
        if self._replace and not self._coming and time.monotonic() >= self._started + (self._pause if feeds else _AGAIN):
            self._replace, self._started = False, time.monotonic()
            self._coming = self._start()
        self._leaving = [each for each in self._leaving if not each.ended()]

    def _take_over(self) -> None:
        if self._serving:
            self._serving.end()
            self._leaving.append(self._serving)
        self._serving, self._coming, self._pause = self._coming, None, _AGAIN

    def _start(self) -> _Generation:
        read, write = os.pipe()
        os.set_blocking(read, False)
        descriptors = [self._lifeline, write, *(each.fileno() for each in self.sockets)]
        command = [sys.executable, "-m", "ocsp.responder.generation", *map(str, descriptors)]
        process = subprocess.Popen(command, pass_fds=descriptors, process_group=0, stdin=subprocess.DEVNULL)
        os.close(write)
        return _Generation(process, read, len(self.sockets))

    def _end_all(self) -> None:
        ending = [each for each in (self._coming, self._serving) if each]
        for each in ending:
            each.end()
        ending += self._leaving
        while ending := [each for each in ending if not each.ended()]:
            time.sleep(_TICK)

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_hangup(self, *_: object) -> None:
        self._replace, self._pause = True, _AGAIN

    def _on_asked(self, *_: object) -> None:
        """It is asked again and again until the other one serves."""
        self._replace = self._replace or self._coming is None


def bind(host: str, port: int, count: int) -> list[socket.socket]:
    """As many sockets on one address; the kernel spreads the clients over those that are listened on. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:  # beside a stranger's socket of the same option, ours would go unnoticed
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    sockets = []
    for _ in range(count):
        each = socket.socket(family, kind, protocol)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        each.bind(address)
        sockets.append(each)
    return sockets


def _say(level: str, message: str) -> None:
    """A log line like those of quicklime_site.logs."""
    now = datetime.now(UTC).replace(tzinfo=None)
    if os.environ.get("QUICKLIME_LOG_FORMAT") == "console":
        line = f"{now:%Y-%m-%dT%H:%M:%SZ} {level.upper()} ocsp.responder: {message}"
    else:
        line = json.dumps({"logger": "ocsp.responder", "level": level, "timestamp": f"{now.isoformat()}Z", "message": message})
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ocsp.responder", description="Serve OCSP responses, CRLs and issuers' certificates.")
    parser.add_argument("--bind", default="127.0.0.1:8080", help="address and port (127.0.0.1:8080)")
    parser.add_argument("--processes", type=int, default=1, help="servers, best one for each core (1)")
    return parser.parse_args()


def main() -> None:
    """Run the command. A wrong address ends it with status 1 and a sentence."""
    arguments = _arguments()
    host, _, port = arguments.bind.rpartition(":")
    try:
        sockets = bind(host.strip("[]"), int(port), max(1, arguments.processes))
    except (OSError, ValueError, OverflowError) as error:
        sys.exit(f"quicklime: --bind {arguments.bind}: {error}")
    Master(sockets).run()


if __name__ == "__main__":
    main()
