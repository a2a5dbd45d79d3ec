"""Load by wrk from the load's core: many connections, each sending its next request as soon as it has its answer."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import paths
from benchmarks.failure import Failed
from benchmarks.machine import LOAD_CORE

_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Post:
    """What is posted: to `url`, each line of the file `bodies` in turn; `pattern` is a Lua pattern whose capture, taken
    from each answer, identifies what was made."""

    url: str
    bodies: Path
    pattern: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """The outcome: latencies of all answers in ms, answers by status, what the pattern captured, and socket errors."""

    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: Counter[int]
    captured: list[str]
    socket_errors: str

    @property
    def refused(self) -> int:
        """Answers that are neither 200 nor 201."""
        return sum(count for status, count in self.statuses.items() if status not in (200, 201))


def run(post: Post, connections: int, seconds: int) -> Loaded:
    """Load `post.url` for `seconds` over keep-alive connections."""
    answers = paths.work() / "answers.txt"
    environment = {
        **os.environ,
        "BENCH_BODIES": str(post.bodies),
        "BENCH_ANSWERS": str(answers),
        "BENCH_PATTERN": post.pattern,
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in post.headers.items()),
    }
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency"]
    done = subprocess.run([*command, "-s", paths.HERE / "post.lua", post.url], env=environment, check=True, capture_output=True, text=True)
    return _parse(done.stdout, answers.read_text().splitlines())


def _parse(report: str, answers: list[str]) -> Loaded:
    statuses, captured = Counter(int(line.split(" ", 1)[0]) for line in answers), [line.split(" ", 1)[1] for line in answers]
    took = re.search(r"requests in ([\d.]+)(us|ms|s|m)", report)
    errors = re.search(r"Socket errors: (.*)", report)
    if not took:
        raise Failed(f"wrk said:\n{report}")
    return Loaded(
        seconds=_ms(took[1], took[2]) / 1e3,
        p50_ms=_percentile(report, 50),
        p99_ms=_percentile(report, 99),
        statuses=statuses,
        captured=[text for text in captured if text],
        socket_errors=errors[1] if errors else "",
    )


def _percentile(report: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)\s*$", report, re.M)
    return _ms(found[1], found[2]) if found else float("nan")


def _ms(number: str, unit: str) -> float:
    return float(number) * _MILLISECONDS[unit]
