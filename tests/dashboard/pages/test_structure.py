"""What a keyboard, a screen reader, a strict policy and a small database need of every page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from ca.models import Certificate

from ..support import Issue
from .conftest import settle

pytestmark = pytest.mark.django_db
VOID = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
    "line",
    "rect",
    "path",
    "circle",
}
LARGEST, MOST_QUERIES = 100_000, 15


class Page(HTMLParser):
    """A page's elements: [(tag, attributes)], with what is wrong with their nesting, and each element's text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.scripts = self.title = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts += data
        if self.open == ["html", "head", "title"]:
            self.title += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def pages(staff: Client, paths: list[str]) -> list[tuple[str, Page]]:
    return [(path, Page(staff.get(path).content.decode())) for path in paths]


def test_well_formed_with_unique_ids(every_page: list[str], staff: Client) -> None:
    for path, page in pages(staff, every_page):
        assert (page.wrong, page.open) == ([], []), path
        ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
        assert [name for name, count in ids.items() if count > 1] == [], path


def test_language_title_one_heading_and_a_way_past_the_navigation(every_page: list[str], staff: Client) -> None:
    for path, page in pages(staff, every_page):
        assert page.all("html")[0]["lang"] == "en", path
        assert len(page.all("main")) == len(page.all("h1")) == 1, path
        assert page.title.endswith(" · Quicklime"), path
        first_link = page.all("a")[0]
        assert first_link["href"] == f"#{page.all('main')[0]['id']}", path


def test_the_navigation_says_where_one_is(every_page: list[str], staff: Client) -> None:
    for path, page in pages(staff, every_page[:-1]):
        current = [each["href"] for each in page.all("a") if each.get("aria-current") == "page"]
        assert len(current) == 1, path
        assert path.startswith(current[0] or "nowhere"), path


def test_tables_are_tables(every_page: list[str], staff: Client) -> None:
    for path, page in pages(staff, every_page):
        assert len(page.all("table")) == len(page.all("caption")), path
        assert all(cell.get("scope") for cell in page.all("th")), path


def test_every_field_has_a_label_and_every_picture_a_text(every_page: list[str], staff: Client) -> None:
    for path, page in pages(staff, every_page):
        labelled = {each["for"] for each in page.all("label")}
        shown = [each for each in page.all("input", "select", "textarea") if each.get("type") != "hidden"]
        assert {each["id"] for each in shown} == labelled, path
        assert all("alt" in each for each in page.all("img")), path
        assert all(each.get("aria-label") for each in page.all("svg")), path


def test_nothing_that_a_strict_policy_forbids(every_page: list[str], staff: Client) -> None:
    for path in every_page:
        answer = staff.get(path)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        page = Page(answer.content.decode())
        assert page.scripts.strip() == "", path
        assert page.all("style") == [], path
        assert [name for _, attributes in page.elements for name in attributes if name == "style" or name.startswith(("on", "hx-on"))] == []
        assert [each for each in page.all("script", "link", "img") if (each.get("src") or each.get("href") or "")[:1] != "/"] == [], path


def test_pages_stay_small_and_ask_little(every_page: list[str], staff: Client, queries: Callable[[Client, str], int]) -> None:
    for path in every_page:
        if "nonsense" not in path:
            assert queries(staff, path) <= MOST_QUERIES, path
            assert len(staff.get(path).content) < LARGEST, path


def test_more_rows_are_not_more_queries(
    fleet: list[Certificate], issue: Issue, staff: Client, queries: Callable[[Client, str], int]
) -> None:
    paths = [f"/dashboard/{page}" for page in ("", "certificates/", "requests/", "issuers/", "log/", "tokens/")]
    few = [queries(staff, path) for path in paths]
    for number in range(5):
        issue(f"more{number}.internal", node=f"m{number}")
    settle()
    assert [queries(staff, path) for path in paths] == few


def test_no_page_counts_certificates(fleet: list[Certificate], staff: Client, django_assert_max_num_queries: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        for page in (
            "",
            "certificates/",
            "certificates/?status=active",
            "requests/",
            "log/",
            "tokens/",
            f"certificates/{fleet[0].serial}/",
        ):
            staff.get(f"/dashboard/{page}")
    assert [each["sql"] for each in captured if re.search(r"COUNT\(", each["sql"])] == []
