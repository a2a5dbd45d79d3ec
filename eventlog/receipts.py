"""Receipts: what shows, offline and to anyone who holds the log's public key, that the log contains an event.

Reads only.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from . import proofs
from .models import Checkpoint, Event


class NotLogged(LookupError):
    """There is no such event."""


class NotYetSigned(LookupError):
    """No checkpoint covers the event yet; one follows shortly."""


def receipt(position: int) -> dict[str, Any]:
    """{"position", "event": the hashed text, "tlog_proof": C2SP tlog-proof text, "log_key": C2SP verifier key}.

    To check it: the note's signature under a log_key known beforehand, then SHA-256(0x00 ‖ event) up the proof to the
    note's root. Raises NotLogged or NotYetSigned.
    """
    body = Event.objects.filter(position=position).values_list("body", flat=True).first()
    if body is None:
        raise NotLogged(f"the log has no event {position}")
    checkpoint = Checkpoint.objects.order_by("-size").first()
    if checkpoint is None or checkpoint.size < position:
        raise NotYetSigned(f"no checkpoint covers event {position} yet")
    path = proofs.inclusion_proof(position, checkpoint.size)
    return {
        "position": position,
        "event": bytes(body).decode(),
        "tlog_proof": _tlog_proof(position - 1, path, checkpoint.note),
        "log_key": checkpoint.vkey,
    }


def _tlog_proof(index: int, path: list[bytes], note: str) -> str:
    lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *(b64encode(node).decode() for node in path)]
    return "\n".join(lines) + "\n\n" + note
