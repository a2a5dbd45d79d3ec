"""Every page in a real browser: in light and dark, narrow and wide, read by axe, under its strict policy, and without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from .conftest import AXE, Seen, Site, context

NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1440, "height": 900}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
SERIOUS = ("serious", "critical")

pytestmark = pytest.mark.django_db


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found


def findings(page: Page) -> list[str]:
    """What axe finds serious: rule and place."""
    result: dict[str, Any] = page.evaluate(
        "axe.run(document, {preload: false, resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
    )
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in result["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def wrongs(page: Page, name: str, path: str) -> Iterator[str]:
    """What is wrong with a page, narrow and dark or wide and light."""
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == (400 if name == "wrong question" else 200), name
    page.evaluate(AXE)
    for size, scheme in ((WIDE, "light"), (NARROW, "dark")):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        yield from (f"{name}, {scheme}, {size['width']} px: {found}" for found in findings(page))
        if overflow(page) > 0:
            yield f"{name} is wider than {size['width']} px"


def test_every_page(site: Site, seen: Seen) -> None:
    wrong = [each for name, path in site.pages.items() for each in wrongs(seen.page, name, path)]
    seen.complaints[:] = [text for text in seen.complaints if "status of 400" not in text]
    assert wrong == []


def test_the_admin(site: Site, seen: Seen) -> None:
    wrong = [each for name, path in site.admin.items() for each in wrongs(seen.page, name, path)]
    assert [each for each in wrong if "label-title-only" not in each] == [], "the one label that is a picture is Django's"


def test_every_page_without_javascript(site: Site, chromium: Browser) -> None:
    with context(chromium, site, java_script_enabled=False) as visitor:
        page = visitor.new_page()
        for name, path in site.pages.items():
            page.goto(path)
            assert page.locator("h1").count() == 1, name
            assert page.locator("nav a[aria-current=page]").count() == 1, name
        page.goto(site.pages["certificate"])
        page.get_by_role("link", name="Ask OCSP and CRL").click()
        assert page.locator("#status dt").all_inner_texts() == ["OCSP", "CRL"]


def test_a_script_that_came_with_a_page_would_not_run(site: Site, seen: Seen) -> None:
    """So that silence means something: the policy is in force, and what it refuses is heard."""
    seen.page.goto(site.pages["overview"])
    seen.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = true'}))")
    assert seen.page.evaluate("window.ran") is None
    assert len(seen.complaints) == 1
    assert "Content Security Policy" in seen.complaints.pop()
