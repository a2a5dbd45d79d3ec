"""A company's directory: OpenLDAP on this machine, with people, groups and whoever asks, for as long as a module's tests run."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import ldap
from ldap.controls import ManageDSAITControl
from ldap.dn import escape_dn_chars
from ldap.ldapobject import LDAPObject
from ldap.modlist import addModlist

from .tls import Pair

PROGRAM = Path("/usr/sbin/slapd")
ROOT, PEOPLE, GROUPS = "dc=example,dc=org", "ou=people,dc=example,dc=org", "ou=groups,dc=example,dc=org"
READER, READER_PASSWORD, MASTER = f"cn=quicklime,{ROOT}", "r3ader pa55", "m4ster"
# An empty password is let in as nobody, as some directories do: it is for Quicklime never to send one.
_CONFIG = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
allow bind_anon_dn
TLSCertificateFile {files.certificate}
TLSCertificateKeyFile {files.key}
database mdb
suffix "{ROOT}"
rootdn "cn=master,{ROOT}"
rootpw {MASTER}
directory {directory}
dbnosync
overlay memberof
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{READER}" read by * none
"""


@dataclass
class Slapd:
    """`master` may write everything."""

    plain: int
    secure: int
    path: Path
    master: LDAPObject

    def add(self, name: str, kinds: Sequence[str], **attributes: str | Sequence[str]) -> str:
        said = {"objectClass": kinds, **attributes}
        coded = {key: [each.encode() for each in ([value] if isinstance(value, str) else value)] for key, value in said.items()}
        self.master.add_s(name, addModlist(coded))
        return name

    def person(self, login: str, password: str, name: str = "", below: str = PEOPLE) -> str:
        """The distinguished name of a new entry, of which the first part is `name`."""
        name = f"{name or f'uid={escape_dn_chars(login)}'},{below}"
        return self.add(name, ["inetOrgPerson"], uid=login, cn=login, sn=login, userPassword=password)

    def group(self, name: str, *members: str) -> None:
        """From now on the group has these members; without any there is none."""
        entry = f"cn={name},{GROUPS}"
        with suppress(ldap.NO_SUCH_OBJECT):
            self.master.delete_s(entry)
        if members:
            self.add(entry, ["groupOfNames"], cn=name, member=members)

    @contextmanager
    def referring(self, name: str, server: socket.socket) -> Iterator[str]:
        """An entry that says that all from there on is at another server."""
        address = f"ldap://127.0.0.1:{server.getsockname()[1]}/dc=elsewhere"
        yield self.add(name, ["referral", "extensibleObject"], ou=name.partition(",")[0].removeprefix("ou="), ref=address)
        self.master.delete_ext_s(name, serverctrls=[ManageDSAITControl()])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(directory: Path, files: Pair) -> Iterator[Slapd]:
    (directory / "data").mkdir()
    names = {"files": files, "directory": directory / "data", "ROOT": ROOT, "MASTER": MASTER, "READER": READER}
    (directory / "slapd.conf").write_text(_CONFIG.format(**names))
    plain, secure, path = free_port(), free_port(), directory / "ldapi"
    urls = f"ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{secure} ldapi://{quote(str(path), safe='')}"
    with subprocess.Popen([PROGRAM, "-f", directory / "slapd.conf", "-h", urls, "-d", "0"]) as process:
        try:
            master = _master(plain, process)
            found = Slapd(plain, secure, path, master)
            found.add(ROOT, ["organization", "dcObject"], dc="example", o="Example")
            found.add(PEOPLE, ["organizationalUnit"], ou="people")
            found.add(GROUPS, ["organizationalUnit"], ou="groups")
            found.add(READER, ["organizationalRole", "simpleSecurityObject"], cn="quicklime", userPassword=READER_PASSWORD)
            yield found
            master.unbind_s()
        finally:
            process.terminate()


def _master(port: int, process: subprocess.Popen[bytes]) -> LDAPObject:
    master, end = ldap.initialize(f"ldap://127.0.0.1:{port}"), time.monotonic() + 10
    while True:
        try:
            master.simple_bind_s(f"cn=master,{ROOT}", MASTER)
            return master
        except ldap.SERVER_DOWN:
            assert process.poll() is None, "slapd ended"
            assert time.monotonic() < end, "slapd does not answer"
            time.sleep(0.02)
