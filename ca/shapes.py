"""pkilint's verdict on each shape of certificate, asked before the first signature of the shape and remembered.

Owns the Shape table, a cache: emptied, every verdict is made again. Must never let a shape pass that was not examined,
and never examine under a CA's key.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.conf import settings

from .errors import Problem
from .models import Shape
from .pki import lint
from .pki.leaf import LeafPlan

log = logging.getLogger(__name__)
_DESCRIPTION = Shape._meta.get_field("description").max_length
_FINDINGS = 20  # that are kept of one verdict: they become part of an event, which has an end
_passed: dict[str, int] = {}  # shape key → certificates of it that this process examined fast since it last asked pkilint


def examine(plan: LeafPlan, tbs: bytes, now: datetime) -> lint.Linted:
    """The fast checks on `tbs`, and pkilint on its shape if it is new or the sample is due. Raises Violation (these bytes)
    or Problem "shapeRefused" (the whole shape: nothing of it is signed, and readiness turns red)."""
    linted = lint.check(plan, tbs)
    shape = lint.shape_of(plan)
    if shape.key not in _passed:
        _passed_before(shape, plan, now)
    _passed[shape.key] += 1
    if _passed[shape.key] % settings.PKILINT_SAMPLE == 0:
        _ask_pkilint(shape, plan, now)
    return linted


def refused() -> list[str]:
    """Descriptions of the shapes that failed: what turns readiness red."""
    return list(Shape.objects.filter(passed=False).values_list("description", flat=True))


def _passed_before(shape: lint.Shape, plan: LeafPlan, now: datetime) -> None:
    known = Shape.objects.filter(key=shape.key).first()
    if known is None:
        _ask_pkilint(shape, plan, now)
    elif not known.passed:
        raise _refusal(shape.description, known.findings)
    _passed[shape.key] = 0


def _ask_pkilint(shape: lint.Shape, plan: LeafPlan, now: datetime) -> None:
    findings = lint.pkilint_findings(plan)[:_FINDINGS]
    verdict = {"description": shape.description[:_DESCRIPTION], "passed": not findings, "findings": findings, "at": now}
    if not findings:
        Shape.objects.get_or_create(key=shape.key, defaults=verdict)  # one good sample does not take back a bad one
    else:
        Shape.objects.update_or_create(key=shape.key, defaults=verdict)
        _passed.pop(shape.key, None)
        log.error("pkilint refuses certificates of the shape %s: %s. None of this shape is signed until a release mends it.",
                  shape.description, "; ".join(findings))  # fmt: skip
        raise _refusal(shape.description, findings)


def _refusal(description: str, findings: list[str]) -> Problem:
    return Problem("shapeRefused", f"certificates of the shape {description} fail pkilint: {'; '.join(findings)}")
