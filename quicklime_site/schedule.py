"""Queues and the periodic tasks, as data.

Owns the order of the queues: a worker looks at later steps first, so that a batch that began ends before another begins;
on one first-in-first-out queue a backlog would run breadth-first, with nothing finished until everything is signed.
"""

from __future__ import annotations

from typing import Any

from kombu import Queue

QUEUES = ("record", "challenge", "sign", "validate", "upkeep")
TASK_QUEUES = tuple(Queue(name) for name in QUEUES)
ROUTES = {f"ca.{step}": {"queue": step} for step in ("validate", "sign", "challenge", "record")} | {
    "ca.resume": {"queue": "upkeep"},
    "ca.checkpoint": {"queue": "upkeep"},
}
BEAT: dict[str, dict[str, Any]] = {
    # a message that waited longer than its period is worthless: the next one is due
    "resume": {"task": "ca.resume", "schedule": 2.0, "options": {"expires": 10}},
    "checkpoint": {"task": "ca.checkpoint", "schedule": 10.0, "options": {"expires": 30}},
}
