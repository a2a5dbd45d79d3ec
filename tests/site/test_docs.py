"""The documents say what is so: the settings' table is env.VARIABLES, decisions are short, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quicklime_site import env, schedule

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def settings_table() -> str:
    """The table as it belongs into docs/settings.md; also what to paste there after a change."""
    rows = [f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.help} |" for each in env.VARIABLES]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows, ""])


def test_the_settings_table_is_the_list_of_variables() -> None:
    assert settings_table() in (ROOT / "docs/settings.md").read_text(), f"docs/settings.md should hold:\n{settings_table()}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda path: path.name)
def test_a_decision_is_short_and_numbered(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 30
    assert re.fullmatch(r"[0-9]{4}-[a-z0-9-]+\.md", path.name)
    assert lines[0].startswith(f"# {path.name[:4]} ")


def test_no_two_decisions_share_a_number() -> None:
    numbers = [path.name[:4] for path in ROOT.glob("docs/decisions/*.md")]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_operations_guide_gives_the_workers_queues_in_their_order() -> None:
    assert f"-Q {','.join(schedule.QUEUES)} " in (ROOT / "docs/operations.md").read_text()
