"""Checkpoints kept outside the database, in settings.CHECKPOINT_DIR.

    checkpoint            the newest
    daily/2026-01-31      the first of each UTC day, never replaced
    vkey                  the keys that signed them, one C2SP verifier key a line
    lost/…                what an operator gave up with accept_log_loss

A database restored from last night's dump contradicts nothing inside itself: these files are what remembers. A crash
between a commit and its file loses only that file's news; the next checkpoint carries it too.

`checkpoint` is overwritten in place, under a lock, by one write of less than a disk sector: to the reader, to kill -9 and to a power
cut it is the old one or the new one. Creating and renaming a file for every commit costs ten times as much, and on a
shared disk makes the database's own commits wait for the file system's journal.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from django.conf import settings

from . import notes

_MOST = 4_096  # bytes; a checkpoint has about 200


def directory() -> Path:
    path: Path = settings.CHECKPOINT_DIR
    return path


def newest(path: Path | None = None) -> notes.Note | None:
    """The newest saved checkpoint, or None when none was ever saved. Raises notes.BadNote for a damaged file."""
    try:
        with _locked(path or directory(), os.O_RDONLY, fcntl.LOCK_SH) as file:
            return _read(file)
    except FileNotFoundError:
        return None


def all_notes(path: Path | None = None) -> list[notes.Note]:
    """Every saved checkpoint, smallest first. Raises notes.BadNote for a damaged file."""
    found = [_parse(file.read_bytes(), str(file)) for file in _daily(path or directory())]
    last = newest(path)
    return sorted([*found, last] if last else found, key=lambda note: note.size)


def vkeys(path: Path | None = None) -> tuple[str, ...]:
    """The verifier keys that signed here."""
    try:
        return tuple(((path or directory()) / "vkey").read_text().split())
    except FileNotFoundError:
        return ()


def publish(text: str, vkey: str, now: datetime) -> None:
    """Save a checkpoint that is committed. One not beyond the newest saved is left: another process was faster."""
    base = directory()
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as file:
        before = _read(file)
        if before and before.size >= notes.parse(text).size:
            return
        _remember(base, vkey)
        _keep_daily(base / "daily" / now.astimezone(UTC).date().isoformat(), text)
        _overwrite(file, text.encode())


def file_away(lost: list[notes.Note], now: datetime) -> None:
    """Move the saved checkpoints `lost`, which today's log does not continue, to lost/."""
    base, texts, stamp = directory(), {note.text for note in lost}, f"{now:%Y%m%dT%H%M%S%fZ}"
    (base / "lost").mkdir(exist_ok=True)
    with _locked(base, os.O_RDWR, fcntl.LOCK_EX) as file:
        for day in _daily(base):
            if day.read_text() in texts:
                os.replace(day, base / "lost" / f"{day.name}-{stamp}")
        last = _read(file)
        if last and last.text in texts:
            _replace(base / "lost" / f"checkpoint-{stamp}", last.text)
            _overwrite(file, b"")


@contextmanager
def _locked(base: Path, flags: int, lock: int) -> Iterator[int]:
    """The open file `checkpoint`, whose lock covers the whole directory."""
    file = os.open(base / "checkpoint", flags, 0o644)
    try:
        fcntl.flock(file, lock)
        yield file
    finally:
        os.close(file)


def _read(file: int) -> notes.Note | None:
    content = os.pread(file, _MOST, 0)
    return _parse(content, "checkpoint") if content else None


def _parse(content: bytes, name: str) -> notes.Note:
    try:
        return notes.parse(content.decode())
    except (notes.BadNote, UnicodeDecodeError) as error:
        raise notes.BadNote(f"{name}: {error}") from None


def _overwrite(file: int, content: bytes) -> None:
    if os.fstat(file).st_size > len(content):
        os.ftruncate(file, 0)
    os.pwrite(file, content, 0)
    os.fdatasync(file)


def _daily(base: Path) -> list[Path]:
    return [file for file in base.glob("daily/*") if file.suffix != ".new"]


def _keep_daily(day: Path, text: str) -> None:
    if not day.exists():
        _replace(day, text)


@cache  # a key is written once, not with every checkpoint
def _remember(base: Path, vkey: str) -> None:
    if vkey not in vkeys(base):
        _replace(base / "vkey", "".join(f"{key}\n" for key in (*vkeys(base), vkey)))


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, also after a power cut."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(path.name + ".new")
    with open(new, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
