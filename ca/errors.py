"""The one exception that ca raises for what a caller did or must wait for.

Owns the shape of a refusal. Must not know HTTP: `ca.api.problems` holds the one mapping from code to status.
"""

from __future__ import annotations

from typing import Any

from .pki.violations import Violation


class Problem(Exception):
    """A refusal. `code` names the rule, `detail` explains it, `where` is the place of the offending value ("" = the
    whole request), `retry_after` seconds for what may go well later."""

    def __init__(self, code: str, detail: str, where: str = "", retry_after: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.where, self.retry_after = code, detail, where, retry_after

    @classmethod
    def from_violation(cls, violation: Violation) -> Problem:
        """The same refusal, from the pure rules of ca.pki."""
        return cls(violation.code, violation.detail, violation.where)

    def as_dict(self) -> dict[str, Any]:
        """What is stored with a rejected request: {"code", "detail", "where"}."""
        return {"code": self.code, "detail": self.detail, "where": self.where}
