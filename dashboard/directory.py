"""The company's directory (LDAP), asked whether a name and a password belong together, and who that is.

Owns the conversation: as whom it is asked, what is searched for, and what counts of its answers. Must never send an empty password, by
which a directory lets anybody in as nobody (RFC 4513 §5.1.2), follow a referral with a password, or say a password in any message. The
directory may be down, slow or lie: then Unavailable says what to do, and nobody comes in this way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ldap
from ldap.filter import escape_filter_chars
from ldap.ldapobject import LDAPObject

from . import directory_connection
from .directory_connection import WHOLE, NotReached
from .directory_settings import DN, Directory
from .distinguished_names import is_below, normal
from .vouched import MAX_GROUPS, MAX_SUBJECT, Person

AT_ONCE = 8  # conversations of one process: a directory that hangs holds no more of its threads
_slots = threading.BoundedSemaphore(AT_ONCE)
_MEMBER_OF, _NO_ATTRIBUTES = "memberOf", "1.1"  # RFC 4511 §4.5.1.8
_REFUSALS = (  # of a person's password or account; everything else is a fault of the directory's or the settings'
    ldap.INVALID_CREDENTIALS, ldap.INAPPROPRIATE_AUTH, ldap.UNWILLING_TO_PERFORM, ldap.CONSTRAINT_VIOLATION, ldap.INSUFFICIENT_ACCESS,
    ldap.NO_SUCH_OBJECT,
)  # fmt: skip
_ADVICE: Mapping[type[ldap.LDAPError], str] = {
    ldap.SERVER_DOWN: f"it ended the connection, or did not answer within {WHOLE:g} seconds: see its log",
    ldap.TIMEOUT: f"it did not answer within {WHOLE:g} seconds: see its log",
    ldap.INVALID_CREDENTIALS: "it refuses bind_dn with the password of bind_password_file",
    ldap.INSUFFICIENT_ACCESS: "bind_dn may not read there",
    ldap.NO_SUCH_OBJECT: "base or group_base is not there, or bind_dn may not see it",
    ldap.SIZELIMIT_EXCEEDED: "it finds too much: several entries of one login, or more groups of a person than are read",
    ldap.FILTER_ERROR: "it does not understand filter",
    ldap.CONFIDENTIALITY_REQUIRED: "it wants TLS: see url",
}


class Unavailable(Exception):
    """The directory gave no answer that counts; the text tells an operator what to do."""


def person(directory: Directory, name: str, password: str) -> Person | None:
    """Whoever signs in there by this name and password; None if nobody does. Raises Unavailable."""
    if not name or not password or "\0" in name + password:
        return None
    with _speaking(directory) as speaking:
        found = _entry(speaking, directory, name)
        if found is None:
            return None
        entry, attributes = found
        known = _person(speaking, directory, entry, attributes)
        return known if _opens(speaking, entry, password) else None


@contextmanager
def _speaking(directory: Directory) -> Iterator[LDAPObject]:
    """A connection on which whoever asks has said who that is. Raises Unavailable."""
    if not _slots.acquire(blocking=False):
        raise Unavailable(f"{AT_ONCE} sign-ins wait for it already: see whether it is slow")
    try:
        with directory_connection.opened(directory.server, directory.ca_file) as connection:
            speaking = _spoken(connection)
            try:
                speaking.simple_bind_s(directory.bind_dn, directory.bind_password)
                yield speaking
            finally:
                speaking.unbind_s()
    except NotReached as error:
        raise Unavailable(str(error)) from None
    except ValueError:
        raise Unavailable("it says names that are none") from None
    except ldap.LDAPError as error:
        raise Unavailable(_ADVICE.get(type(error), f"it answers {type(error).__name__}")) from None
    finally:
        _slots.release()


def _spoken(connection: int) -> LDAPObject:
    """LDAP over the connection. Each option that ldap.conf could set otherwise and that counts here is set."""
    speaking = ldap.initialize("ldap://", fileno=connection)
    speaking.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    speaking.set_option(ldap.OPT_REFERRALS, ldap.OPT_OFF)
    speaking.set_option(ldap.OPT_DEREF, ldap.DEREF_NEVER)
    speaking.set_option(ldap.OPT_TIMEOUT, WHOLE)
    speaking.timeout = WHOLE
    return speaking


Entry = tuple[str, dict[str, list[bytes]]]  # its name, and attributes by their lower-case names


def _entry(speaking: LDAPObject, directory: Directory, name: str) -> Entry | None:
    """The one entry of that login. Raises Unavailable when there are two: which of them somebody is must not be for chance."""
    asked = f"(&{directory.filter}({directory.login}={escape_filter_chars(name)}))"
    wanted = [directory.login, _MEMBER_OF, *([] if directory.identifier == DN else [directory.identifier])]
    found = _found(speaking, directory.base, asked, wanted, most=2)
    if len(found) > 1:
        raise Unavailable(
            f"these entries have the same {directory.login}, so filter has to tell them apart: {found[0][0]} and {found[1][0]}"
        )
    return found[0] if found and _is_called(found[0], directory, name) else None


def _found(speaking: LDAPObject, base: str, asked: str, wanted: list[str], most: int) -> list[Entry]:
    """What a search below `base` finds, references to other directories left out."""
    answer: list[tuple[str | None, Any]] = speaking.search_ext_s(base, ldap.SCOPE_SUBTREE, asked, wanted, sizelimit=most)
    return [(name, {kind.lower(): values for kind, values in found.items()}) for name, found in answer if name is not None]


def _is_called(entry: Entry, directory: Directory, name: str) -> bool:
    """Whether the entry is where it was searched for and has the very name that was typed: a directory's own idea of equal is wider,
    and guesses are counted by what was typed."""
    name_of_entry, attributes = entry
    logins = [value.decode(errors="replace").lower() for value in attributes.get(directory.login.lower(), [])]
    return is_below(normal(name_of_entry), normal(directory.base)) and name.lower() in logins


def _person(speaking: LDAPObject, directory: Directory, entry: str, attributes: Mapping[str, list[bytes]]) -> Person:
    login = attributes[directory.login.lower()][0].decode(errors="replace")
    issuer = f"ldap:{directory.name}:{directory.identifier.lower()}"
    if directory.group_base:
        groups = _groups(speaking, directory, login if directory.group_member.lower() == "memberuid" else entry)
    else:
        groups = [value.decode(errors="replace") for value in attributes.get(_MEMBER_OF.lower(), [])[:MAX_GROUPS]]
    return Person(issuer, _subject(directory, entry, attributes), login, [normal(group) for group in groups])


def _subject(directory: Directory, entry: str, attributes: Mapping[str, list[bytes]]) -> str:
    values = [normal(entry).encode()] if directory.identifier == DN else attributes.get(directory.identifier.lower(), [])
    subject = _as_text(values[0]) if len(values) == 1 else ""
    if not 0 < len(subject) <= MAX_SUBJECT:
        raise Unavailable(f"{entry} has no single {directory.identifier} of up to {MAX_SUBJECT} characters, or bind_dn may not read it")
    return subject


def _as_text(value: bytes) -> str:
    """An identifier that is no text, such as objectGUID, is written in hex."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


def _groups(speaking: LDAPObject, directory: Directory, member: str) -> list[str]:
    asked = f"({directory.group_member}={escape_filter_chars(member)})"
    return [name for name, _ in _found(speaking, directory.group_base, asked, [_NO_ATTRIBUTES], most=MAX_GROUPS)]


def _opens(speaking: LDAPObject, entry: str, password: str) -> bool:
    """Whether the directory takes the password for that entry's."""
    try:
        speaking.simple_bind_s(entry, password)
    except _REFUSALS:
        return False
    return True
