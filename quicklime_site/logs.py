"""Log lines: one JSON object per line, or plain text for people, whatever a message holds.

Owns the two forms. Must never write a value raw: JSON escapes the line breaks and control characters of a hostile field, plain
text does the same and indents what has lines of its own, so that no input can forge a line.
"""

from __future__ import annotations

import logging
import logging.config
from collections.abc import MutableMapping
from typing import Any

import structlog

JSON, CONSOLE = "json", "console"
FORMATS = (JSON, CONSOLE)
# These say nothing that a line of ours does not: a task that ended, a task that was sent, a request that was answered 4xx.
_NOISY = {
    "celery.worker.strategy": logging.WARNING,
    "celery.app.trace": logging.WARNING,
    "celery.beat": logging.WARNING,
    "django.security": logging.WARNING,
    "httpx": logging.WARNING,
    "django.request": logging.ERROR,
}
_Line = MutableMapping[str, Any]


def configure(config: dict[str, str]) -> None:
    """Send the whole process's logging, and Python's warnings, to standard error. `config`: {"level": name, "format": of FORMATS}."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(config["format"]))
    logging.root.handlers = [handler]
    logging.root.setLevel(config["level"])
    logging.captureWarnings(True)
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(level)


def _formatter(form: str) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _without_repetition,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer() if form == JSON else _plain,
        ],
    )


def _without_repetition(_: Any, __: str, line: _Line) -> _Line:
    """Celery adds to a task that failed, besides the exception, all that it knows of the task, the traceback once more among it."""
    if line["logger"] == "celery.app.trace":
        line.pop("data", None)
    return line


def _plain(_: Any, __: str, line: _Line) -> str:
    """ "2026-03-01T12:00:00Z WARNING ca.tasks: no wake-up could be sent  task=ca.resume", a traceback indented below."""
    time, level, logger = line.pop("timestamp"), line.pop("level"), line.pop("logger")
    message, trace = line.pop("message"), line.pop("exception", "")
    more = "".join(f"  {name}={value}" for name, value in line.items())
    said = f"{time[:19]}Z {level.upper()} {logger}: {message}{more}"
    return "\n    ".join(map(_printable, [said, *trace.split("\n")] if trace else [said]))


def _printable(text: str) -> str:
    """`text` with everything escaped that moves a cursor, hides, or turns around what stands beside it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
