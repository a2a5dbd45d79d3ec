"""Who is told about a certificate: contacts of its service, of its token, of its owner, or the default ones.

Owns Contact. The first of these that has somebody left to tell is asked, so that whoever unsubscribed silences nobody else. Addresses
are personal data and stay in this table; the log gets a keyed hash of them. Must never take an address from a request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from django.conf import settings
from django.db import transaction
from django.utils.crypto import salted_hmac

from .addresses import checked
from .flagged import Flagged
from .models import Contact, Scope, Unsubscribed

Addresses = Sequence[str]


def replace(scope: Scope, name: str, addresses: Iterable[str]) -> None:
    """From now on the contacts of `name` are `addresses`, and no others. Raises ValueError for what is no address."""
    kept = dict.fromkeys(checked(address) for address in addresses)
    with transaction.atomic():
        Contact.objects.filter(scope=scope, name=name).delete()
        Contact.objects.bulk_create([Contact(scope=scope, name=name, address=address) for address in kept])


def resubscribe(address: str) -> bool:
    """Tell `address` again although it unsubscribed; whether it had."""
    deleted, _ = Unsubscribed.objects.filter(recipient_hash=hash_of(checked(address))).delete()
    return bool(deleted)


def hash_of(recipient: str) -> str:
    """Hex HMAC-SHA-256 of a recipient under SECRET_KEY: who reads the log cannot try addresses."""
    return salted_hmac("quicklime.reminders.recipient", recipient, algorithm="sha256").hexdigest()


def of(flagged: Collection[Flagged]) -> dict[str, Addresses]:
    """Serial → addresses to tell, none twice."""
    gone = set(Unsubscribed.objects.values_list("recipient_hash", flat=True))
    listed = _listed({(scope, name(each)) for each in flagged for scope, name in _NAMES.items()})
    listed[Scope.DEFAULT, ""] = listed.get((Scope.DEFAULT, ""), []) or list(settings.MAIL_TO)
    wanted = {key: [address for address in found if hash_of(address) not in gone] for key, found in listed.items()}
    return {each.serial: _first(each, wanted) for each in flagged}


_NAMES: Mapping[Scope, Callable[[Flagged], str]] = {
    Scope.SERVICE: lambda each: each.service,
    Scope.TOKEN: lambda each: each.token,
    Scope.OWNER: lambda each: each.owner,
    Scope.DEFAULT: lambda each: "",
}


def _first(each: Flagged, wanted: Mapping[tuple[Scope, str], Addresses]) -> Addresses:
    levels = (wanted.get((scope, name(each)), []) for scope, name in _NAMES.items())
    return next((found for found in levels if found), [])


def _listed(keys: Collection[tuple[Scope, str]]) -> dict[tuple[Scope, str], list[str]]:
    found: dict[tuple[Scope, str], list[str]] = {}
    names = {name for _, name in keys}
    for scope, name, address in Contact.objects.filter(name__in=names).order_by("id").values_list("scope", "name", "address"):
        found.setdefault((Scope(scope), name), []).append(address)
    return found
