"""The files that settings name: JSON, read when a process starts, of which every text, list and object has to be as a rule wants it.

Owns how they are read and what is said of those that are wrong. Pure. What is wrong stops the start, and nothing is passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

Rule = tuple[Callable[[str], Any], str]  # whether a text fits, by what it answers or by ValueError; and what would
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
NAME: Rule = (_NAME.fullmatch, "up to 32 lower-case letters, digits and '-'")
FILE: Rule = (lambda text: text.startswith("/"), "a file's absolute path")
OPTIONAL_FILE: Rule = (lambda text: text[:1] in ("", "/"), "a file's absolute path")
FILLED: Rule = (bool, "not empty")


def parsed(text: str) -> Any:
    """The JSON that `text` is. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=once)
    except ValueError as error:
        raise ValueError(f"it is no JSON: {error}") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: two readers must not see two things in one object (RFC 8725 §2.4). Raises ValueError."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a member is there twice")
    return dict(pairs)


def typed(value: Any, kind: type, where: str, words: str) -> Any:
    """`value`, if it is of that kind. Raises ValueError that says where."""
    if not isinstance(value, kind):
        raise ValueError(f"{where or 'the whole'}: give {words}")
    return value


def members(value: Any, where: str, needed: Collection[str], optional: Collection[str]) -> dict[str, Any]:
    """`value`, if it is an object of these members and no others. Raises ValueError that says where."""
    found: dict[str, Any] = typed(value, dict, where, f"an object with {', '.join(needed)}")
    missing, unknown = [name for name in needed if name not in found], sorted(set(found) - {*needed, *optional})
    if missing or unknown:
        what = f"{', '.join(missing)} missing" if missing else f"{', '.join(map(ascii, unknown))} not known"
        raise ValueError(f"{where or 'the whole'}: {what}; it has {', '.join(needed)}, and may have {', '.join(optional)}")
    return found


def text_at(value: Any, where: str, rule: Rule) -> str:
    """`value`, if it is a text that fits. Raises ValueError that says where."""
    fits, words = rule
    if not isinstance(value, str) or not _passes(fits, value):
        raise ValueError(f"{where}: {value!r:.100} is not as it should be: {words}")
    return value


def _passes(fits: Callable[[str], Any], text: str) -> bool:
    try:
        return bool(fits(text))
    except ValueError:
        return False


def list_at(value: Any, where: str, rule: Rule) -> tuple[str, ...]:
    """`value`, if it is a list of texts that fit. Raises ValueError that says where."""
    return tuple(text_at(each, f"{where}[{index}]", rule) for index, each in enumerate(typed(value, list, where, f"a list: {rule[1]}")))


def lists(value: Any, where: str, rule: Rule, words: str) -> dict[str, tuple[str, ...]]:
    """`value`, if it is an object whose members are lists of texts that fit. Raises ValueError that says where."""
    return {name: list_at(each, f"{where}.{name}", rule) for name, each in typed(value, dict, where, words).items()}
