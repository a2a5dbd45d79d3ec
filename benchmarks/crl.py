"""A CRL of a hundred thousand entries: read from the database, built, signed and stored.

`python -m benchmarks.crl` is what is timed: a process on the servers' core, with the settings of a Quicklime, that makes
every CRL which is due, as the worker does; it prints {"seconds"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime

import django
from cryptography import x509

from benchmarks import log, status
from benchmarks.failure import Failed
from benchmarks.quicklime import DATABASE, Services
from benchmarks.results import Row, Section

ENTRIES = 100_000


def run(section: Section) -> None:
    """The row "CRL"."""
    entries = min(ENTRIES, section.options.events)
    with status.filled(section, entries) as directory, Services(directory) as services:
        section.facts.update(services.facts())
        log.run_command(log.filling("revoked", entries), services.environment())
        log.run_command(status.manage("presign"), services.environment())  # the projection reads what the log now says
        section.measure("CRL", lambda: published(services, entries))


def published(services: Services, entries: int) -> Row:
    """One run, after which the CRL is read as a relying party reads it."""
    with services.postgres.connect(DATABASE) as connection:
        connection.execute("DELETE FROM ocsp_crl")
        row = log.timed(services, [sys.executable, "-m", "benchmarks.crl"], entries)
        found = connection.execute("SELECT der FROM ocsp_crl WHERE issuer = %s AND shard = -1", [status.ISSUER]).fetchone()
    crl = x509.load_der_x509_crl(found[0] if found else b"")
    if len(crl) < entries or not crl.is_signature_valid(status.issuer(services).public_key()):
        raise Failed(f"the CRL lists {len(crl):,} certificates of {entries:,}, or its signature is wrong")
    return {**row, "entries": len(crl), "crl_mb": len(found[0]) / 2**20}


def main() -> None:
    """Make the CRLs that are due."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")
    django.setup()
    from ocsp import crls

    start = time.perf_counter()
    while crls.publish_due(datetime.now(UTC)):
        pass
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
