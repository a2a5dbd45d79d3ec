"""What an operator comes for, from the first page to its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from .conftest import PASSWORD, Seen, Site, context

pytestmark = pytest.mark.django_db


def test_signing_in_and_finding_what_wants_attention(site: Site, chromium: Browser) -> None:
    with chromium.new_context(base_url=site.url) as visitor:
        page = visitor.new_page()
        page.goto("/")
        page.fill("input[autocomplete=username]", "olga")
        page.fill("input[type=password]", PASSWORD)
        page.keyboard.press("Enter")
        row = page.locator("section", has_text="Wants attention").locator("tbody tr").first
        name = row.locator("th").inner_text()
        row.locator("th a").click()
        expect(page.locator("h1")).to_have_text(name)
        assert page.locator("ol.steps li").count() == 4
        assert page.locator("ol.steps .standing.good").count() == 4
        page.locator("section", has_text="Related events").locator("td.number a").last.click()
        expect(page.locator("h1")).to_contain_text("Event")


def test_a_node_that_was_left_behind_and_how_it_stood_before(site: Site, seen: Seen) -> None:
    page = seen.page
    page.goto("/dashboard/")
    page.get_by_role("link", name="Services", exact=True).click()
    page.locator("section", has_text="Left behind").locator("tbody tr").first.locator("td a").first.click()
    expect(page.locator(".head .standing")).to_contain_text("left behind")
    assert page.locator("ol.cells a.left_behind, ol.cells a.expired").count()
    page.fill("#at", "2020-01-01T00:00:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".empty")).to_contain_text("The first one came later")


def test_a_certificate_found_by_its_name_with_its_status_and_file(site: Site, seen: Seen) -> None:
    page = seen.page
    page.goto("/dashboard/certificates/")
    page.fill("#q", "payroll-api-1")
    page.keyboard.press("Enter")
    page.locator("table.list tbody th a").first.click()
    expect(page.locator("#status dt").first).to_have_text("OCSP")
    with page.expect_download() as download:
        page.get_by_role("link", name="Chain").click()
    assert Path(download.value.path()).read_text().count("BEGIN CERTIFICATE") == 2


def test_the_log_of_today_continues_a_checkpoint_that_was_kept(site: Site, seen: Seen, tmp_path: Path) -> None:
    page = seen.page
    page.goto("/dashboard/log/consistency/")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save").click()
    download.value.save_as(tmp_path / "checkpoint.txt")
    page.set_input_files("#file", tmp_path / "checkpoint.txt")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="It is", exact=True)).to_be_visible()


def test_the_log_is_followed(site: Site, chromium: Browser) -> None:
    """What comes anew leaves the reader where they were; what does not come is said; who is signed out meanwhile is asked to sign in."""
    with context(chromium, site, viewport={"width": 360, "height": 740}, reduced_motion="reduce") as visitor:
        page = visitor.new_page()
        page.goto("/dashboard/log/")
        page.get_by_role("link", name="Follow live").click()
        expect(page.locator("caption")).to_contain_text("following")
        link = page.locator("#rows tbody a").nth(2)
        link.focus()
        page.evaluate("document.querySelector('#rows').dataset.old = 'yes'; document.querySelector('#rows .scroll').scrollLeft = 90")
        page.wait_for_selector("#rows:not([data-old])")
        assert page.evaluate("document.querySelector('#rows .scroll').scrollLeft") == 90
        expect(page.locator("#rows tbody a").nth(2)).to_be_focused()
        page.route("**/dashboard/log/**", lambda route: route.abort())
        expect(page.locator("#silence")).to_be_visible()
        page.unroute("**/dashboard/log/**")
        expect(page.locator("#silence")).to_be_hidden()
        visitor.clear_cookies()
        page.wait_for_url("**/dashboard/login/?next=/dashboard/log/**")
        assert page.locator("main").count() == 1


def test_a_certificate_is_revoked_for_a_reason(site: Site, seen: Seen) -> None:
    page = seen.page
    page.goto("/dashboard/certificates/?q=catalog-api&status=active")
    page.locator("table.list tbody th a").first.click()
    address = page.url
    page.get_by_role("link", name="Revoke…").click()
    expect(page.locator("#content caption")).to_have_text("1 certificate")
    expect(page.locator("#content")).to_contain_text("there is no way back")
    page.select_option("select[name=reason]", "keyCompromise")
    page.get_by_role("button", name="Revoke 1").click()
    assert page.locator("input[name=why]:invalid").count() == 1, "nothing is done without saying why"
    page.fill("input[name=why]", "found in a repository")
    page.get_by_role("button", name="Revoke 1").click()
    expect(page.locator(".messagelist")).to_contain_text("1 revoked")
    page.goto(address)
    expect(page.locator(".notice.bad")).to_contain_text("for keyCompromise")
    expect(page.locator("section", has_text="Related events")).to_contain_text("certificate.revoked")
    page.goto("/dashboard/log/?type=revocation.ordered")
    expect(page.locator("table.list tbody tr").first).to_contain_text("olga · found in a repository")


def test_what_waits_is_looked_at_and_approved(site: Site, chromium: Browser) -> None:
    with context(chromium, site, "grace") as visitor:
        page = visitor.new_page()
        page.goto("/dashboard/requests/")
        page.get_by_role("link", name="see what").click()
        page.locator("section", has_text="Waiting").locator("tbody tr").first.locator("th a").click()
        expect(page.locator("main")).to_contain_text("Every rule is kept")
        page.fill("[name=why]", "change 4712")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("heading", name="Request", exact=True)).to_be_visible()
        expect(page.locator("section", has_text="Events")).to_contain_text("approval.granted")


def test_a_token_is_shown_once_and_revoked(site: Site, chromium: Browser) -> None:
    with context(chromium, site, "ada") as visitor:
        page = visitor.new_page()
        page.goto("/dashboard/tokens/")
        page.get_by_role("link", name="Create a token…").click()
        page.fill("input[name=owner]", "team-web")
        page.fill("input[name=label]", "blue-green deploys")
        page.get_by_role("button", name="Create it").click()
        secret = page.locator("code.secret").inner_text()
        assert secret.startswith("ql_")
        page.goto("/dashboard/tokens/")
        assert secret not in page.content()
        row = page.locator("tr", has_text="blue-green deploys")
        row.get_by_role("link", name="Revoke…").click()
        page.fill("input[name=why]", "no longer used")
        page.get_by_role("button", name="Revoke 1").click()
        page.goto("/dashboard/tokens/")
        expect(row).to_contain_text("revoked")


def test_a_drill_is_shown_before_it_is_ordered(site: Site, seen: Seen) -> None:
    page = seen.page
    page.goto("/dashboard/drills/")
    before = page.locator("table.list tbody tr").count()
    page.get_by_role("link", name="Start a drill…").click()
    page.fill("input[name=service]", "catalog-api")
    page.fill("input[name=why]", "before the audit")
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator("#content caption")).to_have_text("By service and profile")
    page.get_by_role("button", name="Order it").click()
    expect(page.locator(".messagelist")).to_contain_text("nodes learn of it when they check in")
    page.goto("/dashboard/drills/")
    assert page.locator("table.list tbody tr").count() == before + 1
    expect(page.locator("table.list tbody tr").first).to_contain_text("before the audit")


def test_a_keyboard_is_enough(site: Site, seen: Seen) -> None:
    page = seen.page
    page.goto("/dashboard/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null"), "the navigation was skipped"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "where one is can be seen"
