"""`python -m benchmarks [SECTION]…`: install the peers, measure, write docs/benchmarks.md."""

from __future__ import annotations

import argparse
import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import psycopg

from benchmarks import (
    agents,
    bulk,
    crl,
    expiry,
    inputs,
    install,
    issuance,
    latency,
    lineage,
    listing,
    log,
    machine,
    ocsp,
    pages,
    paths,
    presign,
    render,
    revocation,
    status,
)
from benchmarks.failure import Failed, Paused
from benchmarks.results import Options, Section

SECTIONS: dict[str, Callable[[Section], None]] = {
    "issuance": issuance.run,
    "bulk": bulk.run,
    "latency": latency.run,
    "log": log.run,
    "list": listing.run,
    "ocsp": ocsp.run,
    "presign": presign.run,
    "revocation": revocation.run,
    "crl": crl.run,
    "agents": agents.run,
    "expiry": expiry.run,
    "lineage": lineage.run,
    "pages": pages.run,
}
MEASURED: dict[str, Callable[[Section], None]] = {**SECTIONS, "peers": issuance.peers, "own": issuance.own, "fill": presign.prepare}
OTHERS = {
    "all": "every section but peers, own and fill",
    "peers": "the peers alone",
    "own": "Quicklime's rows of issuance alone",
    "fill": "what presign --resume measures, so that it need not do so",
    "render": "only write the page",
    "clean": "remove what is kept for --resume",
}


def main() -> int:
    """Run what the command line asks for; the number of sections that failed."""
    arguments = _arguments()
    names = [name for given in arguments.what or ["all"] for name in (SECTIONS if given == "all" else [given])]
    if "clean" in names:
        log.clean()
        for name in SECTIONS:
            log.clean(status.directory(name))
        log.clean(pages.KEPT)
    failed = _measure([name for name in names if name in MEASURED], _options(arguments))
    if not arguments.quick and names != ["clean"]:
        print(f"wrote {render.write()}")
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what", nargs="*", metavar="SECTION", help=", ".join([*SECTIONS, *(f"{name} ({does})" for name, does in OTHERS.items())])
    )
    parser.add_argument("--resume", action="store_true", help="keep the rows that the last run measured")
    parser.add_argument("--quick", action="store_true", help="short runs, to try it out: kept apart, never written to the page")
    parser.add_argument("--events", type=int, help="events in the log, certificates in the list (1,000,000)")
    parser.add_argument("--runs", type=int, default=Options.runs, help=f"of which each figure is the median ({Options.runs})")
    parser.add_argument("--minutes", type=float, help="begin no other figure after so long: --resume goes on")
    parser.add_argument("--tries", type=int, default=Options.tries, help=f"of a run that others disturb, at most ({Options.tries})")
    arguments = parser.parse_args()
    if unknown := set(arguments.what) - {*SECTIONS, *OTHERS}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return arguments


def _options(arguments: argparse.Namespace) -> Options:
    until = float("inf") if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    given = Options(runs=arguments.runs, tries=arguments.tries, events=arguments.events or 1_000_000, resume=arguments.resume, until=until)
    return replace(given, seconds=2, runs=1, tries=1, events=arguments.events or 20_000, quick=True) if arguments.quick else given


def _measure(names: list[str], options: Options) -> int:
    """Take the sections, one benchmark at a time on this machine; how many failed."""
    if not names:
        return 0
    with (paths.cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another benchmark is running") from None
        machine.pin_this_process()
        install.everything()
        inputs.pool()
        return sum(not _section(name, options) for name in names)


def _section(name: str, options: Options) -> bool:
    """Whether the section went through. What it measured before it failed is kept for --resume."""
    start = time.monotonic()
    print(name, flush=True)
    try:
        MEASURED[name](Section(name, " ".join(["python -m benchmarks", *sys.argv[1:]]), options))
    except (Failed, OSError, psycopg.Error, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", flush=True)
        return False
    except Paused:
        print(f"{name}: paused; --resume goes on", flush=True)
    print(f"{name}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
