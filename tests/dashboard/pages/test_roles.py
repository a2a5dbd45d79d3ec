"""Every address × every role, as docs/roles.md says: the addresses are asked of Django, so that none is forgotten."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import URLResolver, get_resolver

from ca import mass_replacement
from ca.models import Approval, Certificate, Issuer, Token
from ca.selections import Selection
from dashboard.models import Contact, Reminder
from dashboard.roles import APART, ROLES, Right, Role, rights_of
from eventlog.models import Event

pytestmark = [pytest.mark.django_db, pytest.mark.unjudged("fills tables by hand")]
DOCUMENT = (Path(__file__).parents[3] / "docs" / "roles.md").read_text()
ROW = re.compile(r"^\| `(/\S*)` \| ([a-z, -]+) \| (own)? ?\|$", re.MULTILINE)
SAME_FOR_ALL = {"anybody", "token", "link"}
SIGNED_IN_OR_OUT = {"/dashboard/login/", "/admin/logout/"}  # for anybody, who is led elsewhere if it is the wrong moment
_PARAMETER = re.compile(r"\(\?P<(\w+)>(?:[^()]|\([^()]*\))*\)|<(?:\w+:)?(\w+)>")


class Rule(NamedTuple):
    opened_by: frozenset[str]
    is_own: bool

    def opened_by_one(self) -> list[Role]:
        """A role that opens it, if one does."""
        return [role for role, opens in ROLES.items() if opens & self.opened_by][:1]


RULES = {address: Rule(frozenset(by.split(", ")), bool(own)) for address, by, own in ROW.findall(DOCUMENT)}


def addresses(resolver: Any = None, prefix: str = "/") -> Iterator[str]:
    """Every address of the resolver, as the document writes them."""
    for entry in (resolver or get_resolver()).url_patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from addresses(entry, here)
        else:
            named = _PARAMETER.sub(lambda match: f"<{match[1] or match[2]}>", here)
            yield named.replace("^", "").replace("\\Z", "").replace("$", "").replace("\\.", ".")


def rule(address: str) -> Rule | None:
    """A row of its own, else the one of every model of the admin."""
    general = re.sub(r"^/admin/[a-z_]+/[a-z_]+/", "/admin/*/*/", address)
    return RULES.get(address) or RULES.get(general)


def test_every_address_has_a_row_and_every_row_an_address() -> None:
    known = set(addresses())
    assert {address for address in known if rule(address) is None} == set()
    general = {re.sub(r"^/admin/[a-z_]+/[a-z_]+/", "/admin/*/*/", address) for address in known}
    assert RULES.keys() - known - general == set()
    words = {word for each in RULES.values() for word in each.opened_by}
    assert words <= {*Right, *SAME_FOR_ALL, "nobody", "account"}


def test_the_table_of_rights_is_that_of_the_code() -> None:
    header, *rows = [line.strip("|").split("|") for line in DOCUMENT.split("\n\n")[2].splitlines()]
    roles = [cell.strip() for cell in header[1:]]
    assert roles == list(Role)
    told = {
        (role, re.split("[: ]", cells[0].strip())[0])
        for cells in rows[1:]
        for role, cell in zip(roles, cells[1:], strict=True)
        if "●" in cell
    }
    assert told == {(role.value, right.value) for role, opens in ROLES.items() for right in opens}


def test_no_role_both_approves_and_changes_policy() -> None:
    for opens in ROLES.values():
        assert not (Right.APPROVE in opens and opens & {Right.CHANGE_POLICY, Right.MANAGE_ACCOUNTS})
    assert not rights_of(APART) & {Right.APPROVE, Right.CHANGE_POLICY, Right.MANAGE_ACCOUNTS}
    assert rights_of(["nonsense", "staff"]) == frozenset()


@pytest.fixture
def samples(fleet: list[Certificate], staff: Client, now: datetime) -> dict[str, str]:
    """What stands for each parameter: things of the owner alice, where they have one."""
    order = mass_replacement.order(Selection(service="ledger"), now + timedelta(days=2), "superseded", "a drill", "sam", now)
    values = {
        "serial": fleet[3].serial, "form": "pem", "request_id": str(fleet[3].request), "name": "issuing-1", "position": "1",
        "fingerprint": Issuer.objects.get(name="root").fingerprint, "path": "x", "issuer": "issuing-1", "shard": "0", "token": "x",
        "app_label": "ca", "pk": "1",
        "url": "nonsense", "content_type_id": "1", "object_id": "1", "key": str(User.objects.order_by("id")[0].pk),
        "service": "ledger", "order": order,
    }  # fmt: skip
    objects = {
        "certificate": fleet[3].serial, "request": fleet[3].request, "issuer": "root", "event": 1,
        "token": Token.objects.filter(owner="alice").values_list("id", flat=True)[0], "user": values["key"],
        "contact": Contact.objects.create(scope="owner", name="alice", address="a@example.org").pk,
        "reminder": Reminder.objects.create(serial=fleet[3].serial, threshold="expired", recipient="x", due_at=now).pk,
        "replacement": mass_replacement.order(Selection(service="ledger"), now + timedelta(days=2), "superseded", "a drill", "olga", now),
        "approval": Approval.objects.create(request=fleet[3].request, asked=b"", cause="token", by="", why="", position=1).request,
    }  # fmt: skip
    return values | {f"object_id of {model}": str(key) for model, key in objects.items()}


def filled(address: str, samples: dict[str, str]) -> str:
    model = re.match(r"/admin/[a-z_]+/([a-z_]+)/<object_id>", address)
    own = samples.get(f"object_id of {model[1]}") if model else None
    return re.sub(r"<(\w+)>", lambda match: own if own and match[1] == "object_id" else samples[match[1]], address)


def is_denied(answer: HttpResponse) -> bool:
    if answer.status_code == 302:
        return "/login/" in answer["Location"] or answer["Location"] == "/dashboard/account/"
    return answer.status_code in (401, 403, 404)


def outcome(client: Client, path: str) -> tuple[int, bool]:
    answer = client.get(path)
    return answer.status_code, is_denied(answer)


def test_every_address_for_every_role(samples: dict[str, str], account: Callable[..., Client], settings: Any) -> None:
    visitors = {role: account(role, owners=["alice"]) for role in Role}
    stranger, nobody, signed_out = account(Role.REQUESTER, owners=["bob"]), account(), Client()
    wrong, events = [], Event.objects.count()
    for address in addresses():
        path, found = filled(address, samples), rule(address)
        assert found is not None
        if found.opened_by & SAME_FOR_ALL:
            expected = outcome(signed_out, path)[0]
            answers = {role: outcome(visitor, path)[0] for role, visitor in visitors.items()}
            wrong += [(address, role, got) for role, got in answers.items() if got != expected and address not in SIGNED_IN_OR_OUT]
            continue
        if "account" in found.opened_by:
            wrong += [] if is_denied(signed_out.get(path)) else [(address, "signed out", 0)]
            wrong += [
                (address, role, got) for role, visitor in visitors.items() if (got := outcome(visitor, path)[0]) not in (200, 302, 404)
            ]
            continue
        for role, visitor in visitors.items():
            status, denied = outcome(visitor, path)
            opens = bool(ROLES[role] & found.opened_by)
            if denied == opens or status >= 500 or status == 400:
                wrong.append((address, role, status))
            elif not opens and not is_denied(answer := visitor.post(path)) and answer.status_code != 405:
                wrong.append((address, f"POST by {role}", answer.status_code))
        wrong += [(address, "nobody", 0) for visitor in (nobody, signed_out) if not outcome(visitor, path)[1]]
        settings.SECOND_FACTOR = frozenset(Role)
        wrong += [(address, f"{role} by half", 0) for role in found.opened_by_one() if not outcome(visitors[role], path)[1]]
        settings.SECOND_FACTOR = frozenset()
        if found.is_own and "<" in address:
            wrong += [] if outcome(stranger, path)[0] == 404 else [(address, "a stranger", 0)]
    assert wrong == []
    assert Event.objects.count() == events, "a look changed something"


def test_lists_show_a_requester_its_own_only(samples: dict[str, str], account: Callable[..., Client]) -> None:
    serial, request, token = samples["serial"], samples["request_id"], samples["object_id of token"]
    own, many, stranger = (account(Role.REQUESTER, owners=owners) for owners in (["alice"], ["alice", "carol"], ["bob"]))
    for path, telling in (
        ("certificates/", serial), ("certificates.csv", serial), ("certificates.json", serial), ("certificates/?owner=alice", serial),
        ("certificates/?q=c.internal", serial), ("certificates/?service=ledger", serial), ("certificates.csv?owner=alice", serial),
        ("requests/", request), ("tokens/", token), ("tokens/?owner=alice", token),
    ):  # fmt: skip
        assert telling in content(own, path), path
        assert telling in content(many, path), path
        assert telling not in content(stranger, path), path
    assert own.get("/dashboard/")["Location"] == "/dashboard/certificates/"


def content(client: Client, path: str) -> str:
    answer = client.get(f"/dashboard/{path}")
    assert answer.status_code == 200, path
    return b"".join(answer.streaming_content if answer.streaming else [answer.content]).decode()  # type: ignore[arg-type]


def test_neither_superusers_nor_staff_are_anything(samples: dict[str, str]) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    for path in ("/dashboard/", "/admin/", "/admin/ca/certificate/", "/admin/ca/token/create/", "/admin/auth/user/"):
        assert is_denied(client.get(path)), path


def test_a_role_that_was_taken_away_is_gone_at_the_next_click(account: Callable[..., Client]) -> None:
    client = account(Role.AUDITOR)
    assert client.get("/dashboard/log/").status_code == 200
    User.objects.get(username="auditor").groups.clear()
    assert client.get("/dashboard/log/").status_code == 403
