"""`python tether.py PARENT COMMAND…`: become COMMAND, and die when the process PARENT dies.

A script of its own, run without any import of Quicklime, so that it costs milliseconds and the kernel's tie is made
before the command's first instruction. A tie made inside the supervisor's fork would run Python between fork and exec.
The kernel keeps the tie across exec (prctl(2), PR_SET_PDEATHSIG). Where there is no prctl, the child outlives a
supervisor that is killed with -9; an orderly stop does not depend on it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Have the kernel kill this process when `parent` dies; exit at once if it already has."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died between our start and the call above
        os._exit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is what is wanted
