"""Files that are whole or not there, through a crash at any line.

Owns how the client writes. Must never have a secret in a file that others can read, not even for a moment, nor let the umask
of whoever runs this decide who can read it. What a crash leaves behind is named `.….new`, is never read, and the next write
replaces it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o644  # modes


def replace(path: Path, data: bytes, mode: int) -> None:
    """Have `data` at `path`, durably. Before the rename the old file is in place, after it the new one. One writer at a time:
    the caller holds a lock. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    create(fresh, data, mode)
    os.replace(fresh, path)
    sync_directory(path.parent)


def create(path: Path, data: bytes, mode: int) -> None:
    """A new file, durable but for its directory entry. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    try:
        os.fchmod(descriptor, mode)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def point(link: Path, target: str) -> None:
    """Have the symbolic link `link` lead to `target`: one rename, so that nobody ever finds it missing. Raises OSError."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    os.replace(fresh, link)
    sync_directory(link.parent)


def new_directory(path: Path) -> None:
    """An empty directory, also where a crash has left one. Raises OSError."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir()
    path.chmod(0o755)
