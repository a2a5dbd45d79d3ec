"""Log lines: one JSON object per line, whatever a message holds.

Owns the format. Must never write a value raw: JSON escapes the line breaks and control characters of a hostile field,
so that no input can forge a second line.
"""

import logging
import logging.config
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(),
]


def configure(config: dict[str, str]) -> None:
    """Send the whole process's logging to standard error as JSON lines. `config`: {"level": name}."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.root.handlers = [handler]
    logging.root.setLevel(config["level"])
    for noisy in ("celery.worker.strategy", "celery.app.trace", "django.security", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("django.request").setLevel(logging.ERROR)  # below that it writes a line for every 4xx
