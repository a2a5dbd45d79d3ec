"""What can go wrong on a node, in one line: what, why, what to do.

Owns the form of every error message of the client. Must never show a secret, nor let a server's text reach the terminal with
control characters in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Failure(Exception):
    """`what` failed, `why`, and what to `do` about it, "" if nothing can be advised. `retry_after`: seconds that the server
    asks for before the next attempt. `status`: of HTTP, where the server said it."""

    status: int | None = None

    def __init__(self, what: str, why: str, do: str = "", retry_after: float | None = None) -> None:
        super().__init__(plain(f"{what}: {why}" + (f"; {do}" if do else "")))
        self.retry_after = retry_after


class Unreached(Failure):
    """There is no server, or not the right one: whatever is asked next will fail as well."""


class Refused(Failure):
    """The server said no. `stored`: it says no to a request that it keeps, so that the same request gets no other answer
    ever; otherwise the request left no trace there and may be repeated as it is."""

    def __init__(self, what: str, why: str, do: str = "", stored: bool = False) -> None:
        super().__init__(what, why, do)
        self.stored = stored


def plain(text: str) -> str:
    """`text` on one line, every character printable."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def told(error: Failure | OSError) -> str:
    """The line that says what `error` is."""
    if isinstance(error, Failure):
        return str(error)
    return plain(f"{error.filename or 'the system'}: {error.strerror or error}")


@contextmanager
def reported(code: int = 1) -> Iterator[None]:
    """Around the body of a command: a failure is one line on standard error and the exit status `code`."""
    try:
        yield
    except (Failure, OSError) as error:
        typer.echo(f"quicklime: {told(error)}", err=True)
        raise typer.Exit(code) from None
