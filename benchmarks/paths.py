"""Where the benchmarks keep things: below QUICKLIME_BENCH_CACHE (default ~/.cache/quicklime-bench), and clusters below
QUICKLIME_BENCH_DISK (default /var/tmp), which PostgreSQL's user must reach."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
DISK = Path(os.environ.get("QUICKLIME_BENCH_DISK") or "/var/tmp").absolute()


def cache() -> Path:
    """The cache directory, made if it is not there."""
    return _made(Path(os.environ.get("QUICKLIME_BENCH_CACHE") or Path.home() / ".cache" / "quicklime-bench").absolute())


def work() -> Path:
    """Inputs of the load and what the load was answered."""
    return _made(cache() / "work")


def logs() -> Path:
    """Output of the servers."""
    return _made(cache() / "logs")


def results(name: str) -> Path:
    """One JSON file for each section."""
    return _made(cache() / name)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory
