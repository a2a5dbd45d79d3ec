"""What the machine does while something is measured: CPU seconds per process, per core, and load that is nobody's we know.

Everything is read from /proc, whose CPU times are ticks of 10 ms; nothing here starts or stops a process.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

SERVER_CORE, LOAD_CORE = 0, 1
FOREIGN_LIMIT = 0.06  # cores; more than this used by others, and a run is taken again
_TICK = os.sysconf("SC_CLK_TCK")
_STAT_IDLE, _STAT_IOWAIT, _STAT_FIELDS = 3, 4, 8


class Measured(Protocol):
    """A started server: `pid` of its first process and the name its processes go by in a table."""

    pid: int

    def label(self, command: str) -> str: ...


@dataclass(frozen=True)
class Usage:
    """CPU used during one measurement. `cpu`: seconds by process name; `load`: seconds of this process and of what it
    ran to the end; `foreign`: cores used by anything else; `core_busy`: seconds the servers' core was not idle."""

    seconds: float
    cpu: dict[str, float]
    load: float
    foreign: float
    core_busy: float


class Meter:
    """`with Meter(servers) as meter: …` – afterwards `meter.usage` says what the servers and others used."""

    usage: Usage

    def __init__(self, servers: Iterable[Measured]) -> None:
        self._servers = list(servers)

    def __enter__(self) -> Self:
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        start, cpu, busy, core, load = self._before
        end, cpu_now, busy_now, core_now, load_now = self._now()
        seconds, used, loaded = end - start, cpu_now - cpu, load_now - load
        foreign = (busy_now - busy - used.total() - loaded) / seconds
        self.usage = Usage(seconds, dict(used), loaded, foreign, core_now - core)

    def _now(self) -> tuple[float, Counter[str], float, float, float]:
        own = os.times()
        load = own.user + own.system + own.children_user + own.children_system
        return time.perf_counter(), cpu_seconds(self._servers), _busy("cpu"), _busy(f"cpu{SERVER_CORE}"), load


def cpu_seconds(servers: Iterable[Measured]) -> Counter[str]:
    """User and system seconds so far by process name, of the servers' living processes and the children these reaped."""
    total: Counter[str] = Counter()
    for server in servers:
        for pid in tree(server.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended: its parent's reaped time now holds its own
            total[server.label(command)] += sum(map(int, fields[11:15])) / _TICK
    return total


def tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended
    for thread in threads:
        try:
            found = (thread / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # that thread ended
        for child in found:
            yield from tree(int(child))


def _busy(row: str) -> float:
    """Seconds a core ("cpu0"), or all of them ("cpu"), was not idle since boot."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.split()[0] == row)
    fields = [int(field) for field in line.split()[1 : 1 + _STAT_FIELDS]]
    return (sum(fields) - fields[_STAT_IDLE] - fields[_STAT_IOWAIT]) / _TICK


def pin_this_process() -> None:
    """Keep this process, and the load it starts, off the servers' core."""
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("the benchmarks need cores 0 and 1: one for the servers, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})


def disk(directory: Path) -> str:
    """How fast the disk below `directory` says that 8 kB are durable."""
    count, page = 500, os.urandom(8192)
    with tempfile.TemporaryFile(dir=directory) as file:
        start = time.perf_counter()
        for _ in range(count):
            os.pwrite(file.fileno(), page, 0)
            os.fdatasync(file.fileno())
        return f"{count / (time.perf_counter() - start):,.0f} fdatasync of 8 kB a second"


def describe() -> str:
    """The processor, the cores and the kernel in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    python = f"Python {platform.python_version()}, {'the' if sys.base_prefix == '/usr' else 'not the'} system's own"
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, {python}"
