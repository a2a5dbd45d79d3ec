"""Log lines: no value forges one, in either form, and each says what it is about."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars

from quicklime_site import logs

HOSTILE = "x\n2026-03-01T12:00:00Z ERROR ca: forged\r\x1b[2K\x00\x85\u2028\u202e\ud800ü"
log = logging.getLogger("tests.logs")


@pytest.fixture
def lines() -> Iterator[Callable[[str], Callable[[], list[str]]]]:
    """Configure a form, and give what was written since. Whatever a line holds, it can be written to a terminal or file of UTF-8."""
    root, handlers, level, show = logging.root, logging.root.handlers, logging.root.level, warnings.showwarning
    written = io.TextIOWrapper(io.BytesIO(), "utf-8")

    def configure(form: str) -> Callable[[], list[str]]:
        logs.configure({"level": "INFO", "format": form})
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        return read

    def read() -> list[str]:
        written.flush()
        assert isinstance(written.buffer, io.BytesIO)
        return written.buffer.getvalue().decode().split("\n")[:-1]

    yield configure
    root.handlers, warnings.showwarning = handlers, show
    root.setLevel(level)


def fail() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("it failed: %s", HOSTILE, extra={"name_of_it": HOSTILE})


Lines = Callable[[str], Callable[[], list[str]]]


def test_json_lines_hold_everything_and_are_forged_by_nothing(lines: Lines) -> None:
    read = lines(logs.JSON)
    with bound_contextvars(request_id="r-1"):
        fail()
    (line,) = read()
    assert line.isascii()
    assert line.isprintable()
    said = json.loads(line)
    assert (said["message"], said["name_of_it"], said["request_id"]) == (f"it failed: {HOSTILE}", HOSTILE, "r-1")
    assert (said["logger"], said["level"]) == ("tests.logs", "error")
    assert said["exception"].startswith("Traceback")
    assert said["timestamp"].endswith("Z")


def test_text_for_people_is_forged_by_nothing_either(lines: Lines) -> None:
    read = lines(logs.CONSOLE)
    with bound_contextvars(request_id="r-1"):
        fail()
    first, *rest = read()
    assert first.isprintable()
    assert first[20:].startswith(" ERROR tests.logs: it failed: x\\n2026-03-01T12:00:00Z ERROR ca: forged\\r\\x1b[2K\\x00")
    assert "\\u202e\\ud800ü" in first
    assert "  request_id=r-1" in first
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_what_python_warns_of_is_a_line_too(lines: Lines) -> None:
    read = lines(logs.JSON)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)  # catch_warnings has put back what it found
        warnings.warn("it is old", UserWarning, stacklevel=1)
    assert "UserWarning: it is old" in json.loads(read()[0])["message"]


def test_a_task_that_failed_is_told_once(lines: Lines) -> None:
    read = lines(logs.JSON)
    logging.getLogger("celery.app.trace").error("failed", extra={"data": {"traceback": "a long one"}})
    assert "data" not in json.loads(read()[0])


@pytest.mark.parametrize("form", logs.FORMATS)
def test_the_responders_master_says_it_in_the_same_form(form: str, tmp_path: Path) -> None:
    """It imports nothing of ours, so it writes lines itself. Its generation cannot start: the settings are wrong."""
    environ = {**os.environ, "QUICKLIME_LOG_FORMAT": form, "QUICKLIME_RATE": "fast"}
    command = [sys.executable, "-m", "ocsp.responder", "--bind", "127.0.0.1:0"]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = next(line for line in process.stderr if "did not start" in line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    if form == logs.JSON:
        said: dict[str, Any] = json.loads(line)
        assert said.keys() == {"logger", "level", "timestamp", "message"}
    else:
        assert line[20:] == " ERROR ocsp.responder: a generation did not start (status 1)\n"
