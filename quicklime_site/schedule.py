"""Queues and the periodic tasks, as data.

Owns the order of the queues: a worker looks at later steps first, so that a batch that began ends before another begins;
on one first-in-first-out queue a backlog would run breadth-first, with nothing finished until everything is signed. Before all
of them comes `status`: a revocation, which is little work, waits for no issuance.

What waits for servers of others has a queue of its own, `mail`, and a worker of its own that holds no key: a mail server that
hangs holds up no signature.
"""

from __future__ import annotations

from typing import Any

from kombu import Queue

QUEUES = ("status", "record", "challenge", "sign", "validate", "upkeep")
SLOW = "mail"
TASK_QUEUES = tuple(Queue(name) for name in (*QUEUES, SLOW))
ROUTES = {f"ca.{step}": {"queue": step} for step in ("validate", "sign", "challenge", "record")} | {
    "ca.resume": {"queue": "upkeep"},
    "ca.checkpoint": {"queue": "upkeep"},
    "ca.expire_approvals": {"queue": "upkeep"},
    "ca.tend_ocsp_signers": {"queue": "upkeep"},
    "ca.tend_replacements": {"queue": "upkeep"},
    "ocsp.follow": {"queue": "status"},
    "ocsp.fresh": {"queue": "status"},
    "ocsp.presign": {"queue": "upkeep"},
    "dashboard.follow": {"queue": "upkeep"},
    "dashboard.remind": {"queue": SLOW},
}
# Seconds. A message that waited longer than its period is worthless, as the next one is due; but its end is by the clock of who
# sends it, and judged by that of who receives it. So it is far more than their clocks may differ, and a repeated task does little:
# after an outage of the workers those of EXPIRES are there, some hundreds, and done within seconds.
EXPIRES = 600
BEAT: dict[str, dict[str, Any]] = {
    "resume": {"task": "ca.resume", "schedule": 2.0, "options": {"expires": EXPIRES}},
    "checkpoint": {"task": "ca.checkpoint", "schedule": 10.0, "options": {"expires": EXPIRES}},
    "ocsp follow": {"task": "ocsp.follow", "schedule": 1.0, "options": {"expires": EXPIRES}},
    "ocsp presign": {"task": "ocsp.presign", "schedule": 10.0, "options": {"expires": EXPIRES}},
    "approvals": {"task": "ca.expire_approvals", "schedule": 60.0, "options": {"expires": EXPIRES}},
    "replacements": {"task": "ca.tend_replacements", "schedule": 30.0, "options": {"expires": EXPIRES}},
    "ocsp signers": {"task": "ca.tend_ocsp_signers", "schedule": 60.0, "options": {"expires": EXPIRES}},
    "lineage": {"task": "dashboard.follow", "schedule": 2.0, "options": {"expires": EXPIRES}},
    "remind": {"task": "dashboard.remind", "schedule": 60.0, "options": {"expires": EXPIRES}},
}
