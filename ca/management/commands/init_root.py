"""manage.py init_root: make a root."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ca import hierarchy, keys
from ca.management import issuer_options


class Command(BaseCommand):
    help = (
        "Make a root: its sealed key, its self-signed certificate, and the event that says so. The first root also brings the "
        "key of the log and the key of the revocation secrets. A key that an interrupted run left is taken up."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", default="root", help="1 to 64 of a-z, 0-9 and - (default %(default)s)")
        issuer_options.add_key_options(parser, years=10)
        issuer_options.add_name_options(parser, "the zones, IP ranges and trust domains of the settings")
        parser.add_argument("--out", type=Path, metavar="FILE", help="also write the certificate there, PEM")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        with issuer_options.told():
            permitted = issuer_options.permitted(options)
            root = hierarchy.init_root(name, datetime.now(UTC), kind=options["kind"], years=options["years"], permitted=permitted)
            if options["out"]:
                issuer_options.write_file(options["out"], hierarchy.pem_of(root))
        self.stdout.write(f"{issuer_options.described(root)}\n  sealed key           {keys.path_of(name)}\n")
        if options["out"]:
            self.stdout.write(f"  certificate          {options['out']}\n")
        self.stdout.write(f"Keep the key, its passphrase and a copy of both. Next: manage.py add_intermediate issuing-1 --parent {name}\n")
