"""The command that tells a service of its new pair.

Owns how it is run: by a shell, in a session of its own, with a time limit. Must never hand it the API token.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile

from .failures import Failure
from .records import Record

LIMIT = 120.0  # seconds; a hook that hangs must not keep the other certificates from being renewed


def run(record: Record, limit: float = LIMIT) -> None:
    """Run the record's reload command, if it has one. Raises Failure if it fails or takes longer than `limit` seconds."""
    if record.place.reload is None:
        return
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            ["/bin/sh", "-c", record.place.reload], env=_environment(record), stdin=subprocess.DEVNULL, stdout=said,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
        said.seek(0)
        words = said.read(2_000).decode(errors="replace").strip()
    if status != 0:
        why = f"exit status {status}" if status is not None else f"still running after {limit:.0f} s, so it was ended"
        raise Failure(
            f"the reload command of {record.label}", f"{why}: {words[:300] or 'it said nothing'}", f"it is {record.place.reload!r}"
        )


def _environment(record: Record) -> dict[str, str]:
    assert record.current
    own = {
        "QUICKLIME_LABEL": record.label,
        "QUICKLIME_DIRECTORY": f"{record.place.out}/current",
        "QUICKLIME_SERIAL": record.current.serial,
    }
    return {name: text for name, text in os.environ.items() if name != "QUICKLIME_TOKEN"} | own


def _end(process: subprocess.Popen[bytes]) -> None:
    """What still runs of it is ended only if it did not finish: a hook may leave a service running."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
