"""What the files that say how people sign in by another system have in common: secrets, and groups with their roles.

Owns how these are read; the rest is ca.setting_files'. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ca import setting_files
from ca.setting_files import Rule, lists, text_at

ROLES = ("requester", "approver", "operator", "auditor", "administrator")  # dashboard.roles.Role, which needs Django and settings
TITLE: Rule = (lambda text: 0 < len(text) <= 40 and text.isprintable(), "up to 40 characters, for the page of the sign-in")


def members(text: str, needed: Collection[str], optional: Collection[str]) -> dict[str, Any]:
    """The JSON object that `text` is, of these members and no others. Raises ValueError."""
    return setting_files.members(setting_files.parsed(text), "", needed, optional)


def texts(found: Mapping[str, Any], rules: Mapping[str, Rule], defaults: Mapping[str, str]) -> dict[str, str]:
    """Those that `rules` name. Raises ValueError that says where."""
    return {name: text_at(found.get(name, defaults.get(name, "")), name, rule) for name, rule in rules.items()}


def roles(found: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Group → the roles of its members. Raises ValueError that says where."""
    rule = ROLES.__contains__, f"of {', '.join(ROLES)}"
    return lists(found["roles"], "roles", rule, f"an object, group → list {rule[1]}")


def owners(found: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Group → the owners for whom its members speak. Raises ValueError that says where."""
    return lists(found.get("owners", {}), "owners", (bool, "owners' names"), "an object, group → list owners' names")


def secret(path: str, where: str) -> str:
    """What is in the file. Raises ValueError that says where."""
    try:
        text = Path(path).read_text().strip()
    except OSError as error:
        raise ValueError(f"{where}: it cannot be read: {error.strerror}") from None
    if not text:
        raise ValueError(f"{where}: it is empty")
    return text
