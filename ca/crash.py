"""Named places where the tests kill the process with SIGKILL, to see what a crash there means.

Does nothing unless the test settings say CRASH_POINTS: no environment variable can stop a real installation.
"""

import os
import signal

from django.conf import settings

_passes: dict[str, int] = {}


def point(name: str) -> None:
    """Die here if QUICKLIME_CRASH is `name`, or `name:n` and this is the n-th pass."""
    if not settings.CRASH_POINTS:
        return
    wanted, _, number = os.environ.get("QUICKLIME_CRASH", "").partition(":")
    if wanted == name:
        _passes[name] = _passes.get(name, 0) + 1
        if _passes[name] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
