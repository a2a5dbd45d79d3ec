"""manage.py add_intermediate: make an issuing intermediate, here or in a ceremony over files."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ca import hierarchy, keys
from ca.management import issuer_options

_CEREMONY = """
With the root's key on another machine, in three steps:
  1. here:                     add_intermediate NAME --csr-out NAME.csr
  2. on the root's machine:    add_intermediate --sign NAME.csr --parent root --out NAME.pem
  3. here again:               add_intermediate NAME --import NAME.pem --root-fingerprint SHA256
Each step may be repeated. Then: activate_issuer NAME"""


class Command(BaseCommand):
    help = "Make an issuing intermediate under a root. It signs nothing before activate_issuer.\n" + _CEREMONY

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="1 to 64 of a-z, 0-9 and -; with --sign the request says it")
        parser.add_argument("--parent", default="root", metavar="ROOT", help="the root that signs it (default %(default)s)")
        issuer_options.add_key_options(parser, years=5)
        issuer_options.add_name_options(parser, "what the root permits")
        ceremony = parser.add_argument_group("ceremony").add_mutually_exclusive_group()
        ceremony.add_argument("--csr-out", type=Path, metavar="FILE", help="make the key here and write the request for it")
        ceremony.add_argument("--sign", type=Path, metavar="CSR", help="sign that request with the root's key; needs --out")
        ceremony.add_argument("--import", type=Path, metavar="FILE", dest="chain", help="take in intermediate and root, PEM")
        parser.add_argument("--out", type=Path, metavar="FILE", help="with --sign: where the two certificates go")
        parser.add_argument("--root-fingerprint", metavar="SHA256", help="with --import: the root's, as its own machine shows it")
        parser.add_argument("--root-name", metavar="NAME", help="with --import: what the root is called here (default its common name)")

    def handle(self, *args: Any, **options: Any) -> None:
        with issuer_options.told():
            if options["sign"]:
                self._sign(options)
            elif not options["name"]:
                raise CommandError("name the intermediate, for example: add_intermediate issuing-1")
            elif options["csr_out"]:
                self._request(options)
            elif options["chain"]:
                self._import(options)
            else:
                self._make(options)

    def _make(self, options: dict[str, Any]) -> None:
        name, permitted = options["name"], issuer_options.permitted(options)
        issuer = hierarchy.add_intermediate(
            name, options["parent"], datetime.now(UTC), kind=options["kind"], years=options["years"], permitted=permitted
        )
        self.stdout.write(f"{issuer_options.described(issuer)}\n  sealed key           {keys.path_of(name)}\n")
        self.stdout.write(f"Next: manage.py activate_issuer {name}\n")

    def _request(self, options: dict[str, Any]) -> None:
        name, path = options["name"], options["csr_out"]
        issuer_options.write_file(path, hierarchy.intermediate_csr(name, options["kind"]))
        self.stdout.write(f"request for {name}       {path}\n  sealed key           {keys.path_of(name)}\n")
        self.stdout.write(f"Next, on the root's machine: manage.py add_intermediate --sign {path.name} --parent ROOT --out {name}.pem\n")

    def _sign(self, options: dict[str, Any]) -> None:
        if not options["out"]:
            raise CommandError("name the file for the certificates: --out FILE")
        request, permitted = options["sign"].read_bytes(), issuer_options.permitted(options)
        chain = hierarchy.sign_intermediate(request, options["parent"], datetime.now(UTC), years=options["years"], permitted=permitted)
        issuer_options.write_file(options["out"], chain)
        root = hierarchy.find(options["parent"])
        self.stdout.write(f"intermediate and root  {options['out']}\n{issuer_options.described(root)}\n")
        self.stdout.write(
            f"Next, on the intermediate's machine: manage.py add_intermediate NAME --import {options['out'].name} "
            f"--root-fingerprint {root.fingerprint}\n"
        )

    def _import(self, options: dict[str, Any]) -> None:
        name, chain = options["name"], options["chain"].read_bytes()
        issuer = hierarchy.import_intermediate(
            name, chain, datetime.now(UTC), root_fingerprint=options["root_fingerprint"], root_name=options["root_name"]
        )
        self.stdout.write(f"{issuer_options.described(issuer)}\nNext: manage.py activate_issuer {name}\n")
